package import FlotillaModel

/// A run of entries with one term, for the log's view of terms.
package struct TermRun: Hashable, Sendable {
    /// The term of the run's entries.
    package var term: Term
    /// The run's first entry.
    package var firstIndex: LogIndex

    /// Begins a run.
    package init(term: Term, firstIndex: LogIndex) {
        self.term = term
        self.firstIndex = firstIndex
    }
}

/// A membership and the index of the entry that brought it; 0 for the one a group was created with.
package struct IndexedMembership: Hashable, Sendable {
    /// The entry's index.
    package var index: LogIndex
    /// The membership in effect from that entry on.
    package var membership: Membership

    /// Places a membership in a log.
    package init(index: LogIndex, membership: Membership) {
        self.index = index
        self.membership = membership
    }
}

/// What a member's disk says when it starts.
package struct RestoredState: Hashable, Sendable {
    /// The newest term and vote that were durable.
    package var hardState: HardState
    /// The entry before the first readable one; `.zero` for a log that begins with entry 1.
    package var base: LogPosition
    /// The last durable entry's index; `base.index` for an empty log.
    package var lastIndex: LogIndex
    /// The terms of the entries after `base`, in order; the first run begins at `base.index + 1`.
    package var termRuns: [TermRun]
    /// The membership in effect at the commit index, then every later one in the log, in order.
    package var memberships: [IndexedMembership]
    /// Up to where the log is known to be committed; a hint that may lag, never lead.
    ///
    /// It was remembered when the entries themselves were durable: see `Raft.durableCommitIndex`.
    package var commitIndex: LogIndex
    /// Whether the log is known to hold everything this member ever acknowledged.
    ///
    /// A member that is
    /// not electable neither votes nor campaigns until a leader has matched it to its log's end.
    package var isElectable: Bool
    /// Whether `termRuns` are known to be right; if they are not, the member neither votes nor campaigns
    /// until `Input.termsLearned`.
    package var areTermsKnown: Bool

    /// Collects what recovery found.
    package init(
        hardState: HardState,
        base: LogPosition,
        lastIndex: LogIndex,
        termRuns: [TermRun],
        memberships: [IndexedMembership],
        commitIndex: LogIndex,
        isElectable: Bool,
        areTermsKnown: Bool = true
    ) {
        self.hardState = hardState
        self.base = base
        self.lastIndex = lastIndex
        self.termRuns = termRuns
        self.memberships = memberships
        self.commitIndex = commitIndex
        self.isElectable = isElectable
        self.areTermsKnown = areTermsKnown
    }

    /// A new member with an empty log, in a group of these first members; `.empty` for a member that
    /// is added later.
    package static func new(_ membership: Membership) -> RestoredState {
        RestoredState(
            hardState: .initial,
            base: .zero,
            lastIndex: .zero,
            termRuns: [],
            memberships: [IndexedMembership(index: .zero, membership: membership)],
            commitIndex: .zero,
            isElectable: true
        )
    }
}
