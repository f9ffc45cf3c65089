import Configuration
import TOMLKit

/// The configuration file as a provider of settings: every scalar as text, under its dotted path.
///
/// `[log] retention.ms = "7d"`, `log.retention.ms = "7d"` and `"log.retention.ms" = "7d"` are the
/// same setting. Lists become their elements, separated by commas.
struct TOMLProvider: ConfigProvider {
    /// The settings of the file by dotted path.
    let values: [String: String]
    /// Paths whose values are dates or tables in lists: no setting is of that kind.
    let strangers: [String]

    let providerName = "file"

    /// Reads a file's content.
    ///
    /// - Throws: `.file` when it is not TOML, with the line.
    init(content: String, path: String) throws(SettingProblem) {
        let table: TOMLTable
        do {
            table = try TOMLTable(string: content)
        } catch let error as TOMLParseError {
            let place = error.source.begin
            throw .file(
                path: path,
                reason: "line \(place.line), column \(place.column): \(error.description)"
            )
        } catch {
            throw .file(path: path, reason: "\(error)")
        }
        var flattened = Flattened()
        flattened.add(table, under: "")
        values = flattened.values
        strangers = flattened.strangers.sorted()
    }

    private struct Flattened {
        var values: [String: String] = [:]
        var strangers: [String] = []

        mutating func add(_ table: TOMLTable, under prefix: String) {
            for (name, value) in table {
                let path = prefix + name
                if let inner = value.table {
                    add(inner, under: path + ".")
                } else if let text = Self.text(of: value) {
                    values[path] = text
                } else {
                    strangers.append(path)
                }
            }
        }

        /// A value as it would stand in the environment.
        static func text(of value: any TOMLValueConvertible) -> String? {
            switch value.type {
            case .string: value.string
            case .int: value.int.map { String($0) }
            case .bool: value.bool.map { String($0) }
            case .double: value.double.map { String($0) }
            case .array: elements(of: value)?.joined(separator: ",")
            case .table, .date, .time, .dateTime: nil
            }
        }

        static func elements(of value: any TOMLValueConvertible) -> [String]? {
            guard let array = value.array else {
                return nil
            }
            var texts: [String] = []
            for element in array {
                guard let text = text(of: element) else {
                    return nil
                }
                texts.append(text)
            }
            return texts
        }
    }

    func value(forKey key: AbsoluteConfigKey, type: ConfigType) throws -> LookupResult {
        let path = key.components.joined(separator: ".")
        // Every setting is read as text and judged by its own definition.
        let value =
            type == .string ? values[path].map { ConfigValue(.string($0), isSecret: false) } : nil
        return LookupResult(encodedKey: path, value: value)
    }

    func fetchValue(forKey key: AbsoluteConfigKey, type: ConfigType) async throws -> LookupResult {
        try value(forKey: key, type: type)
    }

    nonisolated(nonsending) func watchValue<Return: ~Copyable>(
        forKey key: AbsoluteConfigKey,
        type: ConfigType,
        updatesHandler:
            nonisolated(nonsending) (
                ConfigUpdatesAsyncSequence<Result<LookupResult, any Error>, Never>
            ) async throws -> Return
    ) async throws -> Return {
        try await watchValueFromValue(forKey: key, type: type, updatesHandler: updatesHandler)
    }

    func snapshot() -> any ConfigSnapshot {
        Snapshot(provider: self)
    }

    nonisolated(nonsending) func watchSnapshot<Return: ~Copyable>(
        updatesHandler:
            nonisolated(nonsending) (ConfigUpdatesAsyncSequence<any ConfigSnapshot, Never>)
            async throws -> Return
    ) async throws -> Return {
        try await watchSnapshotFromSnapshot(updatesHandler: updatesHandler)
    }

    private struct Snapshot: ConfigSnapshot {
        let provider: TOMLProvider

        var providerName: String {
            provider.providerName
        }

        func value(forKey key: AbsoluteConfigKey, type: ConfigType) throws -> LookupResult {
            try provider.value(forKey: key, type: type)
        }
    }
}
