import FlotillaModel

/// What may be set for a single consumer group, in the place of what its broker says.
///
/// - Source: KIP-848; Kafka's resources of type GROUP.
package enum GroupConfig {
    /// The longest name of a group that has settings.
    static let nameByteLimit = 1_000

    /// The settings.
    package static let table = ConfigTable([
        ConfigDefinition(
            sessionTimeout,
            .int,
            nil,
            .range(1...Int64(Int32.max)),
            documentation: "How long a member of the consumer protocol may be silent."
        ),
        ConfigDefinition(
            heartbeatInterval,
            .int,
            nil,
            .range(1...Int64(Int32.max)),
            documentation: "How often such a member is to be heard."
        ),
    ])

    private static let sessionTimeout = "consumer.session.timeout.ms"
    private static let heartbeatInterval = "consumer.heartbeat.interval.ms"

    /// What brokers allow groups, in milliseconds; what the broker itself goes by is always allowed.
    package struct Bounds: Hashable, Sendable {
        private var ranges: [String: ClosedRange<Int64>]

        init(_ reader: ConfigReader) {
            let names = [
                sessionTimeout: "session.timeout.ms", heartbeatInterval: "heartbeat.interval.ms",
            ]
            ranges = names.mapValues { name in
                let own = reader.integer("group.consumer.\(name)")
                let shortest = reader.integer("group.consumer.min.\(name)")
                let longest = reader.integer("group.consumer.max.\(name)")
                return min(shortest, own)...max(longest, own)
            }
        }

        /// Whether a group may have a setting.
        ///
        /// - Throws: INVALID_CONFIG: with a session of a millisecond all members would be given up at once.
        package func check(_ name: String, _ value: String?) throws(Refusal) {
            // Who looks at the type says what is wrong with something that is no number.
            guard let range = ranges[name], let value, let number = Int64(value),
                !range.contains(number)
            else { return }
            let bounds = "a whole number from \(range.lowerBound) to \(range.upperBound)"
            throw Refusal(.invalidConfig(name: name, value: value, expected: bounds))
        }

        /// What a group has set, within what its broker allows by now.
        fileprivate func value(_ name: String, in configs: ConfigValues) -> Int64? {
            guard let range = ranges[name] else { return nil }
            return configs[name].flatMap(Int64.init).map {
                min(max($0, range.lowerBound), range.upperBound)
            }
        }
    }

    /// After how much silence a member is given up; nil for what the broker says.
    package static func sessionTimeout(
        in configs: ConfigValues,
        within bounds: Bounds
    ) -> Duration? {
        bounds.value(sessionTimeout, in: configs).map { .milliseconds($0) }
    }

    /// How often a member is to be heard; nil for what the broker says.
    package static func heartbeatMillis(
        in configs: ConfigValues,
        within bounds: Bounds
    ) -> Int32? {
        bounds.value(heartbeatInterval, in: configs).map { Int32(clamping: $0) }
    }
}
