import FlotillaModel

// Ticks, timeouts, and falling quiet.

extension Raft {
    mutating func tick(into effects: inout [Effect]) {
        if let lost = lostLeader {
            let ticks = lost.ticks - 1
            lostLeader = ticks > 0 ? LostLeader(member: lost.member, ticks: ticks) : nil
        }
        switch state {
        case .leader:
            tickLeader(into: &effects)
        case .follower(let follower):
            guard !follower.isQuiet else {
                return
            }
            following.ticksSinceLeader += 1
            tickElection(into: &effects)
        case .preCandidate, .candidate:
            tickElection(into: &effects)
        }
    }

    private mutating func tickElection(into effects: inout [Effect]) {
        electionElapsed += 1
        if membership.isOnlyVoter(member), role == .follower {
            // Nobody else's vote is needed, so nobody is waited for.
            campaignAtOnce(into: &effects)
            return
        }
        guard electionElapsed >= electionTimeout else {
            return
        }
        resetElectionTimer()
        if case .candidate = state, writes.hardStateTicket != nil {
            // Its own vote is still on the way to a slow disk; another term would not be faster.
            return
        }
        if case .follower(var follower) = state, follower.offer != nil {
            // The leader that sent files is gone; its offer no longer keeps this member from
            // voting.
            follower.offer = nil
            state = .follower(follower)
        }
        beginPreVote(into: &effects)
    }

    /// Waits anew, for a time of its own; for a short one while a leader is known to be lost.
    ///
    /// The member preferred as leader waits least, each further one half a timeout longer, so that
    /// elections seldom split; chance separates members of the same rank.
    mutating func resetElectionTimer() {
        electionElapsed = 0
        if let lost = lostLeader {
            // Whoever refused may have known less of the loss, so it is asked again, in turns as before.
            electionTimeout = 2 * voters(besides: lost.member).count
            return
        }
        let shortest = max(settings.electionTimeoutTicks, 2)
        let rank = min(max(settings.electionRank, 0), 4)
        electionTimeout =
            shortest + rank * shortest / 2 + Int.random(in: 0..<(shortest + 1) / 2, using: &random)
    }

    /// The link to the leader broke, or its beat stayed out: a process that ends breaks all its links, so nobody waits for
    /// a whole timeout.
    ///
    /// The voters ask one after another, in an order that changes with the term, for pre-votes: these bind nobody, and who
    /// still hears the leader gives none. What the leader had sent before is still read, in whatever order the ends of its
    /// connections are told; it is no sign of life.
    mutating func doubt(leader other: GroupMember) {
        guard case .follower(let follower) = state, follower.leader == other, follower.offer == nil
        else {
            return
        }
        let voters = voters(besides: other)
        guard let place = voters.firstIndex(of: member) else {
            return
        }
        lostLeader = LostLeader(member: other, ticks: settings.electionTimeoutTicks)
        following.ticksSinceLeader = max(follower.ticksSinceLeader, settings.electionTimeoutTicks)
        let turn = (place + Int(term.rawValue)) % voters.count
        electionElapsed = 0
        electionTimeout = min(1 + 2 * turn, electionTimeout)
    }

    private func voters(besides other: GroupMember) -> [GroupMember] {
        membership.allMembers.filter { $0 != other && membership.isVoter($0) }
    }

    private mutating func tickLeader(into effects: inout [Effect]) {
        guard !leading.isQuiet else {
            return
        }
        leading.ticksSinceQuorumCheck += 1
        if leading.ticksSinceQuorumCheck >= settings.electionTimeoutTicks {
            leading.ticksSinceQuorumCheck = 0
            guard keepsQuorum() else {
                follow(nil, in: term, into: &effects)
                return
            }
        }
        tickTransfer(into: &effects)
        tickProgress(into: &effects)
        leading.ticksSinceHeartbeat += 1
        if leading.ticksSinceHeartbeat >= settings.heartbeatTicks {
            sendHeartbeats(into: &effects)
        }
        tickIdle(into: &effects)
    }

    /// Whether a quorum was heard since the last look; a leader that was not heard must not go on
    /// alone.
    ///
    /// - Source: Ongaro (2014), §6.2.
    private mutating func keepsQuorum() -> Bool {
        let hasQuorum = membership.hasQuorum { voter in
            voter == member || progress(of: voter)?.isActive == true
        }
        for slot in leading.progress.indices {
            leading.progress[slot].isActive = false
        }
        return hasQuorum
    }

    /// Requests that made no difference for long are taken as lost.
    private mutating func tickProgress(into effects: inout [Effect]) {
        for slot in leading.progress.indices where leading.progress[slot].awaitsAnswer {
            leading.progress[slot].stalledTicks += 1
            if leading.progress[slot].stalledTicks >= settings.retransmitTicks {
                repeatAppends(to: slot, into: &effects)
            }
        }
        trimRecentEntries()
    }

    // MARK: Quiet

    /// Counts idle ticks; after enough of them the brokers' beat takes over.
    private mutating func tickIdle(into effects: inout [Effect]) {
        guard let limit = settings.quietAfterTicks, isSettled else {
            leading.idleTicks = 0
            return
        }
        leading.idleTicks += 1
        guard leading.idleTicks >= limit else {
            return
        }
        sendHeartbeats(goesQuiet: true, into: &effects)
        leading.isQuiet = true
        effects.append(.quietChanged(true))
    }

    /// Whether nothing is left to say: every reachable member acknowledged that commit is the log's
    /// end, and those reachable are a quorum.
    private var isSettled: Bool {
        let leader = leading
        guard leader.isReady, leader.reads.isEmpty, leader.transfer == nil, !membership.isJoint,
            commitIndex == lastIndex, flushedIndex == lastIndex
        else {
            return false
        }
        let areSettled = leader.progress.allSatisfy { other in
            !other.isReachable || (other.match == lastIndex && other.commitIndex == lastIndex)
        }
        return areSettled
            && membership.hasQuorum { voter in
                voter == member || progress(of: voter)?.isReachable == true
            }
    }

    /// Ends quiet: heartbeats and timeouts run again, from their start.
    mutating func wake(into effects: inout [Effect]) {
        switch state {
        case .leader(let leader):
            leading.idleTicks = 0
            guard leader.isQuiet else {
                return
            }
            leading.isQuiet = false
            leading.ticksSinceQuorumCheck = 0
            effects.append(.quietChanged(false))
            sendHeartbeats(into: &effects)
        case .follower(let follower):
            guard follower.isQuiet else {
                return
            }
            following.isQuiet = false
            following.ticksSinceLeader = 0
            resetElectionTimer()
            effects.append(.quietChanged(false))
        case .preCandidate, .candidate:
            break
        }
    }

    // MARK: Settings

    mutating func apply(_ settings: Settings, into effects: inout [Effect]) {
        self.settings = settings
        if case .leader = state {
            advanceCommit(into: &effects)
        }
    }
}
