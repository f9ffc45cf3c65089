import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// DescribeQuorum (55): the metadata group. SEMANTICS rule ADM-6.
extension Shard {
    /// Kafka's name of the metadata log.
    static let metadataTopicName = "__cluster_metadata"

    /// How long the group may take to be described: longer than an election, and short enough for somebody who asks what
    /// is wrong.
    private static let quorumWait = Duration.seconds(1)

    func handle(_ request: DescribeQuorumRequest, _ context: RequestContext) {
        ask(0, .metadata(.describeQuorum, within: Self.quorumWait)) { [unowned self] reply in
            guard case .metadata(let reply) = reply else {
                preconditionFailure("a command is answered as one")
            }
            switch reply {
            case .quorum(let quorum): self.respond(request, context, quorum)
            case .refused(let refusal):
                // Kafka's clients know this code here: whoever leads the group is asked, and none was there to answer.
                context.respond(
                    DescribeQuorumResponse(
                        errorCode: ErrorCode.notLeaderOrFollower.rawValue,
                        errorMessage: refusal.message
                    )
                )
            case .topics, .deletions, .configs, .producerIDs, .registered, .reassignments, .member,
                .index, .done:
                preconditionFailure("a quorum is described or not")
            }
        }
    }

    private func respond(
        _ request: DescribeQuorumRequest,
        _ context: RequestContext,
        _ quorum: QuorumDescription
    ) {
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
            logEndOffset: member.logEndIndex == .zero
                ? -1 : Int64(clamping: member.logEndIndex.rawValue),
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
