import FlotillaModel

// Changing who belongs to the group (§4.3), one change at a time.

extension Raft {
    /// Begins to change the membership: learners in one step, voters through a joint membership.
    ///
    /// A change needs a committed entry of the leader's term and no other change in the log.
    /// Without the first, two leaders could each commit a change that the other's quorum never
    /// heard of; without the second, quorums of successive memberships need not overlap.
    ///
    /// - Source: Ongaro (2014), §4.3, and the correction to single-server changes that he posted to
    ///   raft-dev in July 2015.
    mutating func changeMembership(
        voters: [GroupMember],
        learners: [GroupMember],
        into effects: inout [Effect]
    ) {
        if let rejection = reasonToReject(voters: voters, learners: learners) {
            effects.append(.membershipChangeFailed(rejection))
            return
        }
        wake(into: &effects)
        leading.isChangingMembership = true
        let target = Membership(voters: voters, learners: learners)
        if target.voters == membership.voters {
            enter(target, into: &effects)
        } else {
            let joint = Membership(
                voters: voters,
                outgoingVoters: membership.voters,
                learners: learners
            )
            enter(joint, into: &effects)
        }
    }

    private func reasonToReject(voters: [GroupMember], learners: [GroupMember]) -> Rejection? {
        guard case .leader(let leader) = state else {
            return .notLeader(leader)
        }
        guard leader.isReady else {
            return .notReady
        }
        guard leader.transfer == nil else {
            return .transferring
        }
        guard !membership.isJoint, log.membershipIndex <= commitIndex else {
            return .membershipChanging
        }
        let everybody = (voters + learners).sorted()
        guard !voters.isEmpty, zip(everybody, everybody.dropFirst()).allSatisfy({ $0 != $1 }),
            Membership(voters: voters, learners: learners) != membership
        else {
            return .invalidMembership
        }
        let laggard = voters.first { !membership.isVoter($0) && !isCaughtUp($0) }
        return laggard.map { .notCaughtUp($0) }
    }

    /// Whether a learner holds nearly everything that is committed.
    private func isCaughtUp(_ learner: GroupMember) -> Bool {
        guard let progress = progress(of: learner), progress.state == .replicate else {
            return false
        }
        return progress.match + settings.promotionLag >= commitIndex
    }

    /// Puts a membership into the log; it is in effect from here on.
    private mutating func enter(_ membership: Membership, into effects: inout [Effect]) {
        let known = leading.progress
        // Members that leave get no entry any more; those that come are probed from the log's end.
        leading.progress = membership.allMembers.filter { $0 != member }.map { other in
            known.first { $0.member == other } ?? Progress(member: other, next: lastIndex.next)
        }
        effects.append(.membershipChanged(membership, at: lastIndex.next))
        let entry = ProposedEntry(
            kind: .membership(membership),
            byteCount: ProposedEntry.ownByteCount
        )
        appendOwn(.membership(membership), [entry], into: &effects)
    }

    /// Takes the next step once the membership in effect is committed.
    ///
    /// A leader that finds a joint membership in its log finishes it, whoever began it.
    mutating func advanceMembershipChange(into effects: inout [Effect]) {
        guard leading.isReady, log.membershipIndex <= commitIndex else {
            return
        }
        if membership.isJoint {
            enter(membership.settled, into: &effects)
            return
        }
        if leading.isChangingMembership {
            leading.isChangingMembership = false
            effects.append(.membershipChangeFinished(membership))
        }
        if !membership.isVoter(member) {
            retire(into: &effects)
        }
    }

    /// A leader that is no voter any more leaves the group to the one with most of the log.
    ///
    /// - Source: Ongaro (2014), §4.2.2.
    private mutating func retire(into effects: inout [Effect]) {
        if let successor = bestSuccessor() {
            let order = Message.timeoutNow(TimeoutNow(term: term))
            effects.append(.send(order, to: successor, after: nil))
        }
        follow(nil, in: term, into: &effects)
    }
}
