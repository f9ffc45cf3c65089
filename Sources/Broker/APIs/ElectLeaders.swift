import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// ElectLeaders (43): a preferred election is a transfer of leadership. SEMANTICS rule ADM-1.
extension Shard {
    /// What the image and the leaders say about one election.
    private enum Election {
        case decided(ErrorCode, String)
        /// The leader must hand over to this member.
        case transfer(TopicPartition, to: GroupMember)
    }

    /// Answers a request.
    ///
    /// `transfer` asks a partition's leader, wherever it is, to hand over, and tells what came of it within `timeoutMs`.
    func handle(
        _ request: ElectLeadersRequest,
        _ context: RequestContext,
        transfer:
            @escaping (
                TopicPartition, GroupMember, @escaping (Result<Void, Refusal>) -> Void
            ) -> Void
    ) {
        let isPreferred = context.version == 0 || request.electionType == 0
        let wanted =
            request.topicPartitions?.map { (name: $0.topic, partitions: $0.partitions) }
            ?? image.topics.map { name, topic in
                (name: name, partitions: topic.partitions.indices.map { Int32($0) })
            }
        let items = wanted.flatMap { topic in topic.partitions.map { (topic.name, $0) } }
        gather(items) { item, done in
            switch self.election(item.0, item.1, isPreferred: isPreferred) {
            case .decided(let code, let message): done(Refusal(code, message))
            case .transfer(let partition, let member):
                transfer(partition, member) { result in
                    switch result {
                    case .success: done(Refusal(.noError, ""))
                    case .failure(let refusal): done(refusal)
                    }
                }
            }
        } then: { (outcomes: [Refusal]) in
            var remaining = outcomes[...]
            let isComplete = request.topicPartitions != nil
            let results = wanted.map { topic in
                ElectLeadersResponse.ReplicaElectionResult(
                    topic: topic.name,
                    partitionResult: topic.partitions.compactMap { number in
                        Self.describe(remaining.removeFirst(), number, isComplete)
                    }
                )
            }
            context.respond(
                ElectLeadersResponse(
                    replicaElectionResults: results.filter {
                        isComplete || !$0.partitionResult.isEmpty
                    }
                )
            )
        }
    }

    /// Who asks for all partitions does not want to hear of those that need no election.
    private static func describe(_ outcome: Refusal, _ number: Int32, _ isComplete: Bool)
        -> ElectLeadersResponse.PartitionResult?
    {
        guard isComplete || outcome.code != .electionNotNeeded else { return nil }
        return .init(
            partitionId: number,
            errorCode: outcome.code.rawValue,
            errorMessage: outcome.code == .noError ? nil : outcome.message
        )
    }

    private func election(_ topic: String, _ number: Int32, isPreferred: Bool) -> Election {
        let name = "\(topic)-\(number)"
        guard let known = image.topic(named: topic),
            known.partitions.indices.contains(Int(number))
        else { return .decided(.unknownTopicOrPartition, "there is no partition \(name)") }
        let place = known.partitions[Int(number)]
        let partition = TopicPartition(topic: known.id, partition: number)
        let leader = leadership.leader(of: partition)?.leader
        guard isPreferred else {
            return leader == nil
                ? .decided(
                    .eligibleLeadersNotAvailable,
                    "no quorum of \(name) is there, and fewer would lose what was acknowledged"
                ) : .decided(.electionNotNeeded, "\(name) has a leader")
        }
        let preferred = place.replicas[0]
        guard leader != preferred.broker else {
            return .decided(.electionNotNeeded, "\(name) is led by its preferred broker")
        }
        guard leader != nil, !place.adding.contains(preferred) else {
            return .decided(
                .preferredLeaderNotAvailable,
                "\(name) has no leader that could hand over, or its preferred replica is not complete"
            )
        }
        return .transfer(partition, to: preferred)
    }
}
