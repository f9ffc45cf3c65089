import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaReplication

/// What others ask the leader of the metadata, and what changes nothing.
extension MetadataService {
    /// Says up to where the metadata is committed now.
    func answerReadIndex(then completion: @escaping (MetadataReply) -> Void) {
        replica.readIndex { result in
            switch result {
            case .success(let index): completion(.index(index))
            case .failure(let error):
                completion(.refused(Refusal(.notController, error.description)))
            }
        }
    }

    /// Says which member a broker is, if any: on a wrong word it would leave the cluster.
    ///
    /// A leader that others have replaced does not know of brokers that came since, nor does one whose disk was set back to an
    /// earlier state: neither answers. A member that the group has yet to let go still counts, and so it stays one.
    func findMember(
        of broker: BrokerID,
        appliedIndex: LogIndex,
        then completion: @escaping (MetadataReply) -> Void
    ) {
        replica.readIndex { [unowned self] result in
            switch result {
            case .success(let index):
                self.after(max(index, appliedIndex)) {
                    self.answerMember(
                        of: broker,
                        appliedIndex: max(index, appliedIndex),
                        completion
                    )
                }
            case .failure(let error):
                completion(.refused(Refusal(.notController, error.description)))
            }
        }
    }

    private func answerMember(
        of broker: BrokerID,
        appliedIndex: LogIndex,
        _ completion: (MetadataReply) -> Void
    ) {
        let image = machine.controller.image
        guard image.appliedIndex >= appliedIndex else {
            return completion(
                .refused(Refusal(.requestTimedOut, "the metadata is behind; ask again"))
            )
        }
        let registered = image.metadataMembers[broker].map {
            GroupMember(broker: broker, epoch: $0.epoch)
        }
        completion(
            .member(registered ?? replica.membership.allMembers.first { $0.broker == broker })
        )
    }

    /// The group, as this leader knows it.
    var quorum: QuorumDescription {
        let clock = shard.environment.clock
        let time = { (instant: Instant?) -> Timestamp in
            guard let instant else { return .none }
            return Timestamp(clock.wallTime.rawValue - (clock.now - instant).wholeMilliseconds)
        }
        let members = replica.progress.map { each in
            (
                isVoter: each.isVoter,
                description: QuorumDescription.Member(
                    member: each.member,
                    // Nothing of it was heard since this broker leads: what it has is not known.
                    logEndIndex: each.matchIndex == .zero && each.lastHeard == nil
                        ? .zero : each.matchIndex.next,
                    lastHeard: time(each.lastHeard),
                    lastCaughtUp: time(each.lastCaughtUp)
                )
            )
        }
        return QuorumDescription(
            leader: shard.settings.broker,
            term: replica.term,
            highWatermark: replica.committedIndex.next,
            voters: members.filter(\.isVoter).map(\.description),
            learners: members.filter { !$0.isVoter }.map(\.description)
        )
    }
}
