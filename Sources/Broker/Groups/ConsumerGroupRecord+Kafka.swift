import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel
import struct NIOCore.ByteBuffer

/// Facts about groups of the consumer protocol in the form of Kafka's records.
///
/// | key type | fact |
/// |---|---|
/// | 3 | the group's epoch; without a value the group is gone |
/// | 4 | the topics that its members want |
/// | 5 | a member |
/// | 6 | the target's epoch |
/// | 7 | what a member is to have |
/// | 8 | what a member has |
/// - Source: Kafka's `ConsumerGroup…Key` and `ConsumerGroup…Value`.
extension ConsumerGroupRecord {
    /// The key types.
    enum KeyType {
        static let epoch: Int16 = 3
        static let topics: Int16 = 4
        static let member: Int16 = 5
        static let targetEpoch: Int16 = 6
        static let target: Int16 = 7
        static let current: Int16 = 8
        /// All of them.
        static let all = epoch...current
    }

    /// The only version of the values.
    private static let version: Int16 = 0

    // MARK: Writing

    /// The key of the group itself.
    static func groupKey(_ group: String) throws(WireError) -> ByteBuffer {
        try ConsumerGroupMetadataKey(groupId: group).versionPrefixed(version: KeyType.epoch)
    }

    func key(in group: String) throws(WireError) -> ByteBuffer {
        switch self {
        case .epoch: try Self.groupKey(group)
        case .topics:
            try ConsumerGroupPartitionMetadataKey(groupId: group)
                .versionPrefixed(version: KeyType.topics)
        case .member(let id, _):
            try ConsumerGroupMemberMetadataKey(groupId: group, memberId: id)
                .versionPrefixed(version: KeyType.member)
        case .targetEpoch:
            try ConsumerGroupTargetAssignmentMetadataKey(groupId: group)
                .versionPrefixed(version: KeyType.targetEpoch)
        case .target(let id, _):
            try ConsumerGroupTargetAssignmentMemberKey(groupId: group, memberId: id)
                .versionPrefixed(version: KeyType.target)
        case .current(let id, _):
            try ConsumerGroupCurrentMemberAssignmentKey(groupId: group, memberId: id)
                .versionPrefixed(version: KeyType.current)
        }
    }

    func value() throws(WireError) -> ByteBuffer? {
        switch self {
        case .member(_, nil), .target(_, nil), .current(_, nil): nil
        case .epoch(let epoch):
            try ConsumerGroupMetadataValue(epoch: epoch).versionPrefixed(version: Self.version)
        case .topics(let topics):
            try ConsumerGroupPartitionMetadataValue(
                topics: topics.sorted { $0.key < $1.key }.map { id, topic in
                    .init(
                        topicId: id,
                        topicName: topic.name,
                        numPartitions: topic.partitionCount
                    )
                }
            ).versionPrefixed(version: Self.version)
        case .member(_, let subscription?):
            try ConsumerGroupMemberMetadataValue(subscription)
                .versionPrefixed(version: Self.version)
        case .targetEpoch(let epoch):
            try ConsumerGroupTargetAssignmentMetadataValue(assignmentEpoch: epoch)
                .versionPrefixed(version: Self.version)
        case .target(_, let target?):
            try ConsumerGroupTargetAssignmentMemberValue(
                topicPartitions: target.byTopic.map { .init(topicId: $0, partitions: $1) }
            ).versionPrefixed(version: Self.version)
        case .current(_, let current?):
            try ConsumerGroupCurrentMemberAssignmentValue(
                memberEpoch: current.epoch,
                previousMemberEpoch: current.previousEpoch,
                state: current.phase.rawValue,
                assignedPartitions: current.assigned.byTopic.map {
                    .init(topicId: $0, partitions: $1)
                },
                partitionsPendingRevocation: current.revoking.byTopic.map {
                    .init(topicId: $0, partitions: $1)
                }
            ).versionPrefixed(version: Self.version)
        }
    }

    // MARK: Reading

    /// The fact of a record, and whose it is; nil in place of the fact where the group is gone.
    static func read(
        _ type: Int16,
        _ key: ByteBuffer,
        _ value: ByteBuffer?
    ) throws(WireError) -> (group: String, record: ConsumerGroupRecord?) {
        switch type {
        case KeyType.epoch:
            let group = try ConsumerGroupMetadataKey(versionPrefixed: key).groupId
            guard let value else { return (group, nil) }
            return (group, .epoch(try ConsumerGroupMetadataValue(versionPrefixed: value).epoch))
        case KeyType.topics:
            let group = try ConsumerGroupPartitionMetadataKey(versionPrefixed: key).groupId
            return (group, .topics(try topics(value)))
        case KeyType.member:
            let key = try ConsumerGroupMemberMetadataKey(versionPrefixed: key)
            return (key.groupId, .member(key.memberId, try subscription(value)))
        case KeyType.targetEpoch:
            let group = try ConsumerGroupTargetAssignmentMetadataKey(versionPrefixed: key).groupId
            let epoch = try value.map { value throws(WireError) in
                try ConsumerGroupTargetAssignmentMetadataValue(versionPrefixed: value)
                    .assignmentEpoch
            }
            return (group, .targetEpoch(epoch ?? 0))
        case KeyType.target:
            let key = try ConsumerGroupTargetAssignmentMemberKey(versionPrefixed: key)
            return (key.groupId, .target(key.memberId, try target(value)))
        default:
            let key = try ConsumerGroupCurrentMemberAssignmentKey(versionPrefixed: key)
            return (key.groupId, .current(key.memberId, try current(value)))
        }
    }

    private static func topics(
        _ value: ByteBuffer?
    ) throws(WireError) -> [TopicID: SubscribedTopic] {
        guard let value else { return [:] }
        let topics = try ConsumerGroupPartitionMetadataValue(versionPrefixed: value).topics
        return topics.reduce(into: [:]) { result, topic in
            result[topic.topicId] = SubscribedTopic(
                name: topic.topicName,
                partitionCount: topic.numPartitions
            )
        }
    }

    private static func subscription(
        _ value: ByteBuffer?
    ) throws(WireError) -> ConsumerSubscription? {
        guard let value else { return nil }
        return ConsumerSubscription(try ConsumerGroupMemberMetadataValue(versionPrefixed: value))
    }

    private static func target(_ value: ByteBuffer?) throws(WireError) -> Set<TopicPartition>? {
        guard let value else { return nil }
        return Set(
            try ConsumerGroupTargetAssignmentMemberValue(versionPrefixed: value).topicPartitions
                .map { ($0.topicId, $0.partitions) }
        )
    }

    private static func current(_ value: ByteBuffer?) throws(WireError) -> CurrentAssignment? {
        guard let value else { return nil }
        let current = try ConsumerGroupCurrentMemberAssignmentValue(versionPrefixed: value)
        return CurrentAssignment(
            epoch: current.memberEpoch,
            previousEpoch: current.previousMemberEpoch,
            phase: CurrentAssignment.Phase(rawValue: current.state) ?? .stable,
            assigned: Set(current.assignedPartitions.map { ($0.topicId, $0.partitions) }),
            revoking: Set(
                current.partitionsPendingRevocation.map { ($0.topicId, $0.partitions) }
            )
        )
    }
}

extension ConsumerGroupMemberMetadataValue {
    fileprivate init(_ subscription: ConsumerSubscription) {
        self.init(
            instanceId: subscription.instanceID,
            rackId: subscription.rack,
            clientId: subscription.clientID,
            clientHost: subscription.clientHost,
            subscribedTopicNames: subscription.topics,
            subscribedTopicRegex: subscription.pattern,
            rebalanceTimeoutMs: subscription.rebalanceTimeoutMillis,
            serverAssignor: subscription.assignor,
            classicMemberMetadata: subscription.classic.map { classic in
                ClassicMemberMetadata(
                    sessionTimeoutMs: classic.sessionTimeoutMillis,
                    supportedProtocols: classic.protocols.map {
                        .init(name: $0.name, metadata: $0.metadata)
                    }
                )
            }
        )
    }
}

extension ConsumerSubscription {
    fileprivate init(_ value: ConsumerGroupMemberMetadataValue) {
        self.init()
        instanceID = value.instanceId
        rack = value.rackId
        clientID = value.clientId
        clientHost = value.clientHost
        topics = value.subscribedTopicNames
        pattern = value.subscribedTopicRegex
        rebalanceTimeoutMillis = value.rebalanceTimeoutMs
        assignor = value.serverAssignor
        classic = value.classicMemberMetadata.map { classic in
            ClassicSupport(
                sessionTimeoutMillis: classic.sessionTimeoutMs,
                protocols: classic.supportedProtocols.map {
                    GroupProtocol(name: $0.name, metadata: $0.metadata)
                }
            )
        }
    }
}

extension Set<TopicPartition> {
    /// The topics, ascending, with their partitions, ascending: as all messages have them.
    var byTopic: [(topic: TopicID, partitions: [Int32])] {
        var topics: [(topic: TopicID, partitions: [Int32])] = []
        for place in sorted() {
            if topics.last?.topic != place.topic { topics.append((place.topic, [])) }
            topics[topics.count - 1].partitions.append(place.partition)
        }
        return topics
    }

    /// The partitions of some topics.
    init(_ topics: [(topic: TopicID, partitions: [Int32])]) {
        self.init()
        for (topic, partitions) in topics {
            for partition in partitions {
                insert(TopicPartition(topic: topic, partition: partition))
            }
        }
    }
}
