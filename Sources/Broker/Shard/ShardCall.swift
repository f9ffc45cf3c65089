package import FlotillaCoordination
package import FlotillaModel
import FlotillaRecords
package import FlotillaStorage
package import struct NIOCore.ByteBuffer

/// A question to a shard about the partitions that live on it.
///
/// One call carries everything that one request wants of one shard, so a request costs at most one
/// message per shard each way.
package enum ShardCall: Sendable {
    /// Appends batches.
    case produce(ProduceCall)
    /// Reads what is readable now.
    case fetch(FetchCall)
    /// Answers as soon as one of the partitions has more to read than its watcher knows, or changed hands.
    case watch([FetchWatch])
    /// Finds offsets by time.
    case listOffsets([ListOffsetsCall])
    /// Finds where an epoch ends.
    case epochEnds([EpochEndCall])
    /// Moves the start of logs.
    case deleteRecords([DeleteRecordsCall])
    /// Tells sizes; nil for every partition of the shard.
    case logSizes([TopicPartition]?)
    /// Lists the producers known to partitions.
    case producers([TopicPartition])
    /// Asks coordinators of groups.
    case groups([GroupCall])
    /// Lists the groups that are coordinated there.
    case listGroups
    /// What the groups that are coordinated there have committed.
    case groupCommits
    /// How far readers are behind in partitions, by the replicas that live there.
    case positions([PositionCall])
    /// Changes the cluster's metadata, or gives up after a time; only to the shard of the metadata log.
    case metadata(MetadataCommand, within: Duration)
    /// Answers `barrier` when this broker's disk has the metadata up to an index; to the shard of the metadata log.
    case metadataIsDurable(LogIndex)
    /// Answers `barrier` when this broker has of the metadata whatever it ever had; to the shard of the metadata log.
    case metadataIsWhole
    /// Has a partition led by another of its replicas; to the shard of the partition where this broker leads it, else to the
    /// shard of the metadata log, which asks the leader.
    case transfer(LeaderTransfer)
    /// Asks another broker; only of the shard of the metadata log.
    case peer(BrokerID, PeerQuestion)
    /// Answers when everything posted before it has been taken in.
    case barrier

    /// Changes the cluster's metadata, and waits for it as long as for any command.
    static func metadata(_ command: MetadataCommand) -> ShardCall {
        .metadata(command, within: CommandRelay.timeout)
    }
}

/// A shard's answer; each case answers the call of the same name, in the order of its items.
package enum ShardReply: Sendable {
    case produce([ProduceReply])
    case fetch([FetchReply])
    case watch
    case listOffsets([ListOffsetsReply])
    case epochEnds([EpochEndReply])
    case deleteRecords([DeleteRecordsReply])
    case logSizes([LogSize])
    case producers([ProducersReply])
    case groups([GroupAnswer])
    /// Nil while some of them are not known yet.
    case listGroups([GroupListing]?)
    case groupCommits(GroupCommits)
    case positions([PositionReply])
    case metadata(MetadataReply)
    /// Nil when the target leads.
    case transfer(Refusal?)
    case peer(PeerAnswer)
    case barrier
}

/// Where a client should go instead.
package struct LeaderHint: Hashable, Sendable {
    /// The leader; -1 when it is not known.
    package var leader: Int32
    /// The leader's epoch; -1 when it is not known.
    package var epoch: Int32

    /// Nobody knows.
    package static let unknown = LeaderHint(leader: -1, epoch: -1)
}

/// Batches for partitions of one shard.
package struct ProduceCall: Sendable {
    /// One partition's part.
    package struct Item: Sendable {
        package var partition: TopicPartition
        /// The `records` field as it came: exactly one batch, if the client is right.
        package var records: ByteBuffer?
    }

    package var acks: Acks
    /// The version of the request, for what old versions may not do.
    package var version: Int16
    package var isTransactional: Bool
    package var items: [Item]
}

/// When a produce request is answered.
package enum Acks: Int16, Sendable {
    /// Never.
    case none = 0
    /// When the leader has the batch on its own disk.
    case leader = 1
    /// When a majority has the batch on disk.
    case all = -1
}

/// What became of one batch.
package struct ProduceReply: Sendable {
    /// A record that broke a rule.
    package struct RecordError: Sendable {
        package var batchIndex: Int32
        package var message: String?
    }

    package var error: ErrorCode
    package var message: String?
    package var baseOffset: Offset
    package var logAppendTime: Timestamp
    package var logStartOffset: Offset
    package var recordErrors: [RecordError] = []
    package var hint: LeaderHint = .unknown

    /// A refusal.
    package static func refused(
        _ error: ErrorCode,
        _ message: String? = nil,
        hint: LeaderHint = .unknown
    ) -> ProduceReply {
        ProduceReply(
            error: error,
            message: message,
            baseOffset: Offset(-1),
            logAppendTime: .none,
            logStartOffset: Offset(-1),
            hint: hint
        )
    }
}

/// Reads from partitions of one shard.
package struct FetchCall: Sendable {
    /// One partition's part.
    package struct Item: Sendable {
        package var partition: TopicPartition
        package var fetchOffset: Offset
        package var maxByteCount: Int
        package var currentLeaderEpoch: Int32
        package var lastFetchedEpoch: Int32
        /// Whether the answer may name another replica to read from.
        package var mayBeSentOn = false
    }

    package var isolation: IsolationLevel
    /// The rack that the consumer says it stands in, from Fetch version 11 on; nil for one that says nothing, which only
    /// leaders answer.
    package var rack: String?
    /// The most bytes that all items together may bring; the first batch of all may be larger.
    package var maxByteCount: Int
    /// Whether the first batch of all may be larger than that; where there is no room for answers none is read.
    package var allowsOversizedFirst: Bool
    /// Whether batches that the broker compressed are inflated, since the client may not read lz4.
    package var inflates: Bool
    /// Whether zstd may be sent (from Fetch version 10).
    package var allowsZstd: Bool
    package var items: [Item]
}

/// Which records a consumer wants to see.
package enum IsolationLevel: Int8, Sendable {
    /// All that is committed in the log.
    case readUncommitted = 0
    /// Without open and aborted transactions.
    case readCommitted = 1
}

/// What was read of one partition.
package struct FetchReply: Sendable {
    package var error: ErrorCode
    package var highWatermark: Offset
    package var lastStableOffset: Offset
    package var logStartOffset: Offset
    package var parts: [FetchPart] = []
    package var byteCount = 0
    /// Set where the client's log and ours went apart (KIP-595).
    package var divergingEpoch: EpochEnd?
    /// The broker whose replica the consumer should read instead (KIP-392); -1 for none.
    package var preferredReadReplica: Int32 = -1
    package var hint: LeaderHint = .unknown

    /// A refusal.
    package static func refused(_ error: ErrorCode, hint: LeaderHint = .unknown) -> FetchReply {
        FetchReply(
            error: error,
            highWatermark: Offset(-1),
            lastStableOffset: Offset(-1),
            logStartOffset: Offset(-1),
            hint: hint
        )
    }
}

/// The readable end that a waiting fetch knows of.
package struct FetchWatch: Sendable {
    package var partition: TopicPartition
    package var isolation: IsolationLevel
    /// Whether the consumer names a rack, so that a follower may answer it.
    package var hasRack: Bool
    /// Wakes when the readable end is above this.
    package var knownEnd: Offset
}

/// A lookup by time in one partition.
package struct ListOffsetsCall: Sendable {
    package var partition: TopicPartition
    package var isolation: IsolationLevel
    package var currentLeaderEpoch: Int32
    /// Milliseconds, or one of Kafka's special values below zero.
    package var timestamp: Int64
}

/// The answer to a lookup by time.
package struct ListOffsetsReply: Sendable {
    package var error: ErrorCode
    package var offset: Int64 = -1
    package var timestamp: Int64 = -1
    package var leaderEpoch: Int32 = -1
}

/// Asks where an epoch ends in one partition.
package struct EpochEndCall: Sendable {
    package var partition: TopicPartition
    package var currentLeaderEpoch: Int32
    package var epoch: Int32
}

/// An epoch and the offset after its last record.
package struct EpochEnd: Hashable, Sendable {
    package var epoch: Int32
    package var endOffset: Int64

    /// Nothing is known.
    package static let unknown = EpochEnd(epoch: -1, endOffset: -1)
}

/// The answer to an epoch lookup.
package struct EpochEndReply: Sendable {
    package var error: ErrorCode
    package var end: EpochEnd = .unknown
}

/// Asks to forget the records before an offset.
package struct DeleteRecordsCall: Sendable {
    package var partition: TopicPartition
    /// The new start; -1 means the high watermark.
    package var offset: Int64
}

/// The log's start after a deletion.
package struct DeleteRecordsReply: Sendable {
    package var error: ErrorCode
    package var lowWatermark: Int64 = -1
}

/// How many bytes a partition holds on this broker.
package struct LogSize: Sendable {
    package var partition: TopicPartition
    package var byteCount: Int64
    package var error: ErrorCode = .noError
}

/// The producers that a partition knows.
package struct ProducersReply: Sendable {
    package var error: ErrorCode
    package var producers: [ProducerDescription] = []
}

/// A leadership that goes from one broker to another.
package struct LeaderTransfer: Hashable, Sendable {
    package var partition: TopicPartition
    /// Who leads now.
    package var leader: BrokerID
    /// Who shall lead.
    package var target: GroupMember
}
