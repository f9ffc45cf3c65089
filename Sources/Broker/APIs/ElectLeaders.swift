import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// ElectLeaders (43): a preferred election is a transfer of leadership. SEMANTICS rule ADM-1.
extension Shard {
    /// What the image and the leaders say about one election.
    private enum Election {
        case decided(ErrorCode, String)
        /// The leader must hand over.
        case transfer(LeaderTransfer)
    }

    /// How long a transfer that succeeded may take to be known here, so that clients see it when they are answered.
    private static let electionWait = Duration.seconds(1)

    func handle(_ request: ElectLeadersRequest, _ context: RequestContext) {
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
            case .transfer(let transfer):
                self.elect(transfer, then: done)
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

    private func elect(_ transfer: LeaderTransfer, then done: @escaping (Refusal) -> Void) {
        transferLeadership(transfer) { [unowned self] refusal in
            if let refusal { return done(refusal) }
            self.wait(atMost: Self.electionWait) { [unowned self] in
                self.hint(for: transfer.partition).leader == transfer.target.broker.rawValue
            } then: {
                done(Refusal(.noError, ""))
            }
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
        // One that does not answer leads nobody.
        let leader = leadership.leader(of: partition)?.leader.flatMap { isReachable($0) ? $0 : nil }
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
        guard let leader, isReachable(preferred.broker), !place.adding.contains(preferred) else {
            return .decided(
                .preferredLeaderNotAvailable,
                "\(name) has no leader that could hand over, or its preferred replica is not there or not complete"
            )
        }
        return .transfer(
            LeaderTransfer(partition: partition, leader: leader, target: preferred)
        )
    }
}
