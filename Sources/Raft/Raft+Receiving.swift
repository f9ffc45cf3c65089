import FlotillaModel

// Where messages enter, and terms are compared (§5.1).

extension Raft {
    /// Takes a message that names this member as its target.
    mutating func receive(
        _ message: Message,
        from sender: GroupMember,
        into effects: inout [Effect]
    ) {
        if message.term > term {
            guard meetsNewerTerm(message, from: sender, into: &effects) else {
                return
            }
        } else if message.term < term {
            answerOutdated(message, from: sender, into: &effects)
            return
        }
        if case .preCandidate = state, sender == lostLeader?.member {
            // Left over from before its link broke: no reason to give up the question whether it can be replaced.
            return
        }
        noteHeard(message, from: sender, into: &effects)
        switch message {
        case .preVoteRequest(let request): handle(request, from: sender, into: &effects)
        case .preVoteResponse(let response): handle(response, from: sender, into: &effects)
        case .voteRequest(let request): handle(request, from: sender, into: &effects)
        case .voteResponse(let response): handle(response, from: sender, into: &effects)
        case .appendRequest(let request):
            hear(leader: sender, into: &effects)
            handle(request, from: sender, into: &effects)
        case .appendResponse(let response): handle(response, from: sender, into: &effects)
        case .heartbeatRequest(let request):
            hear(leader: sender, into: &effects)
            handle(request, from: sender, into: &effects)
        case .heartbeatResponse(let response): handle(response, from: sender, into: &effects)
        case .snapshotOffer(let offer):
            hear(leader: sender, into: &effects)
            handle(offer, from: sender, into: &effects)
        case .timeoutNow: handleTimeoutNow(from: sender, into: &effects)
        }
    }

    /// Adopts a newer term, unless the message gives no reason to.
    ///
    /// - Returns: whether the message is to be handled.
    private mutating func meetsNewerTerm(
        _ message: Message,
        from sender: GroupMember,
        into effects: inout [Effect]
    ) -> Bool {
        switch message {
        case .preVoteRequest:
            break
        case .preVoteResponse(let response):
            if !response.isGranted {
                follow(nil, in: response.term, into: &effects)
            }
        case .voteRequest(let request):
            if trustsLeader(other: sender), !request.isTransfer {
                wake(into: &effects)
                return false
            }
            follow(candidateOf: request.term, into: &effects)
        case .appendRequest, .heartbeatRequest, .snapshotOffer:
            follow(sender, in: message.term, into: &effects)
        case .voteResponse, .appendResponse, .heartbeatResponse, .timeoutNow:
            follow(nil, in: message.term, into: &effects)
        }
        return true
    }

    /// Tells the sender of an outdated term that there is a newer one.
    ///
    /// A deposed leader steps down on it, and a candidate that lags catches up. Without the answer
    /// a member with a newer term and a leader with an older one would ignore each other for ever.
    private func answerOutdated(
        _ message: Message,
        from sender: GroupMember,
        into effects: inout [Effect]
    ) {
        switch message {
        case .preVoteRequest:
            let response = PreVoteResponse(term: term, isGranted: false)
            effects.append(.send(.preVoteResponse(response), to: sender, after: nil))
        case .voteRequest:
            let response = VoteResponse(term: term, isGranted: false)
            effects.append(.send(.voteResponse(response), to: sender, after: nil))
        case .appendRequest, .heartbeatRequest, .snapshotOffer:
            let response = HeartbeatResponse(
                term: term,
                round: 0,
                verifiedIndex: .zero,
                commitIndex: commitIndex
            )
            effects.append(.send(.heartbeatResponse(response), to: sender, after: nil))
        case .preVoteResponse, .voteResponse, .appendResponse, .heartbeatResponse, .timeoutNow:
            break
        }
    }

    /// A leader notes that a member is alive; a quiet member wakes for anything but a beat's
    /// answer, and a quiet leader for whatever comes from a member that was out of reach: it may
    /// lack something.
    private mutating func noteHeard(
        _ message: Message,
        from sender: GroupMember,
        into effects: inout [Effect]
    ) {
        if case .leader(let leader) = state, let slot = leader.slot(of: sender) {
            if !leader.progress[slot].isReachable { wake(into: &effects) }
            leading.progress[slot].isActive = true
            leading.progress[slot].isReachable = true
        }
        switch message {
        case .preVoteRequest, .voteRequest, .appendRequest, .heartbeatRequest, .snapshotOffer,
            .timeoutNow:
            wake(into: &effects)
        case .preVoteResponse, .voteResponse, .appendResponse, .heartbeatResponse:
            break
        }
    }

    /// The leader of this term spoke.
    private mutating func hear(leader sender: GroupMember, into effects: inout [Effect]) {
        switch state {
        case .leader:
            preconditionFailure("a term has one leader, and this member leads term \(term)")
        case .preCandidate, .candidate:
            follow(sender, in: term, into: &effects)
        case .follower(let follower):
            if follower.leader == nil {
                following.leader = sender
                effects.append(.roleChanged(.follower, term, leader: sender))
            }
            precondition(leader == sender, "a term has one leader")
        }
        guard sender != lostLeader?.member else {
            // It is not trusted again either, if it was just named anew.
            let ticks = max(following.ticksSinceLeader, settings.electionTimeoutTicks)
            following.ticksSinceLeader = ticks
            return
        }
        following.ticksSinceLeader = 0
        electionElapsed = 0
        if electionTimeout < settings.electionTimeoutTicks {
            // It was thought to be gone, and is not.
            resetElectionTimer()
        }
    }

    /// A link broke or came up.
    mutating func setReachable(
        _ isReachable: Bool,
        _ other: GroupMember,
        into effects: inout [Effect]
    ) {
        wake(into: &effects)
        if !isReachable {
            doubt(leader: other)
        } else if lostLeader?.member == other {
            lostLeader = nil
        }
        guard case .leader(let leader) = state, let slot = leader.slot(of: other) else {
            return
        }
        leading.progress[slot].isReachable = isReachable
        if leader.progress[slot].state == .replicate {
            leading.progress[slot].probe(from: leader.progress[slot].match.next)
        }
        if isReachable {
            leading.progress[slot].isPaused = false
            sendAppends(to: slot, into: &effects)
        }
    }
}
