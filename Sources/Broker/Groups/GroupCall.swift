package import FlotillaCoordination
package import FlotillaModel
import struct NIOCore.ByteBuffer

/// A question to the coordinator of a group, on the shard where the group's partition of `__consumer_offsets` lives.
package struct GroupCall: Sendable {
    package var partition: TopicPartition
    package var group: String
    package var question: Question

    /// What is asked.
    package enum Question: Sendable {
        case join(JoinRequest)
        case sync(SyncRequest)
        case heartbeat(GroupMembership)
        /// A member of the consumer protocol is there.
        case consumerHeartbeat(ConsumerHeartbeat)
        case leave([LeavingMember])
        /// Offsets that are to be remembered; `.committed` answers for each, `.error` for all of them.
        case commit([OffsetCommit], by: GroupMembership)
        /// What was committed; nil for everything. Whoever names itself has to be a member.
        case offsets([OffsetKey]?, by: GroupMembership?)
        case deleteOffsets([OffsetKey])
        case describe
        /// Asks about a group of the consumer protocol.
        case describeConsumer
        /// What happened to it lately.
        case history
        /// What it has committed, for a look that need not be exact.
        case commits
        case delete
    }
}

/// A member as it names itself.
package struct GroupMembership: Hashable, Sendable {
    package var member: String
    package var instanceID: String?
    /// The generation, or the member's epoch in a group of the consumer protocol; below 0 for somebody who is no member.
    package var generation: Int32
    /// Whether it speaks a version of the API that knows of epochs.
    package var knowsEpochs = false
}

/// A member that goes, or is made to go.
package struct LeavingMember: Hashable, Sendable {
    package var member: String
    package var instanceID: String?
}

/// An offset that is to be remembered; the coordinator adds the time.
package struct OffsetCommit: Hashable, Sendable {
    package var key: OffsetKey
    package var topic: TopicID
    package var offset: Int64
    package var leaderEpoch: Int32
    package var metadata: String
    /// How long it is to be kept; nil for as long as others.
    package var retentionMillis: Int64?
}

/// What a coordinator answers.
package enum GroupAnswer: Sendable {
    case joined(JoinAnswer)
    case synced(SyncAnswer)
    /// One error for each member that was to go.
    case left([ErrorCode])
    /// Commits in the order of the question, nil where there is none; by topic and partition where all were asked for.
    case offsets([(key: OffsetKey, offset: CommittedOffset?)])
    /// One error for each commit.
    case committed([ErrorCode])
    /// One error for each partition.
    case deletedOffsets([ErrorCode])
    case described(GroupDescription)
    case describedConsumer(ConsumerGroupDescription)
    case history(GroupHistoryReply)
    case commits(GroupPositions)
    /// What a member of the consumer protocol is told.
    case heartbeat(ConsumerHeartbeatAnswer)
    /// Why it is refused.
    case refused(HeartbeatRefusal)
    /// Done, or a refusal of any question.
    case error(ErrorCode)
}

/// A group as tools are told of it.
package struct GroupDescription: Sendable {
    package var name: String
    package var phase: ClassicGroup.Phase
    package var protocolType: String
    package var protocolName: String
    package var members: [ClassicGroup.MemberDescription]
}

/// A group of the consumer protocol as tools are told of it.
package struct ConsumerGroupDescription: Sendable {
    package var name: String
    package var phase: ConsumerGroup.Phase
    package var assignor: String
    package var state: ConsumerGroupState
}

/// Which protocol a group uses.
package enum GroupType: String, Sendable {
    case classic, consumer
}

/// A group in a list.
package struct GroupListing: Hashable, Sendable {
    package var name: String
    package var type: GroupType
    package var protocolType: String
    /// How far it is, in Kafka's words.
    package var state: String
}
