import FlotillaEnvironment
package import FlotillaModel
package import FlotillaRaft
import FlotillaRecords
import FlotillaStorage
import struct NIOCore.ByteBuffer

// What a leader takes into its log, and whom it tells what became of it.

/// An entry whose proposer waits.
struct Unsettled {
    var placed: PlacedEntry
    var completion: (Result<PlacedEntry, ReplicationError>) -> Void
}

extension Replica {
    /// Whether this replica leads, with or without its term start.
    package var isLeader: Bool { raft.role == .leader }

    /// Whether this replica leads and its term start is committed, applied or not.
    package var hasBegunTerm: Bool { raft.isReady }

    /// The replica's term.
    package var term: Term { raft.term }

    /// The leader, where it is known.
    package var leader: GroupMember? { raft.leader }

    /// The group's members, by the newest entry that says so, committed or not.
    package var membership: Membership { raft.membership }

    /// The index that the next proposal's entry will have, if leadership lasts until the end of the turn and Raft appends no membership
    /// meanwhile.
    package var nextProposalIndex: LogIndex { raft.lastIndex + UInt64(queue.count + 1) }

    /// The bytes that wait for their commit, with those proposed in this turn.
    package var uncommittedByteCount: Int { raft.uncommittedByteCount + queuedByteCount }

    /// Queues something to append; it is proposed at the end of the turn.
    package func propose(_ proposal: Proposal) {
        queue.append(proposal)
        queuedByteCount += proposal.byteCount
        requestTurnEnd()
    }

    // MARK: Proposals

    /// Makes one proposal of what the turn has queued.
    func proposeQueue() {
        guard !queue.isEmpty else { return }
        proposed = queue
        queue.removeAll(keepingCapacity: true)
        queuedByteCount = 0
        guard !hasFailed else { return refuseProposed(Self.closed) }
        guard isServing, obstacle == nil else {
            return refuseProposed(.rejected(reasonNotToServe))
        }
        step(
            .propose(
                proposed.map { proposal in
                    ProposedEntry(
                        kind: proposal.isData ? .data : .other,
                        byteCount: proposal.byteCount
                    )
                }
            )
        )
    }

    private var reasonNotToServe: Rejection {
        guard raft.role == .leader else { return .notLeader(raft.leader) }
        return obstacle == nil ? .notReady : .transferring
    }

    func refuseProposed(_ error: ReplicationError) {
        let refused = proposed
        proposed.removeAll(keepingCapacity: true)
        for proposal in refused { proposal.completion(.failure(error)) }
    }

    /// Writes the entries that Raft took into the log and towards the journal.
    func append(_ range: Range<LogIndex>, term: Term, _ content: AppendContent) {
        let position = LogPosition(term: term, index: range.lowerBound)
        switch content {
        case .proposal: appendProposed(range, term: term)
        case .termStart: appendControl(.termStart, ByteBuffer(), at: position)
        case .membership(let membership):
            appendControl(.membership, membership.payload, at: position)
        }
    }

    private func appendProposed(_ range: Range<LogIndex>, term: Term) {
        let proposals = proposed
        proposed.removeAll(keepingCapacity: true)
        precondition(
            UInt64(proposals.count) == range.upperBound.rawValue - range.lowerBound.rawValue,
            "a proposal is taken whole"
        )
        for (step, proposal) in proposals.enumerated() {
            let position = LogPosition(term: term, index: range.lowerBound + UInt64(step))
            let placed = append(proposal.content, at: position)
            let waiting = Unsettled(placed: placed, completion: proposal.completion)
            switch proposal.durability {
            case .quorum: awaitingQuorum.append(waiting)
            case .leader: awaitingFlush.append(waiting)
            }
        }
    }

    private func append(_ content: Proposal.Content, at position: LogPosition) -> PlacedEntry {
        switch content {
        case .batch(let batch):
            let entry = LogEntry.data(
                batch,
                index: position.index,
                term: position.term,
                baseOffset: log.logEndOffset,
                appendTime: appendTime,
                previousChecksum: log.lastFrameChecksum,
                flags: segmentFlag(appending: batch.byteCount)
            )
            return append(entry)
        case .startOffset(let offset):
            return appendControl(.startOffset, StartOffsetEntry.payload(offset), at: position)
        case .roll:
            return appendControl(.roll, ByteBuffer(), at: position, flags: .firstOfSegment)
        }
    }

    @discardableResult
    private func appendControl(
        _ kind: FlotillaRecords.EntryKind,
        _ payload: ByteBuffer,
        at position: LogPosition,
        flags: FrameFlags? = nil
    ) -> PlacedEntry {
        append(
            LogEntry.control(
                kind,
                payload: payload,
                index: position.index,
                term: position.term,
                nextOffset: log.logEndOffset,
                appendTime: appendTime,
                previousChecksum: log.lastFrameChecksum,
                flags: flags ?? segmentFlag(appending: 0)
            )
        )
    }

    private func append(_ entry: LogEntry) -> PlacedEntry {
        log.append([entry])
        addToJournal(entry)
        return PlacedEntry(
            position: entry.frame.position,
            baseOffset: entry.frame.baseOffset,
            appendTime: entry.frame.appendTime
        )
    }

    private var appendTime: Timestamp { max(log.lastAppendTime, host.wallTime) }

    private func segmentFlag(appending byteCount: Int) -> FrameFlags {
        log.shouldRoll(now: appendTime, appending: byteCount) ? .firstOfSegment : []
    }

    // MARK: Proposers

    /// Tells proposers, each kind in the order of the log: what waits for a quorum holds nothing else back.
    func settle() {
        let acknowledged = min(acknowledgedIndex, appliedIndex)
        while let first = awaitingQuorum.first, first.placed.position.index <= acknowledged {
            awaitingQuorum.removeFirst()
            first.completion(.success(first.placed))
        }
        while let first = awaitingFlush.first, first.placed.position.index <= raft.flushedIndex {
            awaitingFlush.removeFirst()
            first.completion(.success(first.placed))
        }
    }

    /// Tells the proposers of what is committed, but waits for more replicas than a quorum, that these are not there.
    package func refuseUnacknowledged() {
        settle()
        while let first = awaitingQuorum.first, first.placed.position.index <= appliedIndex {
            awaitingQuorum.removeFirst()
            first.completion(.failure(.tooFewReplicas))
        }
    }

    /// The role, the term or the known leader changed.
    func roleChanged(_ role: Role) {
        if role != .leader, isLeading {
            // What was acknowledged in the very step that ended the leadership is acknowledged still.
            applyCommitted()
            guard !hasFailed else { return }
            endLeadership(refusing: .rejected(.notLeader(raft.leader)))
        }
        isLeading = role == .leader
        if !isLeading { outbox.forgetRoutes() }
        host.leadershipChanged(self)
    }

    /// Begins to take proposals, once everything before the term's first entry is applied.
    func beginServing() {
        isServing = true
        machine.leadershipBegan()
        host.leadershipChanged(self)
    }

    /// Tells everybody who waits for this leader that it no longer leads.
    ///
    /// What becomes of entries in its log, the next leader decides: they may be committed yet, or truncated away.
    ///
    /// - Parameter error: for what is not in the log.
    func endLeadership(refusing error: ReplicationError) {
        isLeading = false
        if isServing {
            isServing = false
            machine.leadershipEnded()
        }
        proposed += queue
        queue.removeAll(keepingCapacity: true)
        queuedByteCount = 0
        refuseProposed(error)
        let waiting = Array(awaitingQuorum) + Array(awaitingFlush)
        awaitingQuorum.removeAll()
        awaitingFlush.removeAll()
        for entry in waiting { entry.completion(.failure(.leadershipLost)) }
    }
}

extension Proposal {
    fileprivate var isData: Bool {
        if case .batch = content { true } else { false }
    }
}
