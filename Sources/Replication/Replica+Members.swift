package import FlotillaEnvironment
package import FlotillaModel
package import FlotillaRaft
import FlotillaRecords
import FlotillaStorage

// Links to the other members, and what the layers above ask of the group.

extension Replica {
    // MARK: Links

    /// The link to a broker broke, or its beat went unanswered.
    package func peerLost(_ broker: BrokerID) {
        for other in members(on: broker) { step(.unreachable(other)) }
    }

    /// The link to a broker is up again, or the broker came back as a new incarnation.
    package func peerBack(_ broker: BrokerID) {
        for other in members(on: broker) { step(.reachable(other)) }
    }

    private func members(on broker: BrokerID) -> [GroupMember] {
        raft.membership.allMembers.filter { $0.broker == broker && $0 != member }
    }

    /// Ends quiet: ticks count again.
    package func wake() {
        step(.wake)
    }

    /// Whether the group spends neither messages nor timeouts; it then needs no ticks.
    package var isQuiet: Bool { raft.isQuiet }

    /// Whether the replica may vote and lead.
    package var isElectable: Bool { raft.isElectable }

    /// The journal's rounds take longer than half an election timeout: somebody else should lead.
    package func diskIsSlow() {
        step(.diskSlow)
    }

    // MARK: Leadership and members

    /// Campaigns without waiting for the election timeout.
    package func campaign() {
        step(.campaign)
    }

    /// Has another voter lead: `target`, or the one with the most of the log.
    ///
    /// `completion`: called once, with the new leader, or with why it stayed.
    package func transferLeadership(
        to target: GroupMember?,
        then completion: @escaping (Result<GroupMember, ReplicationError>) -> Void = { _ in }
    ) {
        guard !hasFailed else { return completion(.failure(Self.closed)) }
        guard requests.transfer == nil else {
            return completion(.failure(.rejected(.transferring)))
        }
        requests.transfer = completion
        step(.transferLeadership(to: target))
    }

    /// Changes who belongs to the group, voters by way of a joint membership.
    ///
    /// `completion`: called once: when the new membership is committed, or with why it is not; after lost leadership it
    /// may come about all the same.
    package func changeMembership(
        voters: [GroupMember],
        learners: [GroupMember],
        then completion: @escaping (Result<Membership, ReplicationError>) -> Void
    ) {
        guard !hasFailed else { return completion(.failure(Self.closed)) }
        guard requests.membershipChange == nil else {
            return completion(.failure(.rejected(.membershipChanging)))
        }
        requests.membershipChange = completion
        step(.changeMembership(voters: voters, learners: learners))
    }

    /// Whether the members that the newest entry names are those that a quorum agreed on.
    package var isMembershipCommitted: Bool { raft.log.membershipIndex <= raft.commitIndex }

    /// Waits until a read of the state machine sees everything that was acknowledged before this call.
    ///
    /// `completion`: called once, when the state machine is that far, with the index.
    package func readIndex(
        then completion: @escaping (Result<LogIndex, ReplicationError>) -> Void
    ) {
        guard !hasFailed else { return completion(.failure(Self.closed)) }
        step(.readIndex(requestID: requests.open(completion)))
    }

    /// What became of what was asked for.
    func answer(_ effect: Effect) {
        switch effect {
        case .membershipChangeFinished(let membership):
            requests.takeMembershipChange()?(.success(membership))
        case .membershipChangeFailed(let rejection):
            requests.takeMembershipChange()?(.failure(.rejected(rejection)))
        case .transferFinished(let target, let succeeded):
            requests.takeTransfer()?(
                succeeded ? .success(target) : .failure(.rejected(.notEligible))
            )
        case .transferRejected(let rejection):
            requests.takeTransfer()?(.failure(.rejected(rejection)))
        case .readReady(let id, let index):
            requests.confirm(id, at: index)
        case .readFailed(let id, let rejection):
            requests.takeRead(id)?(.failure(.rejected(rejection)))
        default:
            preconditionFailure("only answers come here")
        }
    }

    // MARK: Progress

    /// Where every member stands, as this leader knows; empty when it does not lead.
    package var progress: [MemberProgress] {
        guard raft.role == .leader else { return [] }
        return raft.membership.allMembers.map { other in
            let known = raft.progress(of: other)
            let match = other == member ? raft.flushedIndex : known?.match ?? .zero
            let sighting = sightings[other]
            // Of a group at rest nobody says anything: all have everything, and the brokers' beat vouches for them.
            let isCurrent = other == member || (raft.isQuiet && known?.isReachable == true)
            return MemberProgress(
                member: other,
                isVoter: raft.membership.isVoter(other),
                matchIndex: match,
                endOffset: endOffset(at: match),
                isReachable: known?.isReachable ?? true,
                awaitsFiles: known?.state == .snapshot,
                lastHeard: isCurrent ? host.now : sighting?.heard,
                lastCaughtUp: isCurrent ? host.now : sighting?.caughtUp
            )
        }
    }

    private func endOffset(at index: LogIndex) -> Offset? {
        if index == .zero { return .zero }
        return index == log.lastIndex ? log.logEndOffset : log.frame(at: index)?.endOffset
    }
}

/// Where a member of a group stands.
package struct MemberProgress: Hashable, Sendable {
    /// Who.
    package var member: GroupMember
    /// Whether it counts in quorums; otherwise it only learns.
    package var isVoter: Bool
    /// The last entry that it has durably and that equals the leader's.
    package var matchIndex: LogIndex
    /// The offset after that entry; nil when the leader does not have it in memory.
    package var endOffset: Offset?
    /// Whether the link to it is up.
    package var isReachable: Bool
    /// Whether it lacks more than entries can bring.
    package var awaitsFiles: Bool
    /// When it was last heard; nil if never since this replica leads.
    package var lastHeard: Instant?
    /// The last time that it was known to have everything the leader had shortly before.
    package var lastCaughtUp: Instant?
}
