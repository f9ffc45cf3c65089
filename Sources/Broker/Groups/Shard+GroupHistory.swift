package import FlotillaCoordination
import FlotillaModel

/// Questions about groups that Kafka's protocol has no words for, asked of any broker.
extension Shard {
    /// Where a group is coordinated; or why nobody can tell.
    func groupPlace(of group: String) -> Result<(place: GroupPlace, coordinator: BrokerID), Refusal>
    {
        guard let partition = groupPartition(of: group) else {
            // The topic is made for the first group.
            return .failure(Refusal(.groupIdNotFound, "there is no group \(group)"))
        }
        guard let leader = leadership.leader(of: partition)?.leader else {
            return .failure(
                Refusal(.coordinatorNotAvailable, "nobody coordinates the group \(group) now")
            )
        }
        return .success((GroupPlace(partition: partition, group: group), leader))
    }

    /// What happened to a group lately, wherever it is coordinated.
    package func groupHistory(
        of group: String,
        then completion: @escaping (Result<GroupHistoryReply, Refusal>) -> Void
    ) {
        askAboutGroup(group, own: ownHistory, elsewhere: { .history($0) }, then: completion) {
            if case .history(let reply) = $0 { reply } else { nil }
        }
    }

    /// Asks a group's coordinator, here or on another broker.
    ///
    /// `own`, `elsewhere`: how it is asked. `read`: what its answer says; nil for the answer to another question.
    func askAboutGroup<Reply>(
        _ group: String,
        own: (GroupPlace, @escaping (PeerAnswer) -> Void) -> Void,
        elsewhere: (GroupPlace) -> PeerQuestion,
        then completion: @escaping (Result<Reply, Refusal>) -> Void,
        reading read: @escaping (PeerAnswer) -> Reply?
    ) {
        let place: GroupPlace
        let coordinator: BrokerID
        switch groupPlace(of: group) {
        case .failure(let refusal): return completion(.failure(refusal))
        case .success(let found): (place, coordinator) = found
        }
        let finish = { (answer: PeerAnswer) in
            if case .refused(let refusal) = answer { return completion(.failure(refusal)) }
            completion(read(answer).map { .success($0) } ?? .failure(.oddity(of: coordinator)))
        }
        if coordinator == settings.broker {
            own(place, finish)
        } else {
            ask(coordinator, elsewhere(place), then: finish)
        }
    }

    /// What this broker remembers of a group that it coordinates.
    func ownHistory(of place: GroupPlace, then completion: @escaping (PeerAnswer) -> Void) {
        let call = GroupCall(partition: place.partition, group: place.group, question: .history)
        ask(settings.shard(of: place.partition), .groups([call])) { reply in
            guard case .groups(let answers) = reply else {
                preconditionFailure("a call about groups is answered as one")
            }
            switch answers[0] {
            case .history(let reply): completion(.history(reply))
            case .error(let code):
                completion(.refused(Self.refusal(code, of: place.group)))
            case .joined, .synced, .left, .offsets, .committed, .deletedOffsets, .described,
                .describedConsumer, .heartbeat, .refused, .commits:
                preconditionFailure("a question is answered as what it is")
            }
        }
    }

    static func refusal(_ code: ErrorCode, of group: String) -> Refusal {
        code == .groupIdNotFound
            ? Refusal(code, "there is no group \(group)")
            : Refusal(code, "the coordinator of group \(group) cannot answer now: \(code)")
    }
}

extension Refusal {
    /// A broker has answered another question than it was asked.
    static func oddity(of broker: BrokerID) -> Refusal {
        Refusal(.unknownServerError, "broker \(broker) answers another question than it was asked")
    }
}
