/// Whom a setting concerns, and so where its value lives.
package enum SettingScope: String, Hashable, Sendable {
    /// One broker: its file, environment or flags.
    case node
    /// All brokers: set here for a start, or for all of them while they run.
    case cluster
    /// Topics that do not say otherwise themselves.
    case topic
}

/// What a value must be.
package enum SettingKind: Hashable, Sendable {
    /// A number of bytes: `1048576` or `1MiB`.
    case bytes(ClosedRange<Int64>)
    /// A time: `604800000` milliseconds or `7d`.
    case duration(ClosedRange<Int64>)
    /// A whole number.
    case integer(ClosedRange<Int64>)
    /// A decimal number.
    case decimal
    /// `true` or `false`.
    case boolean
    /// One of these words.
    case word([String])
    /// An address: `host:port` or `:port`.
    case address
    /// Addresses separated by commas: `host:port`, `:port` or `PLAINTEXT://host:port`.
    case addresses
    /// An address, or `auto`.
    case addressOrAuto
    /// A level, and exceptions for components: `info` or `info,raft=debug`.
    case levels
    /// Any text.
    case text
}

/// One setting: its name, what it may be, its default, whom it concerns and what it is for.
package struct SettingDefinition: Sendable {
    /// The name: Kafka's where Kafka has one.
    ///
    /// The first part is the table of the file that it stands in.
    package let name: String
    /// What a value must be.
    package let kind: SettingKind
    /// The value without any setting, as people write it; nil where there is none.
    package let defaultText: String?
    /// Whom it concerns.
    package let scope: SettingScope
    /// Whether it can change while the broker runs (for the cluster, through Kafka's own tools).
    package let isLive: Bool
    /// What it is for.
    package let documentation: String
    /// Why it changes nothing here, if it does not.
    package let inertness: String?
    /// A value that a setting without a default might have, for the example; nil takes one of its kind.
    let sample: String?
    /// Checks and rewrites a value beyond its kind.
    let check: @Sendable (String) throws -> String

    init(
        _ name: String,
        _ kind: SettingKind,
        default defaultText: String?,
        scope: SettingScope = .node,
        isLive: Bool = false,
        inertness: String? = nil,
        sample: String? = nil,
        check: @escaping @Sendable (String) throws -> String = { $0 },
        _ documentation: String
    ) {
        self.name = name
        self.kind = kind
        self.defaultText = defaultText
        self.scope = scope
        self.isLive = isLive
        self.inertness = inertness
        self.sample = sample
        self.check = check
        self.documentation = documentation
    }

    /// The environment variable of this setting.
    package var variable: String {
        SettingTable.variablePrefix
            + String(name.uppercased().map { $0 == "." || $0 == "-" ? "_" : $0 })
    }

    /// Checks a value and gives its one spelling: bytes and times as plain numbers, words as they
    /// are defined.
    ///
    /// - Throws: `.invalid`, with what the setting expects.
    package func canonical(_ text: String) throws(SettingProblem) -> String {
        let trimmed = Self.trimmed(text)
        let value: String? =
            switch kind {
            case .bytes(let range): Self.number(Quantity.byteCount(trimmed), in: range)
            case .duration(let range): Self.number(Quantity.milliseconds(trimmed), in: range)
            case .integer(let range): Self.number(Int64(trimmed), in: range)
            case .decimal: Double(trimmed).flatMap { $0.isFinite ? trimmed : nil }
            case .boolean: ["true", "false"].first { $0 == trimmed.lowercased() }
            case .word(let words): words.first { $0.lowercased() == trimmed.lowercased() }
            case .address: ListenAddress.parse(trimmed).map { _ in trimmed }
            case .addresses: ListenAddress.list(trimmed).map { _ in trimmed }
            case .addressOrAuto:
                trimmed == "auto" || ListenAddress.parse(trimmed) != nil ? trimmed : nil
            case .levels: LogLevels(trimmed).map { _ in trimmed }
            case .text: trimmed
            }
        guard let value else {
            throw .invalid(name: name, value: text, expected: expectation)
        }
        do {
            return try check(value)
        } catch {
            throw .invalid(name: name, value: text, expected: "\(error)")
        }
    }

    /// What a value must be, for people.
    package var expectation: String {
        switch kind {
        case .bytes(let range):
            "a size " + Self.bounds(range, Quantity.text(byteCount:)) + ", such as 10MiB"
        case .duration(let range):
            "a time " + Self.bounds(range, Quantity.text(milliseconds:)) + ", such as 7d"
        case .integer(let range): "a whole number " + Self.bounds(range) { String($0) }
        case .decimal: "a number"
        case .boolean: "true or false"
        case .word(let words): "one of " + words.joined(separator: ", ")
        case .address: "an address such as localhost:9644 or :9644"
        case .addresses: "addresses such as localhost:9092 or :9092, separated by commas"
        case .addressOrAuto: "auto or an address such as broker.example:9092"
        case .levels:
            "a level (trace, debug, info, notice, warning, error, critical), then component=level"
        case .text: "text"
        }
    }

    private static func number(_ number: Int64?, in range: ClosedRange<Int64>) -> String? {
        number.flatMap { range.contains($0) ? String($0) : nil }
    }

    private static func bounds(_ range: ClosedRange<Int64>, _ text: (Int64) -> String) -> String {
        switch (range.lowerBound, range.upperBound) {
        case (Int64.min, Int64.max): "of any value"
        case (let lower, Int64.max): "of \(text(lower)) or more"
        case (let lower, let upper): "from \(text(lower)) to \(text(upper))"
        }
    }

    private static func trimmed(_ text: String) -> String {
        let start = text.drop { $0.isWhitespace }
        guard let last = start.lastIndex(where: { !$0.isWhitespace }) else {
            return ""
        }
        return String(start[...last])
    }
}
