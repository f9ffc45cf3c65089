import FlotillaModel

// Durable writes: asked for with a ticket, and what their completion allows.

extension Raft {
    /// Asks for the term and the vote to be remembered.
    @discardableResult
    mutating func persistHardState(into effects: inout [Effect]) -> Ticket {
        writtenHardState = hardState
        let ticket = writes.addHardState(term: term)
        effects.append(.persistHardState(hardState, ticket))
        return ticket
    }

    /// The ticket that an answer about the log up to `index` rests on: entries and term both
    /// durable.
    func ticket(forAnswerAbout index: LogIndex) -> Ticket? {
        let entries = index > flushedIndex ? writes.ticket(covering: index) : nil
        guard let term = writes.hardStateTicket else {
            return entries
        }
        return entries.map { max($0, term) } ?? term
    }

    /// A write, and every write before it, is durable.
    mutating func persisted(_ ticket: Ticket, into effects: inout [Effect]) {
        if let durableIndex = writes.complete(ticket) {
            flushedIndex = max(flushedIndex, durableIndex)
        }
        switch state {
        case .leader:
            advanceCommit(into: &effects)
            advanceTransfer(into: &effects)
        case .candidate: countOwnVote(into: &effects)
        case .follower, .preCandidate: settleRepair(into: &effects)
        }
    }

    /// A damaged log is whole again once everything a leader has is durable here.
    ///
    /// Every leader has every committed entry, so whatever this member once acknowledged and lost
    /// is back, if it ever counted.
    mutating func settleRepair(into effects: inout [Effect]) {
        guard isDamaged, let repairedIndex, flushedIndex >= repairedIndex else {
            return
        }
        isDamaged = false
        self.repairedIndex = nil
        if areTermsKnown { effects.append(.electableChanged(true)) }
    }

    /// What could not be read of the log has been healed, and says of which terms it is.
    mutating func learnTerms(_ runs: [TermRun], into effects: inout [Effect]) {
        log.learnTerms(runs)
        noteTermsKnown(into: &effects)
    }

    /// The terms of all entries are known from now on.
    mutating func noteTermsKnown(into effects: inout [Effect]) {
        guard !areTermsKnown else { return }
        areTermsKnown = true
        if !isDamaged { effects.append(.electableChanged(true)) }
    }
}
