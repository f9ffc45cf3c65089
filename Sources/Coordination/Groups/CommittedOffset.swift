package import FlotillaModel

/// How far a group has come in a partition, as its last commit said.
package struct CommittedOffset: Hashable, Sendable {
    /// The next offset to read; not compared with the log.
    package var offset: Int64
    /// The leader epoch of the last record read; -1 when the client gave none.
    package var leaderEpoch: Int32
    /// The client's note.
    package var metadata: String
    /// When the coordinator took the commit.
    package var commitTime: Timestamp
    /// When it is to be forgotten, where the client said so (OffsetCommit versions 2 to 4).
    package var expiryTime: Timestamp?

    /// States a commit.
    package init(
        offset: Int64,
        leaderEpoch: Int32 = -1,
        metadata: String = "",
        commitTime: Timestamp,
        expiryTime: Timestamp? = nil
    ) {
        self.offset = offset
        self.leaderEpoch = leaderEpoch
        self.metadata = metadata
        self.commitTime = commitTime
        self.expiryTime = expiryTime
    }
}

/// A partition by its topic's name: what commits are kept by, as in Kafka's records.
package struct OffsetKey: Hashable, Comparable, Sendable {
    /// The topic's name.
    package var topic: String
    /// The partition's number.
    package var partition: Int32

    /// Names a partition.
    package init(topic: String, partition: Int32) {
        self.topic = topic
        self.partition = partition
    }

    /// By topic, then by number.
    package static func < (left: OffsetKey, right: OffsetKey) -> Bool {
        (left.topic, left.partition) < (right.topic, right.partition)
    }
}
