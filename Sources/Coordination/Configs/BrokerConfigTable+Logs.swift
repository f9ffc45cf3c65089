/// The settings of logs: most give topics their defaults.
extension BrokerConfigTable {
    static let logSizes: [ConfigDefinition] = [
        ConfigDefinition(
            "log.retention.bytes",
            .long,
            "-1",
            updateMode: .live,
            documentation:
                "The size per partition beyond which the oldest segments are deleted; -1 is no bound."
        ),
        ConfigDefinition(
            "log.segment.bytes",
            .int,
            "134217728",
            .range(1_048_576...Int64(Int32.max)),
            updateMode: .live,
            documentation: "The size at which a new segment begins. Kafka's default is 1 GiB."
        ),
        ConfigDefinition(
            "log.index.interval.bytes",
            .int,
            "4096",
            number,
            updateMode: .live,
            effect: .accepted("It changes nothing here: every batch is indexed."),
            documentation: "Kafka's distance between two entries of the offset index."
        ),
        ConfigDefinition(
            "log.index.size.max.bytes",
            .int,
            "10485760",
            .range(4...Int64(Int32.max)),
            updateMode: .live,
            effect: .accepted("It changes nothing here: the index grows with its segment."),
            documentation: "Kafka's bound on the size of an index file."
        ),
        ConfigDefinition(
            "log.preallocate",
            .boolean,
            "false",
            updateMode: .live,
            effect: .accepted("It changes nothing here."),
            documentation: "Whether Kafka reserves a segment's space."
        ),
        ConfigDefinition(
            "log.flush.interval.messages",
            .long,
            forever,
            .range(1...Int64.max),
            updateMode: .live,
            effect: .accepted("It changes nothing here: what is acknowledged is on disk."),
            documentation: "Kafka's number of records between two syncs to disk."
        ),
        ConfigDefinition(
            "log.local.retention.bytes",
            .long,
            "-2",
            .range(-2...Int64.max),
            updateMode: .live,
            effect: .accepted("It changes nothing: there is no tiered storage here."),
            documentation: "The size kept on local disks of tiered topics."
        ),
    ]

    static let logTimes: [ConfigDefinition] = [
        ConfigDefinition(
            "log.retention.ms",
            .long,
            nil,
            .range(-1...Int64.max),
            updateMode: .live,
            documentation:
                "The age at which segments are deleted; -1 keeps them. It counts before minutes and hours."
        ),
        ConfigDefinition(
            "log.retention.minutes",
            .int,
            nil,
            .range(-1...Int64(Int32.max)),
            updateMode: .live,
            documentation:
                "The age at which segments are deleted, in minutes. It counts before hours."
        ),
        ConfigDefinition(
            "log.retention.hours",
            .int,
            "168",
            .range(-1...Int64(Int32.max)),
            updateMode: .live,
            documentation: "The age at which segments are deleted, in hours."
        ),
        ConfigDefinition(
            "log.roll.ms",
            .long,
            nil,
            .range(1...Int64.max),
            updateMode: .live,
            documentation: "The age at which a new segment begins. It counts before hours."
        ),
        ConfigDefinition(
            "log.roll.hours",
            .int,
            "168",
            positive,
            updateMode: .live,
            documentation: "The age at which a new segment begins, in hours."
        ),
        ConfigDefinition(
            "log.roll.jitter.ms",
            .long,
            nil,
            millis,
            updateMode: .live,
            documentation:
                "By how much at most a segment's age is shortened. It counts before hours."
        ),
        ConfigDefinition(
            "log.roll.jitter.hours",
            .int,
            "0",
            number,
            updateMode: .live,
            documentation: "By how much at most a segment's age is shortened, in hours."
        ),
        ConfigDefinition(
            "log.flush.interval.ms",
            .long,
            nil,
            millis,
            updateMode: .live,
            effect: .accepted("It changes nothing here: what is acknowledged is on disk."),
            documentation: "Kafka's time between two syncs to disk."
        ),
        ConfigDefinition(
            "log.segment.delete.delay.ms",
            .long,
            "60000",
            millis,
            updateMode: .live,
            effect: .accepted("It changes nothing here: a file goes when its last reader is done."),
            documentation: "How long Kafka keeps a file after its deletion."
        ),
        ConfigDefinition(
            "log.local.retention.ms",
            .long,
            "-2",
            .range(-2...Int64.max),
            updateMode: .live,
            effect: .accepted("It changes nothing: there is no tiered storage here."),
            documentation: "The age kept on local disks of tiered topics."
        ),
        ConfigDefinition(
            "log.message.timestamp.type",
            .string,
            "CreateTime",
            .words(TimestampType.allCases.map(\.rawValue)),
            updateMode: .live,
            documentation: "Whether records carry the producer's time or the time of their append."
        ),
        ConfigDefinition(
            "log.message.timestamp.before.max.ms",
            .long,
            forever,
            millis,
            updateMode: .live,
            documentation: "How far a producer's time may lie in the past."
        ),
        ConfigDefinition(
            "log.message.timestamp.after.max.ms",
            .long,
            "3600000",
            millis,
            updateMode: .live,
            documentation: "How far a producer's time may lie in the future."
        ),
    ]

    static let scrub: [ConfigDefinition] = [
        ConfigDefinition(
            "log.scrub.bytes.per.second",
            .long,
            "4194304",
            .range(0...1 << 40),
            updateMode: .live,
            documentation:
                "How many bytes of segments each event loop reads a second to find damage; 0 looks for none."
        ),
        ConfigDefinition(
            "log.scrub.interval.ms",
            .long,
            "86400000",
            .range(1_000...31_536_000_000),
            updateMode: .live,
            documentation:
                "How long after a look at all bytes of a replica the next one begins; the first one follows the start."
        ),
    ]

    private static let notCompacted =
        "It changes nothing yet: logs are not compacted, everything is kept."

    static let cleaner: [ConfigDefinition] = [
        ConfigDefinition(
            "log.cleanup.policy",
            .list,
            "delete",
            .words(["compact", "delete"]),
            updateMode: .live,
            documentation: "What happens to old records of topics that do not say so themselves."
        ),
        ConfigDefinition(
            "log.cleaner.delete.retention.ms",
            .long,
            "86400000",
            millis,
            updateMode: .live,
            effect: .accepted(notCompacted),
            documentation: "How long compacted topics keep the marker of a deleted key."
        ),
        ConfigDefinition(
            "log.cleaner.min.compaction.lag.ms",
            .long,
            "0",
            millis,
            updateMode: .live,
            effect: .accepted(notCompacted),
            documentation: "The shortest time that a record stays uncompacted."
        ),
        ConfigDefinition(
            "log.cleaner.max.compaction.lag.ms",
            .long,
            forever,
            .range(1...Int64.max),
            updateMode: .live,
            effect: .accepted(notCompacted),
            documentation: "The longest time that a record stays uncompacted."
        ),
        ConfigDefinition(
            "log.cleaner.min.cleanable.ratio",
            .double,
            "0.5",
            .fraction(0...1),
            updateMode: .live,
            effect: .accepted(notCompacted),
            documentation: "How much of a log must be uncompacted before it is compacted again."
        ),
    ]
}
