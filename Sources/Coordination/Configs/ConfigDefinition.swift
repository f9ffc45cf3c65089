/// A setting's type as Kafka numbers it on the wire.
///
/// - Source: KIP-569, DescribeConfigs version 3.
package enum ConfigType: Int8, Hashable, Sendable {
    /// `true` or `false`.
    case boolean = 1
    /// Text.
    case string = 2
    /// 32 bits.
    case int = 3
    /// 16 bits.
    case short = 4
    /// 64 bits.
    case long = 5
    /// A decimal number.
    case double = 6
    /// Texts separated by commas.
    case list = 7
    /// A class name; kept as text.
    case `class` = 8
    /// A secret; never shown.
    case password = 9
}

/// Where a value comes from, as Kafka numbers it on the wire.
///
/// - Source: KIP-226.
package enum ConfigSource: Int8, Hashable, Sendable {
    /// Set on the topic.
    case dynamicTopic = 1
    /// Set on one broker while it runs.
    case dynamicBroker = 2
    /// Set on all brokers while they run.
    case dynamicDefaultBroker = 3
    /// Set in the broker's configuration file, environment or flags.
    case staticBroker = 4
    /// Built in.
    case defaultConfig = 5
    /// Set on the consumer group.
    case dynamicGroup = 8
}

/// Whether a setting changes what the broker does.
package enum ConfigEffect: Hashable, Sendable {
    /// It does what it says.
    case honoured
    /// It is kept and shown, since clients set it, but changes nothing; the sentence says why.
    case accepted(String)
}

/// How a broker's setting may be changed.
package enum ConfigUpdateMode: Hashable, Sendable {
    /// By a restart only.
    case readOnly
    /// While the brokers run, for one or for all of them.
    case live
}

/// Another name under which a broker's setting gives a topic's default, perhaps in another unit.
package struct ConfigOrigin: Hashable, Sendable {
    /// The broker's setting.
    package var name: String
    /// What one unit of it is in units of the topic's setting: 60,000 for minutes to milliseconds.
    package var factor: Int64

    /// A broker's setting in the same unit, unless a factor is given.
    init(_ name: String, factor: Int64 = 1) {
        self.name = name
        self.factor = factor
    }
}

/// One setting: its name, type, bounds and default, and what it is for.
package struct ConfigDefinition: Hashable, Sendable {
    /// The values allowed within a type.
    package enum Constraint: Hashable, Sendable {
        /// Whatever the type can hold.
        case any
        /// Whole numbers in these bounds.
        case range(ClosedRange<Int64>)
        /// Whole numbers in these bounds, or -1 for "the codec's default".
        case level(ClosedRange<Int64>)
        /// Decimal numbers in these bounds.
        case fraction(ClosedRange<Double>)
        /// One of these words; of a list, each element.
        case words([String])
    }

    /// Bytes of a value beyond which it is refused.
    package static let maximumValueByteCount = 32_767

    /// The name, as Kafka spells it.
    package var name: String
    /// The type.
    package var type: ConfigType
    /// The built-in value; nil means "none", which Kafka shows as null.
    package var defaultValue: String?
    /// The bounds.
    package var constraint: Constraint
    /// Whether it changes anything.
    package var effect: ConfigEffect
    /// A sentence or two for people.
    package var documentation: String
    /// Of a topic's setting: the broker's settings that give its default, most specific first.
    package var origins: [ConfigOrigin]
    /// Of a broker's setting: how it may be changed.
    package var updateMode: ConfigUpdateMode

    /// Defines a setting.
    init(
        _ name: String,
        _ type: ConfigType,
        _ defaultValue: String?,
        _ constraint: Constraint = .any,
        origins: [ConfigOrigin] = [],
        updateMode: ConfigUpdateMode = .readOnly,
        effect: ConfigEffect = .honoured,
        documentation: String
    ) {
        self.name = name
        self.type = type
        self.defaultValue = defaultValue
        self.constraint = constraint
        self.effect = effect
        self.origins = origins
        self.updateMode = updateMode
        self.documentation =
            if case .accepted(let reason) = effect { "\(documentation) \(reason)" } else {
                documentation
            }
    }

    /// Whether append and subtract are allowed.
    package var isList: Bool {
        type == .list
    }

    /// Checks a value and gives its one spelling: trimmed, numbers in decimal, booleans in lower case.
    ///
    /// - Throws: `.invalidConfig`, naming the setting and what it expects.
    package func canonical(_ text: String) throws(CoordinationError) -> String {
        guard text.utf8.count <= Self.maximumValueByteCount else {
            throw .invalidConfig(
                name: name,
                value: "of \(text.utf8.count) bytes",
                expected: expectation
            )
        }
        let trimmed = text.trimmed
        let value: String? =
            switch type {
            case .boolean: ["true", "false"].first { $0 == trimmed.lowercased() && isAllowed($0) }
            case .short: Int16(trimmed).flatMap { isAllowed(Int64($0)) ? String($0) : nil }
            case .int: Int32(trimmed).flatMap { isAllowed(Int64($0)) ? String($0) : nil }
            case .long: Int64(trimmed).flatMap { isAllowed($0) ? String($0) : nil }
            case .double: Double(trimmed).flatMap { isAllowed($0) ? String($0) : nil }
            case .list: canonicalList(trimmed)
            case .string, .class: isAllowed(trimmed) ? trimmed : nil
            case .password: text
            }
        guard let value else {
            throw .invalidConfig(name: name, value: text, expected: expectation)
        }
        return value
    }

    /// What a value must be, for people.
    package var expectation: String {
        switch (constraint, type) {
        case (.range(let range), _)
        where range.upperBound == Int64.max && range.lowerBound == Int64.min:
            "a whole number"
        case (.range(let range), _):
            "a whole number from \(range.lowerBound) to \(range.upperBound)"
        case (.level(let range), _):
            "-1 or a whole number from \(range.lowerBound) to \(range.upperBound)"
        case (.fraction(let range), _): "a number from \(range.lowerBound) to \(range.upperBound)"
        case (.words(let words), .list): "a list of " + words.joined(separator: ", ")
        case (.words(let words), _): "one of " + words.joined(separator: ", ")
        case (.any, .boolean): "true or false"
        case (.any, .list): "values separated by commas"
        case (.any, .double): "a number"
        case (.any, .short), (.any, .int), (.any, .long): "a whole number"
        case (.any, .string), (.any, .class), (.any, .password):
            "text of at most \(Self.maximumValueByteCount) bytes"
        }
    }

    private func canonicalList(_ text: String) -> String? {
        let elements = ConfigList.elements(of: text)
        return elements.allSatisfy(isAllowed) ? ConfigList.text(of: elements) : nil
    }

    private func isAllowed(_ number: Int64) -> Bool {
        switch constraint {
        case .range(let range): range.contains(number)
        case .level(let range): number == -1 || range.contains(number)
        case .any, .fraction, .words: true
        }
    }

    private func isAllowed(_ number: Double) -> Bool {
        if case .fraction(let range) = constraint {
            range.contains(number)
        } else {
            number.isFinite
        }
    }

    private func isAllowed(_ word: String) -> Bool {
        if case .words(let words) = constraint { words.contains(word) } else { true }
    }
}

/// How lists are written in one value.
enum ConfigList {
    /// The elements of a value, trimmed, without empty ones and without repetitions.
    static func elements(of text: String) -> [String] {
        var elements: [String] = []
        for part in text.split(separator: ",") {
            let element = String(part).trimmed
            if !element.isEmpty, !elements.contains(element) {
                elements.append(element)
            }
        }
        return elements
    }

    /// The value that holds the elements.
    static func text(of elements: [String]) -> String {
        elements.joined(separator: ",")
    }
}

extension String {
    /// Without white space at both ends.
    var trimmed: String {
        let start = drop { $0.isWhitespace }
        guard let last = start.lastIndex(where: { !$0.isWhitespace }) else { return "" }
        return String(start[...last])
    }
}
