import Configuration
import FlotillaCoordination
package import FlotillaEnvironment
import NIOCore
import Synchronization

/// Reads the settings: flags before the environment before the file before the defaults.
package struct SettingsReader {
    /// What the command line says, by setting.
    package var flags: [(name: String, value: String)] = []
    /// The process's environment.
    package var environment: [String: String] = [:]
    /// The file, found by `ConfigFile.find`; nil for none.
    package var path: String?

    private let disk: any Disk

    /// Reads files from `disk`.
    package init(disk: any Disk) {
        self.disk = disk
    }

    /// Reads and checks everything.
    ///
    /// - Throws: all that is wrong, at once.
    package func read() throws(SettingsError) -> Settings {
        var problems: [SettingProblem] = []
        let file = readFile(&problems)
        checkNames(file, &problems)
        let lookup = Lookup(flags: flags, environment: environment, file: file, path: path)
        var values: [Settings.Value] = []
        var notes: [String] = []
        for definition in SettingTable.definitions {
            let value = resolve(definition, lookup, &problems)
            if value.source != .builtIn, let inertness = definition.inertness {
                notes.append("\(definition.name): \(inertness) (\(value.source))")
            }
            values.append(value)
        }
        guard problems.isEmpty else {
            throw SettingsError(problems: problems)
        }
        let settings = Settings(values, notes: notes)
        problems = Self.contradictions(in: settings)
        guard problems.isEmpty else {
            throw SettingsError(problems: problems)
        }
        return settings
    }

    private func readFile(_ problems: inout [SettingProblem]) -> TOMLProvider? {
        guard let path else {
            return nil
        }
        do {
            let file = try disk.open(path, .read)
            let content = try file.read(at: 0, count: Int(file.byteCount()))
            return try TOMLProvider(content: String(buffer: content), path: path)
        } catch let problem as SettingProblem {
            problems.append(problem)
        } catch {
            problems.append(.file(path: path, reason: "cannot be read: \(error)"))
        }
        return nil
    }

    /// Finds names that mean nothing.
    ///
    /// A variable of the environment is only refused when it is a slip of a known one: others put
    /// variables with our prefix there too (Kubernetes does for each service of that name).
    private func checkNames(_ file: TOMLProvider?, _ problems: inout [SettingProblem]) {
        for flag in flags {
            checkName(flag.name, .flag, &problems)
        }
        let variables = Set(SettingTable.definitions.map(\.variable))
        for variable in environment.keys.sorted()
        where variable.hasPrefix(SettingTable.variablePrefix) {
            guard !variables.contains(variable), let nearest = Self.slip(variable, of: variables)
            else {
                continue
            }
            problems.append(
                .unknown(name: variable, source: .environment(variable), nearest: nearest)
            )
        }
        guard let file, let path else {
            return
        }
        for name in file.values.keys.sorted() {
            checkName(name, .file(path), &problems)
        }
        for name in file.strangers {
            problems.append(
                .file(
                    path: path,
                    reason: "\(name) is neither text, number, true, false nor a list of these"
                )
            )
        }
    }

    private func checkName(
        _ name: String,
        _ source: SettingSource,
        _ problems: inout [SettingProblem]
    ) {
        if let better = SettingTable.renamed[name] {
            problems.append(.renamed(name: name, source: source, to: better))
        } else if SettingTable.definition(name) == nil {
            problems.append(
                .unknown(name: name, source: source, nearest: SettingTable.nearest(to: name))
            )
        }
    }

    private static func slip(_ variable: String, of variables: Set<String>) -> String? {
        guard variable.count <= 128 else {
            return nil
        }
        return variables.sorted().first { EditDistance.between($0, variable) <= 2 }
    }

    private func resolve(
        _ definition: SettingDefinition,
        _ lookup: Lookup,
        _ problems: inout [SettingProblem]
    ) -> Settings.Value {
        let (text, source) =
            lookup.value(of: definition) ?? (definition.defaultText ?? "", .builtIn)
        var value = Settings.Value(name: definition.name, text: text, source: source)
        // No default is no value: there is nothing to check.
        guard source != .builtIn || definition.defaultText != nil else {
            return value
        }
        do {
            value.text = try definition.canonical(text)
        } catch .invalid(let name, let wrong, let expected) {
            precondition(source != .builtIn, "\(name): the default is allowed")
            problems.append(
                .invalidAt(name: name, value: wrong, source: source, expected: expected)
            )
        } catch {
            problems.append(error)
        }
        return value
    }

    private static func contradictions(in settings: Settings) -> [SettingProblem] {
        var problems: [SettingProblem] = []
        if settings.journalLiveByteCount < 4 * settings.journalFileByteCount {
            problems.append(
                .contradiction("journal.live.bytes: must be at least four times journal.file.bytes")
            )
        }
        if settings.inFlightByteCount < settings.connectionLimits.maximumFrameByteCount {
            problems.append(
                .contradiction(
                    "queued.max.request.bytes: must be at least socket.request.max.bytes"
                )
            )
        }
        if !settings.joinList.isEmpty, settings.peerAddress == nil {
            problems.append(
                .contradiction(
                    "cluster.join: needs peer.listen as well, where the other brokers reach this one"
                )
            )
        }
        return problems
    }
}

/// The three sources in their order, read through one reader that tells which of them answered.
private struct Lookup {
    private let reader: Configuration.ConfigReader
    private let answers = AnswerRecorder()
    private let path: String?

    init(
        flags: [(name: String, value: String)],
        environment: [String: String],
        file: TOMLProvider?,
        path: String?
    ) {
        var flagValues: [AbsoluteConfigKey: ConfigValue] = [:]
        for flag in flags {
            let key = AbsoluteConfigKey(Self.components(of: flag.name))
            flagValues[key] = ConfigValue(.string(flag.value), isSecret: false)
        }
        var providers: [any ConfigProvider] = [
            InMemoryProvider(name: "flags", values: flagValues),
            EnvironmentVariablesProvider(environmentVariables: environment).prefixKeys(
                with: "flotilla"
            ),
        ]
        if let file {
            providers.append(file)
        }
        reader = Configuration.ConfigReader(providers: providers, accessReporter: answers)
        self.path = path
    }

    private static func components(of name: String) -> [String] {
        name.split(separator: ".").map { String($0) }
    }

    func value(of definition: SettingDefinition) -> (text: String, source: SettingSource)? {
        guard let text = reader.string(forKey: ConfigKey(Self.components(of: definition.name)))
        else {
            return nil
        }
        let source: SettingSource =
            switch answers.lastProvider {
            case 0: .flag
            case 1: .environment(definition.variable)
            default: .file(path ?? "")
            }
        return (text, source)
    }
}

/// Remembers which provider answered last.
private final class AnswerRecorder: AccessReporter {
    // Guards the number: the reporter must be Sendable, though only one thread reads settings.
    private let provider = Mutex(0)

    func report(_ event: AccessEvent) {
        let index = event.providerResults.firstIndex { answer in
            if case .success(let found) = answer.result { found.value != nil } else { false }
        }
        provider.withLock { $0 = index ?? 0 }
    }

    var lastProvider: Int {
        provider.withLock { $0 }
    }
}
