/// Every setting of a topic that clients know by name.
///
/// The built-in values are those that a topic has on a fresh cluster; where they differ from Kafka's, the line says so.
/// - Source: Kafka's topic configuration reference, releases 3.9 to 4.2.
package enum TopicConfigTable {
    /// The table.
    package static let table = ConfigTable(
        cleaning + sizes + times + replication + remote,
        ignoredNames: ignored
    )

    private static let ignored = [
        // Removed in Kafka 4.0; tools written for older releases still set them.
        "message.format.version", "message.downconversion.enable",
        "message.timestamp.difference.max.ms",
    ]

    private static let anyMillis: ConfigDefinition.Constraint = .range(0...Int64.max)
    private static let millisOrForever: ConfigDefinition.Constraint = .range(-1...Int64.max)
    private static let forever = String(Int64.max)

    private static let notCompacted =
        "It changes nothing yet: logs are not compacted, everything is kept."

    private static let cleaning: [ConfigDefinition] = [
        ConfigDefinition(
            "cleanup.policy",
            .list,
            "delete",
            .words(["compact", "delete"]),
            origins: [ConfigOrigin("log.cleanup.policy")],
            documentation:
                "What happens to old records: delete them by age and size, or keep them. A topic with compact asks for keys, "
                + "and is not compacted yet."
        ),
        ConfigDefinition(
            "delete.retention.ms",
            .long,
            "86400000",
            anyMillis,
            origins: [ConfigOrigin("log.cleaner.delete.retention.ms")],
            effect: .accepted(notCompacted),
            documentation: "How long a compacted topic keeps the marker of a deleted key."
        ),
        ConfigDefinition(
            "max.compaction.lag.ms",
            .long,
            forever,
            .range(1...Int64.max),
            origins: [ConfigOrigin("log.cleaner.max.compaction.lag.ms")],
            effect: .accepted(notCompacted),
            documentation: "The longest time that a record stays uncompacted."
        ),
        ConfigDefinition(
            "min.compaction.lag.ms",
            .long,
            "0",
            anyMillis,
            origins: [ConfigOrigin("log.cleaner.min.compaction.lag.ms")],
            effect: .accepted(notCompacted),
            documentation: "The shortest time that a record stays uncompacted."
        ),
        ConfigDefinition(
            "min.cleanable.dirty.ratio",
            .double,
            "0.5",
            .fraction(0...1),
            origins: [ConfigOrigin("log.cleaner.min.cleanable.ratio")],
            effect: .accepted(notCompacted),
            documentation: "How much of the log must be uncompacted before it is compacted again."
        ),
        ConfigDefinition(
            "compression.type",
            .string,
            "auto",
            .words(CompressionType.allCases.map(\.rawValue)),
            origins: [ConfigOrigin("compression.type")],
            documentation:
                "How batches are stored. auto compresses plain batches with lz4 and keeps the others; "
                + "producer keeps all as they come. Kafka's default is producer."
        ),
        ConfigDefinition(
            "compression.gzip.level",
            .int,
            "-1",
            .level(1...9),
            origins: [ConfigOrigin("compression.gzip.level")],
            documentation: "The level where the broker compresses with gzip."
        ),
        ConfigDefinition(
            "compression.lz4.level",
            .int,
            "9",
            .level(1...17),
            origins: [ConfigOrigin("compression.lz4.level")],
            documentation:
                "The level where the broker compresses with lz4 because compression.type says lz4."
        ),
        ConfigDefinition(
            "compression.zstd.level",
            .int,
            "3",
            .range(-131_072...22),
            origins: [ConfigOrigin("compression.zstd.level")],
            documentation: "The level where the broker compresses with zstd."
        ),
    ]

    private static let sizes: [ConfigDefinition] = [
        ConfigDefinition(
            "max.message.bytes",
            .int,
            "1048588",
            .range(0...Int64(Int32.max)),
            origins: [ConfigOrigin("message.max.bytes")],
            documentation: "The largest batch that is accepted, as sent."
        ),
        ConfigDefinition(
            "retention.bytes",
            .long,
            "-1",
            .any,
            origins: [ConfigOrigin("log.retention.bytes")],
            documentation:
                "The size per partition beyond which the oldest segments are deleted; -1 is no bound."
        ),
        ConfigDefinition(
            // Kafka 4.0 raised the lower bound from 14 bytes to 1 MiB (KIP-1030).
            "segment.bytes",
            .int,
            "134217728",
            .range(1_048_576...Int64(Int32.max)),
            origins: [ConfigOrigin("log.segment.bytes")],
            documentation: "The size at which a new segment begins. Kafka's default is 1 GiB."
        ),
        ConfigDefinition(
            "index.interval.bytes",
            .int,
            "4096",
            .range(0...Int64(Int32.max)),
            origins: [ConfigOrigin("log.index.interval.bytes")],
            effect: .accepted("It changes nothing here: every batch is indexed."),
            documentation: "Kafka's distance between two entries of the offset index."
        ),
        ConfigDefinition(
            "segment.index.bytes",
            .int,
            "10485760",
            .range(4...Int64(Int32.max)),
            origins: [ConfigOrigin("log.index.size.max.bytes")],
            effect: .accepted("It changes nothing here: the index grows with its segment."),
            documentation: "Kafka's bound on the size of an index file."
        ),
        ConfigDefinition(
            "preallocate",
            .boolean,
            "false",
            origins: [ConfigOrigin("log.preallocate")],
            effect: .accepted(
                "It changes nothing here: the journal is preallocated, segments are written at once."
            ),
            documentation: "Whether Kafka reserves a segment's space when it begins."
        ),
        ConfigDefinition(
            "flush.messages",
            .long,
            forever,
            .range(1...Int64.max),
            origins: [ConfigOrigin("log.flush.interval.messages")],
            effect: .accepted("It changes nothing here: what is acknowledged is on disk."),
            documentation: "Kafka's number of records between two syncs to disk."
        ),
    ]

    private static let times: [ConfigDefinition] = [
        ConfigDefinition(
            "retention.ms",
            .long,
            "604800000",
            millisOrForever,
            origins: [
                ConfigOrigin("log.retention.ms"),
                ConfigOrigin("log.retention.minutes", factor: 60_000),
                ConfigOrigin("log.retention.hours", factor: 3_600_000),
            ],
            documentation:
                "The age at which segments are deleted, by the time of their append; -1 keeps them forever."
        ),
        ConfigDefinition(
            "segment.ms",
            .long,
            "604800000",
            .range(1...Int64.max),
            origins: [
                ConfigOrigin("log.roll.ms"), ConfigOrigin("log.roll.hours", factor: 3_600_000),
            ],
            documentation:
                "The age at which a new segment begins even when the old one is not full."
        ),
        ConfigDefinition(
            "segment.jitter.ms",
            .long,
            "0",
            anyMillis,
            origins: [
                ConfigOrigin("log.roll.jitter.ms"),
                ConfigOrigin("log.roll.jitter.hours", factor: 3_600_000),
            ],
            documentation:
                "By how much at most segment.ms is shortened, so that partitions do not roll all at once."
        ),
        ConfigDefinition(
            "flush.ms",
            .long,
            forever,
            anyMillis,
            origins: [ConfigOrigin("log.flush.interval.ms")],
            effect: .accepted("It changes nothing here: what is acknowledged is on disk."),
            documentation: "Kafka's time between two syncs to disk."
        ),
        ConfigDefinition(
            "file.delete.delay.ms",
            .long,
            "60000",
            anyMillis,
            origins: [ConfigOrigin("log.segment.delete.delay.ms")],
            effect: .accepted("It changes nothing here: a file goes when its last reader is done."),
            documentation: "How long Kafka keeps a file after its deletion."
        ),
        ConfigDefinition(
            "message.timestamp.type",
            .string,
            "CreateTime",
            .words(TimestampType.allCases.map(\.rawValue)),
            origins: [ConfigOrigin("log.message.timestamp.type")],
            documentation: "Whether records carry the producer's time or the time of their append."
        ),
        ConfigDefinition(
            "message.timestamp.before.max.ms",
            .long,
            forever,
            anyMillis,
            origins: [ConfigOrigin("log.message.timestamp.before.max.ms")],
            documentation: "How far a producer's time may lie in the past."
        ),
        ConfigDefinition(
            "message.timestamp.after.max.ms",
            .long,
            "3600000",
            anyMillis,
            origins: [ConfigOrigin("log.message.timestamp.after.max.ms")],
            documentation: "How far a producer's time may lie in the future."
        ),
    ]

    private static let replication: [ConfigDefinition] = [
        ConfigDefinition(
            "min.insync.replicas",
            .int,
            "1",
            .range(1...Int64(Int32.max)),
            origins: [ConfigOrigin("min.insync.replicas")],
            documentation:
                "How many replicas must have a batch on disk before acks=all is answered; never less than a majority."
        ),
        ConfigDefinition(
            "unclean.leader.election.enable",
            .boolean,
            "false",
            origins: [ConfigOrigin("unclean.leader.election.enable")],
            effect: .accepted(
                "It changes nothing here: a leader always has what was acknowledged."
            ),
            documentation: "Whether a replica that lacks acknowledged records may lead."
        ),
        ConfigDefinition(
            "follower.replication.throttled.replicas",
            .list,
            "",
            effect: .accepted(
                "It changes nothing here: catching up is throttled by the broker itself."
            ),
            documentation: "Replicas whose incoming replication Kafka throttles."
        ),
        ConfigDefinition(
            "leader.replication.throttled.replicas",
            .list,
            "",
            effect: .accepted(
                "It changes nothing here: catching up is throttled by the broker itself."
            ),
            documentation: "Replicas whose outgoing replication Kafka throttles."
        ),
    ]

    private static let remote: [ConfigDefinition] = [
        ConfigDefinition(
            "remote.storage.enable",
            .boolean,
            "false",
            .words(["false"]),
            effect: untiered,
            documentation: "Whether old segments move to an object store."
        ),
        ConfigDefinition(
            "remote.log.copy.disable",
            .boolean,
            "false",
            effect: untiered,
            documentation: "Whether moving old segments to an object store pauses."
        ),
        ConfigDefinition(
            "remote.log.delete.on.disable",
            .boolean,
            "false",
            effect: untiered,
            documentation: "Whether segments in the object store go when tiering is switched off."
        ),
        ConfigDefinition(
            "local.retention.bytes",
            .long,
            "-2",
            .range(-2...Int64.max),
            origins: [ConfigOrigin("log.local.retention.bytes")],
            effect: untiered,
            documentation:
                "The size kept on local disks of a tiered topic; -2 is that of retention.bytes."
        ),
        ConfigDefinition(
            "local.retention.ms",
            .long,
            "-2",
            .range(-2...Int64.max),
            origins: [ConfigOrigin("log.local.retention.ms")],
            effect: untiered,
            documentation:
                "The age kept on local disks of a tiered topic; -2 is that of retention.ms."
        ),
    ]

    private static let untiered = ConfigEffect.accepted(
        "It changes nothing: there is no tiered storage here."
    )
}
