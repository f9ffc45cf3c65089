package import FlotillaModel

/// A log as consensus sees it: where it begins and ends, its terms, and its memberships.
///
/// Terms are kept as runs, since a term has millions of entries and a log has few terms.
/// Memberships are kept from the one in effect at the commit index on: a truncation takes later
/// ones back, and nothing ever takes back a committed one.
package struct RaftLog: Hashable, Sendable {
    /// The entry before the first one that can be read.
    package private(set) var base: LogPosition
    /// The last entry's index; `base.index` when the log is empty.
    package private(set) var lastIndex: LogIndex
    /// The terms of the entries after `base`, oldest first.
    package private(set) var runs: [TermRun]
    /// The memberships that may still matter, oldest first; the last one is in effect.
    package private(set) var memberships: [IndexedMembership]

    /// Takes over what recovery found.
    init(_ restored: RestoredState) {
        base = restored.base
        lastIndex = restored.lastIndex
        runs = restored.termRuns
        memberships = restored.memberships
        precondition(!memberships.isEmpty, "a log always knows a membership")
        precondition(isConsistent, "term runs and memberships are sorted and lie within the log")
    }

    /// The membership in effect: the newest in the log, committed or not.
    package var membership: Membership {
        memberships[memberships.count - 1].membership
    }

    /// The index of the entry that brought `membership`.
    package var membershipIndex: LogIndex {
        memberships[memberships.count - 1].index
    }

    /// The last entry.
    package var lastPosition: LogPosition {
        LogPosition(term: runs.last?.term ?? base.term, index: lastIndex)
    }

    /// The term of the entry at `index`, or `nil` when the log does not reach there.
    package func term(at index: LogIndex) -> Term? {
        guard index >= base.index, index <= lastIndex else {
            return nil
        }
        return lastRun(startingUpTo: index).map { runs[$0].term } ?? base.term
    }

    /// Whether the log has exactly this entry.
    package func contains(_ position: LogPosition) -> Bool {
        term(at: position.index) == position.term
    }

    /// The last entry of which neither index nor term is above `position`; `base` when there is
    /// none.
    ///
    /// Two logs that differ at `position` cannot agree beyond the answer, so one exchange skips a
    /// whole term of conflicting entries.
    ///
    /// - Source: Ongaro and Ousterhout (2014), §5.3, last paragraphs; KIP-595 calls it the
    ///   diverging epoch.
    package func lastPosition(notAbove position: LogPosition) -> LogPosition {
        var index = min(position.index, lastIndex)
        while index > base.index, let run = lastRun(startingUpTo: index) {
            if runs[run].term <= position.term {
                return LogPosition(term: runs[run].term, index: index)
            }
            index = runs[run].firstIndex - 1
        }
        return base
    }

    /// Adds an entry at the end.
    mutating func append(term: Term, kind: EntryKind) {
        precondition(term >= lastPosition.term, "terms never fall along a log")
        lastIndex = lastIndex.next
        if runs.last?.term != term {
            runs.append(TermRun(term: term, firstIndex: lastIndex))
        }
        if case .membership(let membership) = kind {
            memberships.append(IndexedMembership(index: lastIndex, membership: membership))
        }
    }

    /// Drops every entry from `index` on, and the memberships that they brought.
    ///
    /// - Returns: whether the membership in effect changed.
    mutating func truncate(from index: LogIndex) -> Bool {
        precondition(index > base.index && index <= lastIndex, "a truncation lies within the log")
        lastIndex = index - 1
        while let run = runs.last, run.firstIndex >= index {
            runs.removeLast()
        }
        let count = memberships.count
        while memberships.count > 1, membershipIndex >= index {
            memberships.removeLast()
        }
        precondition(membershipIndex < index, "a committed membership is never taken back")
        return memberships.count != count
    }

    /// Forgets the memberships that a committed newer one has replaced.
    mutating func forgetMemberships(before commitIndex: LogIndex) {
        while memberships.count > 1, memberships[1].index <= commitIndex {
            memberships.removeFirst()
        }
    }

    /// Puts the terms of committed entries right.
    mutating func learnTerms(_ learned: [TermRun]) {
        let lastTerm = lastPosition.term
        runs.removeAll()
        for run in learned where lastIndex > base.index {
            if run.firstIndex <= base.index.next { runs.removeAll() }
            let first = max(run.firstIndex, base.index.next)
            runs.append(TermRun(term: run.term, firstIndex: first))
        }
        precondition(lastPosition.term == lastTerm && isConsistent, "the log's end was known")
    }

    /// Entries below `firstIndex` can no longer be read.
    mutating func advanceBase(to firstIndex: LogIndex) {
        guard firstIndex > base.index.next, let term = term(at: firstIndex - 1) else {
            return
        }
        base = LogPosition(term: term, index: firstIndex - 1)
        while runs.count > 1, runs[1].firstIndex <= firstIndex {
            runs.removeFirst()
        }
        if lastIndex == base.index {
            runs.removeAll()
        } else if runs[0].firstIndex < firstIndex {
            runs[0].firstIndex = firstIndex
        }
    }

    /// Begins anew after `position`, with what files up to it brought.
    mutating func reset(to position: LogPosition, _ membership: Membership) {
        base = position
        lastIndex = position.index
        runs = []
        memberships = [IndexedMembership(index: position.index, membership: membership)]
    }

    /// The last run that starts at or before `index`; searched from the end, where nearly every
    /// question points.
    private func lastRun(startingUpTo index: LogIndex) -> Int? {
        runs.lastIndex { $0.firstIndex <= index }
    }

    /// Whether runs and memberships are sorted and within the log.
    var isConsistent: Bool {
        let runsRise = zip(runs, runs.dropFirst()).allSatisfy {
            $0.firstIndex < $1.firstIndex && $0.term < $1.term
        }
        let runsFit =
            if let first = runs.first, let last = runs.last {
                first.firstIndex == base.index.next && first.term >= base.term
                    && last.firstIndex <= lastIndex
            } else {
                lastIndex == base.index
            }
        let membershipsRise = zip(memberships, memberships.dropFirst()).allSatisfy {
            $0.index < $1.index
        }
        return runsRise && runsFit && membershipsRise && membershipIndex <= lastIndex
    }
}
