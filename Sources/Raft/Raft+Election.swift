import FlotillaModel

// Pre-votes, votes, and how roles change (§5.2 and §5.4.1 of the paper, §9.6 of the thesis).

extension Raft {
    // MARK: Campaigns

    /// Campaigns without waiting, when this member may: the driver's wish, or a group of one.
    mutating func campaignAtOnce(into effects: inout [Effect]) {
        switch state {
        case .leader, .candidate:
            return
        case .follower, .preCandidate:
            guard mayCampaign else {
                return
            }
            if membership.isOnlyVoter(member) {
                campaign(isTransfer: false, into: &effects)
            } else {
                resetElectionTimer()
                beginPreVote(into: &effects)
            }
        }
    }

    /// Whether this member may try to lead.
    ///
    /// A membership that takes its vote away may never be committed, and then the group may be
    /// unable to do without it, since its log is the longest; so it goes on trying until that
    /// membership is committed. Its own vote counts only where the newest membership says so.
    ///
    /// - Source: Ongaro (2014), §4.2.2.
    var mayCampaign: Bool {
        isElectable && log.memberships.contains { $0.membership.isVoter(member) }
    }

    /// Asks whether a campaign could succeed; the term stays as it is.
    mutating func beginPreVote(into effects: inout [Effect]) {
        guard mayCampaign else {
            return
        }
        state = .preCandidate(Ballot(granted: [member]))
        effects.append(.roleChanged(.preCandidate, term, leader: nil))
        let request = PreVoteRequest(term: term.next, lastEntry: lastPosition)
        for voter in membership.allMembers where voter != member && membership.isVoter(voter) {
            effects.append(.send(.preVoteRequest(request), to: voter, after: nil))
        }
        countPreVotes(into: &effects)
    }

    /// Starts a term of its own.
    ///
    /// The requests wait until the term and the vote are durable. Were they not, a candidate that
    /// crashes could lose the end of its log, come back, repeat the term, and win it with votes
    /// that were given to the longer log.
    mutating func campaign(isTransfer: Bool, into effects: inout [Effect]) {
        precondition(term.rawValue < UInt32(Int32.max), "a term fits Kafka's leader epoch")
        hardState = HardState(term: term.next, votedFor: member)
        lostLeader = nil
        resetElectionTimer()
        state = .candidate(Ballot())
        let ticket = persistHardState(into: &effects)
        effects.append(.roleChanged(.candidate, term, leader: nil))
        let request = VoteRequest(term: term, lastEntry: lastPosition, isTransfer: isTransfer)
        for voter in membership.allMembers where voter != member && membership.isVoter(voter) {
            effects.append(.send(.voteRequest(request), to: voter, after: ticket))
        }
    }

    // MARK: Voters

    /// Answers a question that binds nobody.
    mutating func handle(
        _ request: PreVoteRequest,
        from candidate: GroupMember,
        into effects: inout [Effect]
    ) {
        let isGranted =
            request.term > term && request.lastEntry >= lastPosition && isElectable
            && !trustsLeader(other: candidate)
        let response = PreVoteResponse(term: isGranted ? request.term : term, isGranted: isGranted)
        let ticket = isGranted ? writes.hardStateTicket : nil
        effects.append(.send(.preVoteResponse(response), to: candidate, after: ticket))
    }

    /// Answers a candidate, and remembers the promise.
    ///
    /// A vote outlives a crash, so the answer rests on the ticket of the write that remembers it.
    /// Only a vote that is given resets the timer: refused candidates must not keep better ones
    /// waiting.
    ///
    /// - Source: Ongaro and Ousterhout (2014), §5.2 and §5.4.1.
    mutating func handle(
        _ request: VoteRequest,
        from candidate: GroupMember,
        into effects: inout [Effect]
    ) {
        precondition(request.term == term, "a newer term is adopted, an older one answered, before")
        let isFree = hardState.votedFor == nil || hardState.votedFor == candidate
        let isUpToDate = request.lastEntry >= lastPosition
        let isGranted = isFree && isUpToDate && isElectable && leader == nil
        if isGranted {
            hardState.votedFor = candidate
            if case .preCandidate = state {
                becomeFollower(of: nil, into: &effects)
            }
            resetElectionTimer()
        }
        if hardState != writtenHardState {
            // One write remembers a newer term and the vote in it.
            persistHardState(into: &effects)
        }
        let response = VoteResponse(term: term, isGranted: isGranted)
        let ticket = isGranted ? writes.hardStateTicket : nil
        effects.append(.send(.voteResponse(response), to: candidate, after: ticket))
    }

    /// Whether a leader was heard so recently that no other is wanted; a leader that asks for votes
    /// itself has stepped down.
    ///
    /// - Source: Ongaro (2014), §4.2.3: removed members must not disturb the group.
    func trustsLeader(other candidate: GroupMember) -> Bool {
        switch state {
        case .leader: true
        case .follower(let follower):
            follower.leader != nil && follower.leader != candidate
                && (follower.isQuiet || follower.ticksSinceLeader < settings.electionTimeoutTicks)
        case .preCandidate, .candidate: false
        }
    }

    // MARK: Counting

    mutating func handle(
        _ response: PreVoteResponse,
        from voter: GroupMember,
        into effects: inout [Effect]
    ) {
        guard case .preCandidate(var ballot) = state else {
            return
        }
        guard !response.isGranted || response.term == term.next else {
            return
        }
        ballot.count(voter, isGranted: response.isGranted)
        state = .preCandidate(ballot)
        countPreVotes(into: &effects)
    }

    private mutating func countPreVotes(into effects: inout [Effect]) {
        guard case .preCandidate(let ballot) = state else {
            return
        }
        if membership.hasQuorum(where: ballot.granted.contains) {
            campaign(isTransfer: false, into: &effects)
        } else if cannotWin(ballot) {
            becomeFollower(of: nil, into: &effects)
        }
    }

    mutating func handle(
        _ response: VoteResponse,
        from voter: GroupMember,
        into effects: inout [Effect]
    ) {
        guard case .candidate(var ballot) = state else {
            return
        }
        ballot.count(voter, isGranted: response.isGranted)
        state = .candidate(ballot)
        countVotes(into: &effects)
    }

    /// A candidate's own vote counts once it is durable, like everybody else's.
    mutating func countOwnVote(into effects: inout [Effect]) {
        guard case .candidate(var ballot) = state, writes.hardStateTicket == nil else {
            return
        }
        ballot.count(member, isGranted: true)
        state = .candidate(ballot)
        countVotes(into: &effects)
    }

    private mutating func countVotes(into effects: inout [Effect]) {
        guard case .candidate(let ballot) = state else {
            return
        }
        if ballot.granted.contains(member), membership.hasQuorum(where: ballot.granted.contains) {
            lead(into: &effects)
        } else if cannotWin(ballot) {
            becomeFollower(of: nil, into: &effects)
        }
    }

    /// Whether those that have not refused are too few.
    private func cannotWin(_ ballot: Ballot) -> Bool {
        !membership.hasQuorum { !ballot.refused.contains($0) }
    }

    // MARK: Roles

    /// Adopts a newer term, or ends what this member did in the present one.
    ///
    /// The vote is cleared by a newer term alone: a leader that steps down in its own term has
    /// voted for itself and stays bound by it.
    mutating func follow(_ leader: GroupMember?, in newTerm: Term, into effects: inout [Effect]) {
        adopt(newTerm)
        if hardState != writtenHardState {
            persistHardState(into: &effects)
        }
        becomeFollower(of: leader, into: &effects)
    }

    /// Adopts a candidate's newer term; the answer to its request writes it down.
    mutating func follow(candidateOf newTerm: Term, into effects: inout [Effect]) {
        adopt(newTerm)
        becomeFollower(of: nil, into: &effects)
    }

    private mutating func adopt(_ newTerm: Term) {
        precondition(newTerm >= term, "terms never fall")
        if newTerm > term {
            hardState = HardState(term: newTerm, votedFor: nil)
            repairedIndex = nil
            lostLeader = nil
        }
    }

    private mutating func becomeFollower(of leader: GroupMember?, into effects: inout [Effect]) {
        let previous = state
        state = .follower(FollowerState(leader: leader, verifiedIndex: commitIndex))
        effects.append(.roleChanged(.follower, term, leader: leader))
        switch previous {
        case .leader(let leading):
            resetElectionTimer()
            abandon(leading, into: &effects)
        case .follower(let follower):
            if follower.isQuiet {
                effects.append(.quietChanged(false))
            }
        case .preCandidate, .candidate:
            break
        }
    }

    /// Tells everybody who waits for this leader that it no longer leads.
    private func abandon(_ leading: LeaderState, into effects: inout [Effect]) {
        if leading.isQuiet {
            effects.append(.quietChanged(false))
        }
        for read in leading.reads {
            effects.append(.readFailed(requestID: read.requestID, .notLeader(leader)))
        }
        if let transfer = leading.transfer {
            let succeeded = transfer.hasToldTarget
            effects.append(.transferFinished(to: transfer.target, succeeded: succeeded))
        }
        if leading.isChangingMembership {
            effects.append(.membershipChangeFailed(.notLeader(leader)))
        }
    }

    /// Begins to lead: an entry of the new term goes into the log before anything else.
    ///
    /// Until that entry is committed this member does not know how far its predecessors committed.
    ///
    /// - Source: Ongaro and Ousterhout (2014), §5.4.2 and §8.
    private mutating func lead(into effects: inout [Effect]) {
        let others = membership.allMembers.filter { $0 != member }
        state = .leader(
            LeaderState(
                progress: others.map { Progress(member: $0, next: lastIndex.next) },
                termStartIndex: lastIndex.next,
                recent: RecentEntries(firstIndex: lastIndex.next),
                acknowledgedIndex: commitIndex
            )
        )
        effects.append(.roleChanged(.leader, term, leader: member))
        let entry = ProposedEntry(kind: .termStart, byteCount: ProposedEntry.ownByteCount)
        appendOwn(.termStart, [entry], into: &effects)
    }
}
