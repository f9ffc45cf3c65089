import FlotillaModel

// How a leader brings every member's log to its own end, and keeps them from campaigning.

extension Raft {
    // MARK: Entries

    /// Sends a member what it lacks, as far as its window allows.
    mutating func sendAppends(to slot: Int, into effects: inout [Effect]) {
        while sendOneAppend(to: slot, into: &effects) {}
    }

    /// - Returns: whether another request may follow at once.
    private mutating func sendOneAppend(to slot: Int, into effects: inout [Effect]) -> Bool {
        let next = leading.progress[slot].next
        guard !leading.progress[slot].isPaused, !leading.progress[slot].isReading else {
            return false
        }
        guard leading.progress[slot].state != .snapshot else {
            return false
        }
        guard let previousTerm = log.term(at: next - 1) else {
            orderSnapshot(for: slot, into: &effects)
            return false
        }
        let previous = LogPosition(term: previousTerm, index: next - 1)
        switch leading.progress[slot].state {
        case .snapshot:
            return false
        case .probe:
            // A probe takes entries along only if they are at hand: they may well be refused.
            let entries = next >= leading.recent.firstIndex ? recentEntries(for: slot).entries : []
            send(Array(entries), after: previous, to: slot, into: &effects)
            leading.progress[slot].isPaused = true
            return false
        case .replicate:
            return pipeline(after: previous, to: slot, into: &effects)
        }
    }

    private mutating func pipeline(
        after previous: LogPosition,
        to slot: Int,
        into effects: inout [Effect]
    ) -> Bool {
        guard previous.index < lastIndex,
            leading.progress[slot].window.count < settings.windowMessageLimit
        else {
            return false
        }
        guard previous.index.next >= leading.recent.firstIndex else {
            orderRead(for: slot, into: &effects)
            return false
        }
        let (entries, byteCount) = recentEntries(for: slot)
        guard !entries.isEmpty else {
            return false
        }
        send(Array(entries), after: previous, to: slot, into: &effects)
        let next = previous.index.next + UInt64(entries.count)
        leading.progress[slot].next = next
        leading.progress[slot].window.add(lastIndex: next - 1, byteCount: byteCount)
        return true
    }

    /// What fits one request and the room in the window.
    ///
    /// An entry larger than the whole window goes
    /// when nothing else is on its way, so that it never waits for ever.
    private func recentEntries(
        for slot: Int
    ) -> (entries: ArraySlice<EntryDescriptor>, byteCount: Int) {
        let progress = leading.progress[slot]
        let room = settings.windowByteLimit - progress.window.byteCount
        let request = leading.recent.prefix(
            from: progress.next,
            entryLimit: settings.appendEntryLimit,
            byteLimit: min(room, settings.appendByteLimit),
            mayExceed: true
        )
        let fits = request.byteCount <= room || progress.window.isEmpty
        return fits ? request : (request.entries.prefix(0), 0)
    }

    private mutating func send(
        _ entries: [EntryDescriptor],
        after previous: LogPosition,
        to slot: Int,
        into effects: inout [Effect]
    ) {
        let request = AppendRequest(
            term: term,
            sequence: leading.progress[slot].takeSequence(),
            previous: previous,
            entries: entries,
            commitIndex: commitIndex,
            lastIndex: lastIndex
        )
        leading.progress[slot].noteTold(commitIndex, surelyHas: request.range.upperBound - 1)
        let target = leading.progress[slot].member
        effects.append(.send(.appendRequest(request), to: target, after: nil))
    }

    /// Asks again: for an answer alone where everything has arrived, since then only the answer was
    /// lost or the follower's disk is slow; otherwise for the entries from where they are missing.
    mutating func repeatAppends(to slot: Int, into effects: inout [Effect]) {
        let progress = leading.progress[slot]
        let last = progress.next - 1
        if progress.verifiedIndex >= last, let lastTerm = log.term(at: last) {
            leading.progress[slot].stalledTicks = 0
            send([], after: LogPosition(term: lastTerm, index: last), to: slot, into: &effects)
        } else {
            leading.progress[slot].probe(from: max(progress.match, progress.verifiedIndex).next)
            sendAppends(to: slot, into: &effects)
        }
    }

    /// Asks a probed member for an answer alone about what it has verified: the one to the probe was lost, or its disk is slow.
    ///
    /// A member without room for new entries drops a request that brings nothing else: it would never say again what it has, and
    /// never learn how much of that is committed.
    ///
    /// - Returns: whether there was something to ask.
    private mutating func askForMatch(of slot: Int, into effects: inout [Effect]) -> Bool {
        let progress = leading.progress[slot]
        guard progress.state == .probe, progress.verifiedIndex > progress.match,
            progress.next == progress.verifiedIndex.next,
            let term = log.term(at: progress.verifiedIndex)
        else { return false }
        let verified = LogPosition(term: term, index: progress.verifiedIndex)
        send([], after: verified, to: slot, into: &effects)
        return true
    }

    // MARK: Entries from the driver

    private mutating func orderRead(for slot: Int, into effects: inout [Effect]) {
        let progress = leading.progress[slot]
        let room = settings.windowByteLimit - progress.window.byteCount
        guard room >= settings.appendByteLimit || progress.window.isEmpty else {
            return
        }
        leading.progress[slot].isReading = true
        let limit = min(max(room, 1), settings.appendByteLimit)
        effects.append(.readEntries(for: progress.member, from: progress.next, byteLimit: limit))
    }

    /// Sends entries that the driver read; an answer to a question that no longer stands is
    /// dropped.
    mutating func entriesRead(
        for follower: GroupMember,
        first: LogIndex,
        _ entries: [EntryDescriptor],
        into effects: inout [Effect]
    ) {
        guard case .leader(let leader) = state, let slot = leader.slot(of: follower),
            leader.progress[slot].isReading
        else {
            return
        }
        leading.progress[slot].isReading = false
        guard leader.progress[slot].state == .replicate, leader.progress[slot].next == first,
            isOwnLog(entries, from: first), let previousTerm = log.term(at: first - 1)
        else {
            sendAppends(to: slot, into: &effects)
            return
        }
        guard !entries.isEmpty else {
            // Not now; the next heartbeat's answer tries again.
            leading.progress[slot].isPaused = true
            return
        }
        let byteCount = entries.reduce(0) { $0 + $1.byteCount }
        let window = leader.progress[slot].window
        guard window.isEmpty || window.byteCount + byteCount <= settings.windowByteLimit else {
            // A large entry waits until nothing else is on its way; the next answer asks for it
            // again.
            return
        }
        let next = first + UInt64(entries.count)
        let previous = LogPosition(term: previousTerm, index: first - 1)
        send(entries, after: previous, to: slot, into: &effects)
        leading.progress[slot].next = next
        leading.progress[slot].window.add(lastIndex: next - 1, byteCount: byteCount)
        sendAppends(to: slot, into: &effects)
    }

    /// Whether these are entries of the present log; a read begun under an earlier leadership may
    /// not be.
    private func isOwnLog(_ entries: [EntryDescriptor], from first: LogIndex) -> Bool {
        var index = first
        for entry in entries {
            guard log.term(at: index) == entry.term else {
                return false
            }
            index = index.next
        }
        return true
    }

    /// Forgets descriptors that every member has.
    mutating func trimRecentEntries() {
        let least = leading.progress.map(\.match).min() ?? lastIndex
        leading.recent.drop(below: least.next)
    }

    // MARK: Files

    private mutating func orderSnapshot(for slot: Int, into effects: inout [Effect]) {
        leading.progress[slot].awaitSnapshot()
        let order = Effect.sendSnapshot(
            to: leading.progress[slot].member,
            term: term,
            sequence: leading.progress[slot].takeSequence(),
            neededIndex: leading.progress[slot].next
        )
        effects.append(order)
    }

    /// Files reached a member, or did not; either way a probe finds out where it stands.
    mutating func snapshotSent(
        to follower: GroupMember,
        _ position: LogPosition?,
        into effects: inout [Effect]
    ) {
        guard case .leader(let leader) = state, let slot = leader.slot(of: follower),
            leader.progress[slot].state == .snapshot
        else {
            return
        }
        let match = leader.progress[slot].match
        if let position {
            leading.progress[slot].probe(from: max(position.index, match).next)
            sendAppends(to: slot, into: &effects)
        } else {
            leading.progress[slot].probe(from: match.next)
            leading.progress[slot].isPaused = true
        }
    }

    // MARK: Answers

    mutating func handle(
        _ response: AppendResponse,
        from follower: GroupMember,
        into effects: inout [Effect]
    ) {
        guard case .leader(let leader) = state, let slot = leader.slot(of: follower),
            response.sequence >= leader.progress[slot].leastSequence
        else {
            return
        }
        switch response.outcome {
        case .matched(let index):
            matched(index, response.sequence, slot, into: &effects)
        case .rejected(let previous, let hint):
            rejected(previous, hint, response.sequence, slot, into: &effects)
        }
    }

    private mutating func matched(
        _ index: LogIndex,
        _ sequence: UInt64,
        _ slot: Int,
        into effects: inout [Effect]
    ) {
        precondition(
            index <= lastIndex,
            "a follower's log matches no further than the leader's goes"
        )
        guard index >= leading.progress[slot].match else {
            return
        }
        let follower = leading.progress[slot].member
        let isNew = index > leading.progress[slot].match
        leading.progress[slot].advance(to: index, answering: sequence)
        switch leading.progress[slot].state {
        case .probe: leading.progress[slot].replicate()
        case .snapshot where index >= log.base.index: leading.progress[slot].replicate()
        case .snapshot, .replicate: break
        }
        if isNew {
            advanceCommit(into: &effects)
            advanceTransfer(into: &effects)
        }
        // Committing may have ended this leadership, or moved or removed the follower.
        if case .leader(let leader) = state, let slot = leader.slot(of: follower) {
            sendAppends(to: slot, into: &effects)
        }
    }

    private mutating func rejected(
        _ previous: LogIndex,
        _ hint: LogPosition,
        _ sequence: UInt64,
        _ slot: Int,
        into effects: inout [Effect]
    ) {
        let progress = leading.progress[slot]
        let next = firstDifference(from: hint)
        if hint.index < progress.match, sequence > progress.matchedSequence {
            // It may not know that it lost something, if its disk lied.
            leading.progress[slot].forgetMatch()
            leading.progress[slot].probe(from: next)
        } else {
            switch progress.state {
            case .replicate where previous > progress.match,
                .probe where previous == progress.next - 1:
                leading.progress[slot].probe(from: max(next, progress.match.next))
                // Every honest refusal leads further back. Asking the same again would go on for
                // ever.
                leading.progress[slot].isPaused = leading.progress[slot].next > previous
            case .replicate, .probe, .snapshot:
                return
            }
        }
        sendAppends(to: slot, into: &effects)
    }

    /// Where a log whose entry is `hint` may begin to differ from this one; at or below the base,
    /// out of reach for entries, if the two cannot be compared any more.
    private func firstDifference(from hint: LogPosition) -> LogIndex {
        let agreed = log.lastPosition(notAbove: hint)
        guard agreed.index <= hint.index, agreed.term <= hint.term else {
            return min(hint.index.next, log.base.index)
        }
        return agreed.index.next
    }

    // MARK: Heartbeats

    /// Tells every member that this leader lives, and what it may commit.
    mutating func sendHeartbeats(goesQuiet: Bool = false, into effects: inout [Effect]) {
        leading.ticksSinceHeartbeat = 0
        leading.round += 1
        if leading.readRoundInFlight == nil, !leading.reads.isEmpty {
            leading.readRoundInFlight = leading.round
        }
        for slot in leading.progress.indices {
            sendHeartbeat(to: slot, goesQuiet: goesQuiet, into: &effects)
        }
    }

    private mutating func sendHeartbeat(
        to slot: Int,
        goesQuiet: Bool = false,
        into effects: inout [Effect]
    ) {
        let progress = leading.progress[slot]
        let request = HeartbeatRequest(
            term: term,
            round: leading.round,
            commitIndex: min(commitIndex, progress.match),
            goesQuiet: goesQuiet
        )
        leading.progress[slot].noteTold(commitIndex, surelyHas: progress.match)
        effects.append(.send(.heartbeatRequest(request), to: progress.member, after: nil))
    }

    /// Tells the members for whom nothing is on its way how far the log is committed by now.
    ///
    /// The next entries would say it too; where none follow, readers at a follower would wait for the next heartbeat. A
    /// busy member is told by what is on its way, so a leader at work sends nothing more than before.
    mutating func announceCommit(into effects: inout [Effect]) {
        guard case .leader(let leader) = state else {
            return
        }
        for slot in leader.progress.indices {
            let progress = leader.progress[slot]
            let hasNews = progress.toldCommitIndex < min(commitIndex, progress.match)
            if hasNews, progress.state == .replicate, progress.window.isEmpty {
                // The round is the last one's: an answer proves no more than one to that would.
                sendHeartbeat(to: slot, into: &effects)
            }
        }
    }

    mutating func handle(
        _ response: HeartbeatResponse,
        from follower: GroupMember,
        into effects: inout [Effect]
    ) {
        guard case .leader(let leader) = state, let slot = leader.slot(of: follower),
            response.round >= leader.progress[slot].answeredRound
        else {
            return
        }
        let progress = leader.progress[slot]
        leading.progress[slot].answeredRound = response.round
        leading.progress[slot].commitIndex = response.commitIndex
        leading.progress[slot].verifiedIndex = response.verifiedIndex
        if response.verifiedIndex > progress.verifiedIndex {
            leading.progress[slot].stalledTicks = 0
        }
        if progress.state == .replicate, response.verifiedIndex < progress.match {
            // It has begun anew and knows nothing of this leader's log.
            leading.progress[slot].probe(from: progress.match.next)
        } else if progress.state == .probe {
            // What a probe took along has arrived; it is not sent again.
            leading.progress[slot].next = max(progress.next, response.verifiedIndex.next)
        }
        leading.progress[slot].isPaused = askForMatch(of: slot, into: &effects)
        sendAppends(to: slot, into: &effects)
        confirmReads(into: &effects)
        if leader.isQuiet, response.commitIndex < lastIndex {
            wake(into: &effects)
        }
    }
}
