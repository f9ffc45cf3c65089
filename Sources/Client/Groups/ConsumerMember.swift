import FlotillaKafkaWire
import FlotillaModel

/// Where a member of a group of the consumer protocol stands: what it was told, what it says, and what follows from each
/// answer.
///
/// The member names itself, and says in heartbeats what it reads; the coordinator answers with what it is to read, and with
/// an epoch that rises when the member has followed. Pure: `GroupConsumer` asks, and does what is said here.
///
/// - Source: KIP-848.
struct ConsumerMember: Sendable {
    /// What an answer means.
    enum Verdict: Hashable, Sendable {
        case fine
        /// The share has changed.
        case newShare
        /// The group does not know the member's share as its own any more.
        case isLost
        /// Somebody else coordinates, or nobody yet.
        case coordinatorMoved
        /// It will be the same next time.
        case fails(ClientError)
    }

    private static let joinEpoch: Int32 = 0
    private static let leaveEpoch: Int32 = -1
    /// A static member that comes back.
    private static let pauseEpoch: Int32 = -2
    /// Until the coordinator says how often.
    private static let firstInterval = Duration.seconds(5)

    private let configuration: GroupConfiguration
    let memberID: String
    private(set) var epoch = joinEpoch
    private(set) var interval = firstInterval
    /// What the member is to read; nil until it was told.
    private(set) var target: Set<TopicPartition>?
    /// Whether what it still reads is not its own any more.
    private(set) var hasLostShare = false
    /// Whether the coordinator has been heard since the member last joined.
    private var isKnown = false
    /// What the coordinator knows that the member reads; nil where everything is to be said again.
    private var reported: Set<TopicPartition>?

    init(_ configuration: GroupConfiguration, memberID: String = newMemberID()) {
        self.configuration = configuration
        self.memberID = memberID
    }

    /// A random id as Kafka's clients make them: a version 4 UUID in 22 characters that no shell takes for an option.
    static func newMemberID() -> String {
        while true {
            let high = UInt64.random(in: .min ... .max) & ~0xF000 | 0x4000
            let low = UInt64.random(in: .min ... .max) & ~(3 << 62) | 2 << 62
            let text = TopicID(high: high, low: low).description
            if !text.hasPrefix("-") { return text }
        }
    }

    // MARK: What it says

    /// The next heartbeat, by which the member tells what has changed: all when it joins, or after a failure.
    func heartbeat(reading owned: Set<TopicPartition>) -> ConsumerGroupHeartbeatRequest {
        precondition(!hasLostShare, "what is lost is given up before the member joins")
        var request = ConsumerGroupHeartbeatRequest(
            groupId: configuration.group,
            memberId: memberID,
            memberEpoch: epoch,
            instanceId: configuration.instanceID
        )
        if epoch == Self.joinEpoch || reported == nil {
            request.rackId = configuration.fetching.rack
            request.rebalanceTimeoutMs = Int32(
                clamping: configuration.maximumPollInterval.milliseconds
            )
            request.subscribedTopicNames = configuration.topics
            if case .pattern(let pattern) = configuration.subscription {
                request.subscribedTopicRegex = pattern
            }
            request.serverAssignor = configuration.serverAssignor
        }
        if epoch == Self.joinEpoch {
            request.topicPartitions = []
        } else if reported != owned {
            request.topicPartitions = Self.byTopic(owned)
        }
        return request
    }

    /// The last heartbeat: a static member only pauses; nil where nobody knows the member.
    var farewell: ConsumerGroupHeartbeatRequest? {
        guard isKnown else { return nil }
        return ConsumerGroupHeartbeatRequest(
            groupId: configuration.group,
            memberId: memberID,
            memberEpoch: configuration.instanceID == nil ? Self.leaveEpoch : Self.pauseEpoch,
            instanceId: configuration.instanceID
        )
    }

    private static func byTopic(
        _ partitions: Set<TopicPartition>
    ) -> [ConsumerGroupHeartbeatRequest.TopicPartitions] {
        Dictionary(grouping: partitions) { $0.topic }.sorted { $0.key < $1.key }.map {
            .init(topicId: $0, partitions: $1.map(\.partition).sorted())
        }
    }

    // MARK: Answers

    /// The answer to a heartbeat that said that the member reads `owned`.
    mutating func take(
        _ response: ConsumerGroupHeartbeatResponse,
        to owned: Set<TopicPartition>
    ) -> Verdict {
        guard response.errorCode == 0 else {
            return judge(response.errorCode, response.errorMessage)
        }
        isKnown = true
        reported = epoch == Self.joinEpoch ? [] : owned
        epoch = response.memberEpoch
        if response.heartbeatIntervalMs > 0 {
            interval = .milliseconds(Int64(response.heartbeatIntervalMs))
        }
        guard let assignment = response.assignment else { return .fine }
        let told = Set(
            assignment.topicPartitions.flatMap { topic in
                topic.partitions.map { TopicPartition(topic: topic.topicId, partition: $0) }
            }
        )
        defer { target = told }
        return told == target ? .fine : .newShare
    }

    private mutating func judge(_ code: Int16, _ message: String?) -> Verdict {
        reported = nil
        let known = ErrorCode(rawValue: code) ?? .unknownServerError
        let error = ClientError.refused(
            known,
            subject: "group \(configuration.group)",
            message: message
        )
        switch known {
        case .fencedMemberEpoch, .unknownMemberId:
            lose()
            return .isLost
        case .groupIdNotFound where epoch != Self.joinEpoch:
            // Its last member was given up, and the group with it.
            lose()
            return .isLost
        case .fencedInstanceId:
            // What it had is another's, which goes by its static name.
            lose()
            return .fails(error)
        case _ where known.isRetriable: return .coordinatorMoved
        default: return .fails(error)
        }
    }

    /// A heartbeat has no answer: whether it arrived is not known, so everything is said again.
    mutating func missAnswer() {
        reported = nil
    }

    /// Leaves: what it has is not its own any more, and it begins again when that is given up.
    mutating func leave() {
        lose()
    }

    private mutating func lose() {
        epoch = Self.joinEpoch
        isKnown = false
        reported = nil
        target = nil
        hasLostShare = true
    }

    /// What was lost is not read any more.
    mutating func forgetLoss() {
        hasLostShare = false
    }
}
