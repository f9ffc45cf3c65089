package import FlotillaModel

/// How far a group has come in a partition, as its last commit said.
package struct CommittedOffset: Hashable, Sendable {
    /// The next offset to read; not compared with the log.
    package var offset: Int64
    /// The topic that it is for; nil in what programs wrote that kept no more than its name.
    package var topic: CommittedTopic?
    /// The leader epoch of the last record read; -1 when the client gave none.
    package var leaderEpoch: Int32
    /// The client's note.
    package var metadata: String
    /// When the coordinator took the commit, and not before its entry was appended.
    package var commitTime: Timestamp
    /// When it is to be forgotten, where the client said so (OffsetCommit versions 2 to 4).
    package var expiryTime: Timestamp?

    /// States a commit.
    package init(
        offset: Int64,
        topic: CommittedTopic? = nil,
        leaderEpoch: Int32 = -1,
        metadata: String = "",
        commitTime: Timestamp,
        expiryTime: Timestamp? = nil
    ) {
        self.offset = offset
        self.topic = topic
        self.leaderEpoch = leaderEpoch
        self.metadata = metadata
        self.commitTime = commitTime
        self.expiryTime = expiryTime
    }

    /// Has the commit be no older than the entry that it came with.
    ///
    /// A coordinator whose clock is days behind would write commits that the next one takes for days old, and forgets.
    mutating func raiseTime(to time: Timestamp) {
        guard commitTime < time else { return }
        if let expiryTime {
            let (delay, _) = time.rawValue.subtractingReportingOverflow(commitTime.rawValue)
            let (end, isTooFar) = expiryTime.rawValue.addingReportingOverflow(max(delay, 0))
            self.expiryTime = Timestamp(isTooFar ? .max : end)
        }
        commitTime = time
    }

    /// Whether it is for a topic that was deleted, so that it says nothing of another one under the same name.
    ///
    /// A broker that has yet to hear of the topic does not take it for deleted.
    package func isVoid(in image: MetadataImage) -> Bool {
        guard let topic, image.appliedIndex >= topic.knownAt else { return false }
        return image.topic(topic.id) == nil
    }
}

/// The topic of a commit: not another one that was given its name later.
package struct CommittedTopic: Hashable, Sendable {
    /// The topic's id.
    package var id: TopicID
    /// Metadata in which the topic is: where it is not in later ones it was deleted.
    package var knownAt: LogIndex

    /// States a topic.
    package init(id: TopicID, knownAt: LogIndex) {
        self.id = id
        self.knownAt = knownAt
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
