import FlotillaModel

// Handing leadership over (§3.10).

extension Raft {
    /// Stops taking proposals, brings the target to the log's end, and tells it to campaign.
    mutating func transferLeadership(to wanted: GroupMember?, into effects: inout [Effect]) {
        guard case .leader(let leader) = state else {
            effects.append(.transferRejected(.notLeader(self.leader)))
            return
        }
        if let rejection = reasonToRejectTransfer(of: leader) {
            effects.append(.transferRejected(rejection))
            return
        }
        guard let target = wanted ?? bestSuccessor(), target != member,
            membership.isVoter(target), leader.slot(of: target) != nil
        else {
            effects.append(.transferRejected(.notEligible))
            return
        }
        wake(into: &effects)
        leading.transfer = LeaderState.Transfer(target: target)
        advanceTransfer(into: &effects)
    }

    private func reasonToRejectTransfer(of leader: LeaderState) -> Rejection? {
        if !leader.isReady {
            return .notReady
        }
        if leader.transfer != nil {
            return .transferring
        }
        return membership.isJoint || log.membershipIndex > commitIndex ? .membershipChanging : nil
    }

    /// Tells the target to campaign once it has the whole log, durably.
    mutating func advanceTransfer(into effects: inout [Effect]) {
        guard case .leader(let leader) = state, let transfer = leader.transfer,
            !transfer.hasToldTarget, progress(of: transfer.target)?.match == lastIndex
        else {
            return
        }
        leading.transfer?.hasToldTarget = true
        let order = Message.timeoutNow(TimeoutNow(term: term))
        effects.append(.send(order, to: transfer.target, after: nil))
    }

    /// A hand-over that takes too long ends, and the leader takes proposals again.
    mutating func tickTransfer(into effects: inout [Effect]) {
        guard let transfer = leading.transfer else {
            return
        }
        leading.transfer?.elapsedTicks += 1
        if transfer.elapsedTicks + 1 >= settings.transferTimeoutTicks {
            leading.transfer = nil
            effects.append(.transferFinished(to: transfer.target, succeeded: false))
        }
    }

    /// The leader wants this member to lead: it campaigns at once, and a live leader is no
    /// obstacle.
    mutating func handleTimeoutNow(from sender: GroupMember, into effects: inout [Effect]) {
        guard case .follower(let follower) = state,
            follower.leader == sender || follower.leader == nil,
            mayCampaign
        else {
            return
        }
        campaign(isTransfer: true, into: &effects)
    }

    /// A leader whose disk is slow leads slowly; somebody else may do better.
    mutating func handOver(into effects: inout [Effect]) {
        guard case .leader(let leader) = state, reasonToRejectTransfer(of: leader) == nil,
            bestSuccessor() != nil
        else {
            return
        }
        transferLeadership(to: nil, into: &effects)
    }

    /// The reachable voter with the most of the log; the first of several.
    func bestSuccessor() -> GroupMember? {
        var best: Progress?
        for other in leading.progress
        where other.isReachable && other.state == .replicate && membership.isVoter(other.member) {
            if best.map({ other.match > $0.match }) ?? true {
                best = other
            }
        }
        return best?.member
    }
}
