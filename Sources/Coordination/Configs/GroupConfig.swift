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

    /// After how much silence a member is given up; nil for what the broker says.
    package static func sessionTimeout(in configs: ConfigValues) -> Duration? {
        configs[sessionTimeout].flatMap(Int64.init).map { .milliseconds($0) }
    }

    /// How often a member is to be heard; nil for what the broker says.
    package static func heartbeatMillis(in configs: ConfigValues) -> Int32? {
        configs[heartbeatInterval].flatMap(Int32.init)
    }
}
