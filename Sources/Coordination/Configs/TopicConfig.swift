/// How a topic stores batches; the raw values are Kafka's words, and `auto`.
package enum CompressionType: String, Hashable, Sendable, CaseIterable {
    /// Plain batches are compressed with lz4 where it pays; the others are kept.
    case auto
    /// As the producer sent it.
    case producer
    /// Without compression.
    case uncompressed
    /// With gzip.
    case gzip
    /// With snappy.
    case snappy
    /// With lz4.
    case lz4
    /// With zstd.
    case zstd
}

/// Whose time a record carries; the raw values are Kafka's words.
package enum TimestampType: String, Hashable, Sendable, CaseIterable {
    /// The producer's.
    case createTime = "CreateTime"
    /// The leader's, when it appended the batch.
    case logAppendTime = "LogAppendTime"
}

/// What happens to old records; neither means that they stay.
package struct CleanupPolicy: OptionSet, Hashable, Sendable {
    /// The set's bits.
    package let rawValue: UInt8

    /// A set of bits.
    package init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// Old segments are deleted by age and size.
    package static let delete = CleanupPolicy(rawValue: 1)
    /// The last record of each key stays.
    package static let compact = CleanupPolicy(rawValue: 2)
}

/// A topic's settings as they are in force: its own, else the broker's, else the built-in ones.
///
/// Made once per change of the metadata and kept; reading the fields costs nothing.
package struct TopicConfig: Hashable, Sendable {
    /// What happens to old records.
    package var cleanupPolicy: CleanupPolicy
    /// How batches are stored.
    package var compression: CompressionType
    /// gzip's level; -1 is its default.
    package var gzipLevel: Int32
    /// lz4's level; -1 is its default.
    package var lz4Level: Int32
    /// zstd's level.
    package var zstdLevel: Int32
    /// How long the marker of a deleted key is kept.
    package var deleteRetentionMillis: Int64
    /// The shortest time that a record stays uncompacted.
    package var minimumCompactionLagMillis: Int64
    /// The longest time that a record stays uncompacted.
    package var maximumCompactionLagMillis: Int64
    /// The uncompacted part of the log from which on it is compacted, 0 to 1.
    package var minimumCleanableDirtyRatio: Double
    /// The largest batch accepted, as sent.
    package var maximumMessageByteCount: Int
    /// Whose time records carry.
    package var timestampType: TimestampType
    /// How far a producer's time may lie in the past.
    package var timestampBeforeMaximumMillis: Int64
    /// How far a producer's time may lie in the future.
    package var timestampAfterMaximumMillis: Int64
    /// How many replicas must have a batch on disk; the majority where that is more.
    package var minimumInSyncReplicaCount: Int
    /// The age at which segments are deleted; nil keeps them forever.
    package var retentionMillis: Int64?
    /// The size beyond which the oldest segments are deleted; nil is no bound.
    package var retentionByteCount: Int64?
    /// The size at which a new segment begins.
    package var segmentByteCount: Int
    /// The age at which a new segment begins.
    package var segmentMillis: Int64
    /// By how much at most `segmentMillis` is shortened.
    package var segmentJitterMillis: Int64

    /// The settings in force.
    ///
    /// - Parameters:
    ///   - overrides: what is set on the topic; checked by `TopicConfigTable`.
    ///   - layers: the broker's settings.
    package init(overrides: ConfigValues, layers: ConfigLayers) {
        let reader = ConfigReader(table: TopicConfigTable.table) { definition in
            overrides[definition.name] ?? layers.topicDefault(definition)
        }
        cleanupPolicy = Self.cleanupPolicy(reader.text("cleanup.policy"))
        compression = reader.word("compression.type")
        gzipLevel = Int32(clamping: reader.integer("compression.gzip.level"))
        lz4Level = Int32(clamping: reader.integer("compression.lz4.level"))
        zstdLevel = Int32(clamping: reader.integer("compression.zstd.level"))
        deleteRetentionMillis = reader.integer("delete.retention.ms")
        minimumCompactionLagMillis = reader.integer("min.compaction.lag.ms")
        maximumCompactionLagMillis = reader.integer("max.compaction.lag.ms")
        minimumCleanableDirtyRatio = reader.fraction("min.cleanable.dirty.ratio")
        maximumMessageByteCount = Int(clamping: reader.integer("max.message.bytes"))
        timestampType = reader.word("message.timestamp.type")
        timestampBeforeMaximumMillis = reader.integer("message.timestamp.before.max.ms")
        timestampAfterMaximumMillis = reader.integer("message.timestamp.after.max.ms")
        minimumInSyncReplicaCount = Int(clamping: reader.integer("min.insync.replicas"))
        retentionMillis = Self.bound(reader.integer("retention.ms"))
        retentionByteCount = Self.bound(reader.integer("retention.bytes"))
        segmentByteCount = Int(clamping: reader.integer("segment.bytes"))
        segmentMillis = reader.integer("segment.ms")
        segmentJitterMillis = reader.integer("segment.jitter.ms")
    }

    private static func bound(_ number: Int64) -> Int64? {
        number < 0 ? nil : number
    }

    private static func cleanupPolicy(_ text: String) -> CleanupPolicy {
        var policy: CleanupPolicy = []
        for word in ConfigList.elements(of: text) {
            policy.insert(word == "compact" ? .compact : .delete)
        }
        return policy
    }

    /// Checks what no single setting can be checked for.
    ///
    /// - Throws: `.invalidConfig` when the shortest time uncompacted is more than the longest.
    static func checkTogether(_ overrides: ConfigValues) throws(CoordinationError) {
        let reader = ConfigReader(table: TopicConfigTable.table) { definition in
            overrides[definition.name] ?? definition.defaultValue
        }
        let shortest = reader.integer("min.compaction.lag.ms")
        let longest = reader.integer("max.compaction.lag.ms")
        guard shortest <= longest else {
            throw .invalidConfig(
                name: "min.compaction.lag.ms",
                value: String(shortest),
                expected: "at most max.compaction.lag.ms, which is \(longest)"
            )
        }
    }
}
