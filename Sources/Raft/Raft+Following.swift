package import FlotillaModel

// What a follower takes from its leader (§5.3), and files in place of entries (§7).

extension Raft {
    // MARK: Entries

    mutating func handle(
        _ request: AppendRequest,
        from leader: GroupMember,
        into effects: inout [Effect]
    ) {
        // Committed entries are the same everywhere; a late request must not touch them.
        let isCommitted = request.previous.index < commitIndex
        guard isCommitted || log.contains(request.previous) else {
            reject(request, from: leader, into: &effects)
            return
        }
        let end = request.range.upperBound - 1
        let firstNew = firstEntryToTake(of: request)
        if firstNew <= end {
            take(request, from: firstNew, into: &effects)
        }
        let matched = max(end, commitIndex)
        following.verifiedIndex = max(following.verifiedIndex, matched)
        advanceFollowerCommit(to: request.commitIndex, into: &effects)
        if isDamaged, following.verifiedIndex >= request.lastIndex {
            repairedIndex = request.lastIndex
            settleRepair(into: &effects)
        }
        let response = AppendResponse(
            term: term,
            sequence: request.sequence,
            outcome: .matched(matched)
        )
        let ticket = ticket(forAnswerAbout: matched)
        effects.append(.send(.appendResponse(response), to: leader, after: ticket))
    }

    private func reject(
        _ request: AppendRequest,
        from leader: GroupMember,
        into effects: inout [Effect]
    ) {
        let outcome = AppendResponse.Outcome.rejected(
            previous: request.previous.index,
            hint: log.lastPosition(notAbove: request.previous)
        )
        let response = AppendResponse(term: term, sequence: request.sequence, outcome: outcome)
        effects.append(.send(.appendResponse(response), to: leader, after: nil))
    }

    /// The first entry of the request that the log lacks or has with another term; one past the
    /// request's last if there is none.
    package func firstEntryToTake(of request: AppendRequest) -> LogIndex {
        var index = request.range.lowerBound
        for entry in request.entries {
            if index > commitIndex, log.term(at: index) != entry.term {
                return index
            }
            index = index.next
        }
        return index
    }

    /// Takes the request's entries from `first` on, in place of whatever the log has there.
    private mutating func take(
        _ request: AppendRequest,
        from first: LogIndex,
        into effects: inout [Effect]
    ) {
        precondition(first > commitIndex, "a committed entry is never replaced")
        precondition(first > following.verifiedIndex, "a leader never changes its own log")
        if first <= lastIndex {
            writes.beginGeneration()
            flushedIndex = min(flushedIndex, first - 1)
            effects.append(.truncate(from: first))
            if log.truncate(from: first) {
                effects.append(.membershipChanged(membership, at: log.membershipIndex))
            }
        }
        precondition(first == lastIndex.next, "a log has no gaps")
        let membershipIndex = log.membershipIndex
        for entry in request.entries[Int(first.rawValue - request.range.lowerBound.rawValue)...] {
            log.append(term: entry.term, kind: entry.kind)
        }
        let ticket = writes.addLog(first...lastIndex, term: term)
        effects.append(.appendReceived(first..<lastIndex.next, ticket))
        if log.membershipIndex != membershipIndex {
            effects.append(.membershipChanged(membership, at: log.membershipIndex))
        }
    }

    /// Commits no further than this member has verified: what lies beyond may be another leader's.
    ///
    /// - Source: rabbitmq/ra issue 508 shows what happens otherwise.
    private mutating func advanceFollowerCommit(to index: LogIndex, into effects: inout [Effect]) {
        let verified = min(index, following.verifiedIndex)
        guard verified > commitIndex else {
            return
        }
        precondition(verified <= lastIndex, "only entries in the log are committed")
        commitIndex = verified
        log.forgetMemberships(before: commitIndex)
        if let offer = following.offer, offer.position.index <= commitIndex {
            // Entries have brought what the files would.
            following.offer = nil
        }
        effects.append(.commitAdvanced(commitIndex))
    }

    // MARK: Heartbeats

    mutating func handle(
        _ request: HeartbeatRequest,
        from leader: GroupMember,
        into effects: inout [Effect]
    ) {
        advanceFollowerCommit(to: request.commitIndex, into: &effects)
        let response = HeartbeatResponse(
            term: term,
            round: request.round,
            // A damaged log claims nothing, so the leader goes on probing until it is whole.
            verifiedIndex: isDamaged ? .zero : following.verifiedIndex,
            commitIndex: commitIndex
        )
        effects.append(.send(.heartbeatResponse(response), to: leader, after: nil))
        let isSettled = request.commitIndex == lastIndex && commitIndex == lastIndex
        if request.goesQuiet, isSettled, isElectable, writes.isEmpty, leader != lostLeader?.member {
            following.isQuiet = true
            effects.append(.quietChanged(true))
        }
    }

    // MARK: Files

    /// The leader ships files: the log from the first entry up to a committed position.
    mutating func handle(
        _ offer: SnapshotOffer,
        from leader: GroupMember,
        into effects: inout [Effect]
    ) {
        guard offer.position.index > commitIndex, !log.contains(offer.position) else {
            // The log already has it all.
            adopt(offer.position, into: &effects)
            answer(offer, into: &effects)
            return
        }
        following.offer = offer
        effects.append(.receiveSnapshot(offer.position, from: leader))
    }

    /// Complete files are there; they become the log unless it has caught up by itself.
    ///
    /// Whichever leader sent them, they hold committed entries. A log that has no such last entry
    /// either ends before it, or conflicts with a committed entry from there on: what it loses
    /// never counted.
    mutating func snapshotReceived(
        _ position: LogPosition,
        _ membership: Membership,
        into effects: inout [Effect]
    ) {
        let offer: SnapshotOffer? =
            if case .follower(let follower) = state { follower.offer } else { nil }
        abandonSnapshot()
        if position.index > commitIndex, !log.contains(position) {
            precondition(role != .leader, "a leader's log has every committed entry")
            if position.term > term || role != .follower {
                // A campaign with the old log is over, and so is a term older than the files.
                follow(nil, in: max(position.term, term), into: &effects)
            }
            writes.beginGeneration()
            flushedIndex = .zero
            log.reset(to: position, membership)
            commitIndex = position.index
            let ticket = writes.addLog(position.index...position.index, term: term)
            effects.append(.installSnapshot(position, membership, ticket))
            noteTermsKnown(into: &effects)
            effects.append(.membershipChanged(membership, at: position.index))
            effects.append(.commitAdvanced(commitIndex))
        }
        adopt(position, into: &effects)
        if let offer, offer.position == position {
            answer(offer, into: &effects)
        }
    }

    /// Entries up to `position` are committed, and this log has them.
    private mutating func adopt(_ position: LogPosition, into effects: inout [Effect]) {
        guard case .follower = state else {
            return
        }
        following.verifiedIndex = max(following.verifiedIndex, position.index)
        advanceFollowerCommit(to: position.index, into: &effects)
    }

    private func answer(_ offer: SnapshotOffer, into effects: inout [Effect]) {
        guard let leader, offer.term == term else {
            return
        }
        let matched = max(offer.position.index, commitIndex)
        let response = AppendResponse(
            term: term,
            sequence: offer.sequence,
            outcome: .matched(matched)
        )
        let ticket = ticket(forAnswerAbout: matched)
        effects.append(.send(.appendResponse(response), to: leader, after: ticket))
    }

    /// No files are awaited any more.
    mutating func abandonSnapshot() {
        if case .follower = state {
            following.offer = nil
        }
    }
}
