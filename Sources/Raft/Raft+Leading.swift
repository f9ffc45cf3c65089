import FlotillaModel

// What a leader takes into its log, and when it counts as committed (§5.3 and §5.4.2).

extension Raft {
    // MARK: Proposals

    /// Takes entries into the log: all or none.
    mutating func propose(_ entries: [ProposedEntry], into effects: inout [Effect]) {
        let byteCount = entries.reduce(0) { $0 + $1.byteCount }
        if let rejection = reasonToReject(proposalOf: byteCount) {
            effects.append(.rejectProposal(rejection))
            return
        }
        precondition(!entries.isEmpty, "a proposal has an entry")
        precondition(
            entries.allSatisfy { $0.kind == .data || $0.kind == .other },
            "term starts and memberships are written by Raft alone"
        )
        wake(into: &effects)
        appendOwn(.proposal, entries, into: &effects)
    }

    private func reasonToReject(proposalOf byteCount: Int) -> Rejection? {
        guard case .leader(let leader) = state else {
            return .notLeader(leader)
        }
        if !leader.isReady {
            return .notReady
        }
        if leader.transfer != nil {
            return .transferring
        }
        let waiting = leader.uncommittedByteCount
        return waiting > 0 && waiting + byteCount > settings.uncommittedByteLimit
            ? .overloaded : nil
    }

    /// Puts entries of the leader's term into its log, asks for their write, and sends them on.
    ///
    /// The leader's disk and the followers work at the same time; the leader's own copy counts
    /// towards the quorum once it is durable, like everybody else's.
    mutating func appendOwn(
        _ content: AppendContent,
        _ entries: [ProposedEntry],
        into effects: inout [Effect]
    ) {
        let start = lastIndex.next
        let hasFollowers = !leading.progress.isEmpty
        var byteCount = 0
        for entry in entries {
            log.append(term: term, kind: entry.kind)
            byteCount += entry.byteCount
            if hasFollowers {
                let descriptor = EntryDescriptor(
                    term: term,
                    kind: entry.kind,
                    byteCount: entry.byteCount
                )
                leading.recent.append(descriptor)
            }
        }
        if !hasFollowers {
            leading.recent = RecentEntries(firstIndex: lastIndex.next)
        }
        leading.recent.drop(beyond: settings.recentEntryLimit)
        leading.uncommitted.append(.init(lastIndex: lastIndex, byteCount: byteCount))
        leading.uncommittedByteCount += byteCount
        let ticket = writes.addLog(start...lastIndex, term: term)
        effects.append(.append(start..<lastIndex.next, term: term, content, ticket))
        for slot in leading.progress.indices {
            sendAppends(to: slot, into: &effects)
        }
    }

    // MARK: Commit

    /// Commits what a quorum has made durable, if an entry of this term is among it.
    ///
    /// An entry of an earlier term on a majority may still be replaced; it is committed by the
    /// first entry of this term after it.
    ///
    /// - Source: Ongaro and Ousterhout (2014), §5.4.2 and figure 8.
    mutating func advanceCommit(into effects: inout [Effect]) {
        let candidate = membership.highestIndex(durableIndex(of:))
        if candidate > commitIndex, log.term(at: candidate) == term {
            commitIndex = candidate
            log.forgetMemberships(before: commitIndex)
            effects.append(.commitAdvanced(candidate))
        }
        let quorum = Quorum(atLeast: settings.minInSyncReplicas)
        let acknowledged = membership.highestIndex(reachedBy: quorum, durableIndex(of:))
        if min(acknowledged, commitIndex) > leading.acknowledgedIndex {
            leading.acknowledgedIndex = min(acknowledged, commitIndex)
            effects.append(.acknowledgedAdvanced(leading.acknowledgedIndex))
        }
        releaseUncommitted()
        noteReady(into: &effects)
        advanceMembershipChange(into: &effects)
    }

    private func durableIndex(of voter: GroupMember) -> LogIndex {
        voter == member ? flushedIndex : progress(of: voter)?.match ?? .zero
    }

    private mutating func releaseUncommitted() {
        let committed = leading.uncommitted.prefix { $0.lastIndex <= commitIndex }
        guard !committed.isEmpty else {
            return
        }
        let byteCount = committed.reduce(0) { $0 + $1.byteCount }
        leading.uncommitted.removeFirst(committed.count)
        leading.uncommittedByteCount -= byteCount
    }

    /// The term has begun for good: now this leader knows everything that was committed before it.
    private mutating func noteReady(into effects: inout [Effect]) {
        guard !leading.isReady, commitIndex >= leading.termStartIndex else {
            return
        }
        leading.isReady = true
        effects.append(.leaderReady(term))
    }

    // MARK: The log's head

    /// Entries below `firstIndex` can no longer be read; followers that need them get files.
    mutating func advanceLogStart(to firstIndex: LogIndex) {
        precondition(firstIndex <= commitIndex.next, "only committed entries leave the log")
        log.advanceBase(to: firstIndex)
        log.forgetMemberships(before: commitIndex)
    }
}
