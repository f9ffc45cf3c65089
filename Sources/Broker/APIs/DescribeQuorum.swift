import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// The metadata group as its leader knows it.
struct QuorumDescription: Sendable {
    /// One member and how far it is.
    struct Member: Sendable {
        var member: GroupMember
        /// One past the last entry that it is known to have.
        var logEndIndex: LogIndex
        /// When it was last heard; none when that is not known.
        var lastHeard: Timestamp = .none
        /// When it last had all that was committed; none when that is not known.
        var lastCaughtUp: Timestamp = .none
    }

    var leader: BrokerID
    var term: Term
    /// One past the last committed entry.
    var highWatermark: LogIndex
    var voters: [Member]
    var learners: [Member]
}

/// DescribeQuorum (55): the metadata group. SEMANTICS rule ADM-6.
extension Shard {
    /// Kafka's name of the metadata log.
    static let metadataTopicName = "__cluster_metadata"

    /// Answers a request; `quorum` comes from the metadata group's leader, nil when that is not this broker.
    func handle(
        _ request: DescribeQuorumRequest,
        _ context: RequestContext,
        quorum: QuorumDescription?
    ) {
        guard let quorum else {
            return context.respond(
                DescribeQuorumResponse(
                    errorCode: ErrorCode.notLeaderOrFollower.rawValue,
                    errorMessage: "this broker does not lead the metadata group now; ask again"
                )
            )
        }
        let topics = request.topics.map { topic in
            DescribeQuorumResponse.TopicData(
                topicName: topic.topicName,
                partitions: topic.partitions.map { partition in
                    guard topic.topicName == Self.metadataTopicName, partition.partitionIndex == 0
                    else {
                        return .init(
                            partitionIndex: partition.partitionIndex,
                            errorCode: ErrorCode.unknownTopicOrPartition.rawValue,
                            errorMessage: "only \(Self.metadataTopicName)-0 is described"
                        )
                    }
                    return Self.describe(quorum)
                }
            )
        }
        context.respond(
            DescribeQuorumResponse(
                errorMessage: nil,
                topics: topics,
                nodes: context.version >= 2 ? nodes(of: quorum) : []
            )
        )
    }

    private static func describe(_ quorum: QuorumDescription)
        -> DescribeQuorumResponse.PartitionData
    {
        .init(
            partitionIndex: 0,
            errorMessage: nil,
            leaderId: quorum.leader.rawValue,
            leaderEpoch: quorum.term.leaderEpoch,
            highWatermark: Int64(clamping: quorum.highWatermark.rawValue),
            currentVoters: quorum.voters.map(describe),
            observers: quorum.learners.map(describe)
        )
    }

    private static func describe(_ member: QuorumDescription.Member)
        -> DescribeQuorumResponse.ReplicaState
    {
        .init(
            replicaId: member.member.broker.rawValue,
            // Kafka's directory id tells lives of a replica apart, and so does the creation epoch.
            replicaDirectoryId: TopicID(high: 0, low: member.member.epoch.rawValue),
            logEndOffset: Int64(clamping: member.logEndIndex.rawValue),
            lastFetchTimestamp: member.lastHeard.rawValue,
            lastCaughtUpTimestamp: member.lastCaughtUp.rawValue
        )
    }

    private func nodes(of quorum: QuorumDescription) -> [DescribeQuorumResponse.Node] {
        quorum.voters.compactMap { voter in
            guard let registration = image.brokers[voter.member.broker] else { return nil }
            return .init(
                nodeId: registration.id.rawValue,
                listeners: registration.endpoints.map {
                    .init(name: $0.listener, host: $0.host, port: $0.port)
                }
            )
        }
    }
}
