import DequeModule
import FlotillaEnvironment
package import FlotillaModel
package import FlotillaRaft
import FlotillaRecords
package import FlotillaStorage
import struct NIOCore.ByteBuffer

/// One partition's replica on this broker: performs what `Raft` decides on the log, the journal and the state machine.
///
/// Inputs are synchronous calls on the replica's shard. Proposals of one loop turn wait in a queue and become one
/// proposal at its end, so that a thousand small batches cost one round of the journal.
///
/// At every instant `appliedIndex` ≤ `log.commitIndex` ≤ `log.lastIndex`.
package final class Replica {
    /// Which replica this is.
    package let group: GroupID
    /// The replica as a member of its group.
    package let member: GroupMember
    /// The entries.
    package let log: PartitionLog
    /// What committed entries mean.
    package let machine: any ReplicatedStateMachine
    /// Entries up to here have been applied.
    package private(set) var appliedIndex: LogIndex
    /// Whether this replica leads and its term start is applied: it may take proposals and answer exactly.
    package private(set) var isServing = false

    private var raft: Raft
    private unowned let host: any ReplicaHost
    private var effects: [Effect] = []
    private var queue: [Proposal] = []
    private var awaitingQuorum = Deque<Unsettled>()
    private var awaitingFlush = Deque<Unsettled>()
    private var unpersisted = Deque<Ticket>()
    private var records: [JournalRecord] = []
    private var acknowledgedIndex: LogIndex = .zero
    private let journalEnd: LogIndex
    private var isLoading = false
    private var isAwaitingTurnEnd = false
    private var journaledCommitIndex: LogIndex = .zero
    private var hasFailed = false

    /// An entry whose proposer waits.
    private struct Unsettled {
        var placed: PlacedEntry
        var completion: (Result<PlacedEntry, ReplicationError>) -> Void
    }

    /// Puts a replica together from what recovery found.
    ///
    /// `membership`: the group's first members, for a log that names none yet.
    /// - Throws: `.unusableEntry` for a state machine's snapshot that cannot be read.
    package init(
        group: GroupID,
        member: GroupMember,
        log: PartitionLog,
        hardState: HardState,
        membership: Membership,
        journalEnd: LogIndex,
        isElectable: Bool,
        machine: any ReplicatedStateMachine,
        settings: Settings,
        seed: UInt64,
        host: any ReplicaHost
    ) throws(ReplicationError) {
        self.group = group
        self.member = member
        self.log = log
        self.machine = machine
        self.host = host
        self.journalEnd = journalEnd
        let state = log.recoveredState
        appliedIndex = state.mark.index
        highWatermark = state.mark.endOffset
        // A term is durable before the first entry that carries it, so a journal that says otherwise has lost something.
        guard hardState.term >= log.lastPosition.term else {
            throw .unusableEntry(
                index: log.lastIndex,
                description: "it is of term \(log.lastPosition.term), and the journal knows only "
                    + "\(hardState.term)"
            )
        }
        raft = Raft(
            self: member,
            restored: log.restoredState(
                hardState: hardState,
                initialMembership: membership,
                isElectable: isElectable
            ),
            settings: settings,
            seed: seed
        )
        try machine.restore(state.stateMachine)
    }

    /// Whether this replica leads, with or without its term start.
    package var isLeader: Bool { raft.role == .leader }

    /// The replica's term.
    package var term: Term { raft.term }

    /// The leader, where it is known.
    package var leader: GroupMember? { raft.leader }

    /// The group's members.
    package var membership: Membership { raft.membership }

    /// One past the last record that a majority has on disk and that is applied here.
    package private(set) var highWatermark: Offset

    /// The index that the next proposal's entry will have, if leadership lasts until the end of the turn.
    package var nextProposalIndex: LogIndex { raft.lastIndex + UInt64(queue.count + 1) }

    /// The bytes proposed in this turn.
    package var queuedByteCount: Int { queue.reduce(0) { $0 + $1.byteCount } }

    // MARK: Inputs

    /// Begins to take part; called once, when the shard is ready for effects.
    package func start() {
        if log.lastIndex > journalEnd {
            // The segments outlived the journal's memory of them: it is told where the log ends, so that what comes next
            // leaves no gap in it.
            records.append(.reset(log.lastPosition, checksum: log.lastFrameChecksum))
            requestTurnEnd()
        }
        applyCommitted()
        if raft.membership.voters == [member] { step(.campaign) }
    }

    /// One unit of Raft's time has passed.
    package func tick() {
        step(.tick)
    }

    /// New settings for the group, such as `min.insync.replicas`.
    package func change(_ settings: Settings) {
        step(.settings(settings))
    }

    /// Queues something to append; it is proposed at the end of the turn.
    package func propose(_ proposal: Proposal) {
        queue.append(proposal)
        requestTurnEnd()
    }

    /// Proposes what the turn has queued, and hands the turn's writes to the journal.
    package func endTurn() {
        isAwaitingTurnEnd = false
        proposeQueue()
        submitRecords()
    }

    /// The journal has made everything up to `ticket` durable.
    package func persisted(ticket: UInt64) {
        var newest: Ticket?
        while let first = unpersisted.first, first.number <= ticket {
            newest = unpersisted.removeFirst()
        }
        guard let newest else { return }
        step(.persisted(newest))
        settle()
    }

    /// The entries that only the journal holds durably, written to it once more so that it can reuse its oldest file.
    ///
    /// - Returns: false when they are not all in memory any more; then segments must take them over.
    package func copyForward() -> Bool {
        guard let suffix = log.journalSuffix(), !suffix.isEmpty else { return false }
        records.append(.entries(suffix))
        requestTurnEnd()
        return true
    }

    /// Gives the log the state after the last applied entry, so that its next sync leaves a checkpoint to start from.
    package func provideCheckpoint() {
        guard appliedIndex == log.commitIndex else { return }
        log.provideState(before: appliedIndex.next, stateMachine: machine.snapshot())
    }

    /// Ends the replica's part in its group, because its partition is deleted: whoever waits is told, and nothing is
    /// taken or handed to the journal any more.
    package func close() {
        guard !hasFailed else { return }
        hasFailed = true
        records.removeAll()
        endLeadership()
    }

    private func requestTurnEnd() {
        guard !isAwaitingTurnEnd else { return }
        isAwaitingTurnEnd = true
        host.needsTurnEnd(self)
    }

    // MARK: Raft's effects

    private func step(_ input: Input) {
        guard !hasFailed else { return }
        raft.step(input, into: &effects)
        // An effect may lead to another step, whose effects then follow at the end.
        var next = 0
        while next < effects.count {
            let effect = effects[next]
            next += 1
            perform(effect)
        }
        effects.removeAll(keepingCapacity: true)
        applyCommitted()
    }

    private func perform(_ effect: Effect) {
        switch effect {
        case .persistHardState(let hardState, let ticket):
            records.append(.hardState(hardState))
            expect(ticket)
        case .append(let range, let term, let content, let ticket):
            append(range, term: term, content)
            expect(ticket)
        case .rejectProposal(let rejection):
            refuseQueue(.rejected(rejection))
        case .commitAdvanced(let index):
            log.commit(upTo: index)
        case .acknowledgedAdvanced(let index):
            acknowledgedIndex = index
        case .roleChanged(let role, _, _):
            if role != .leader { endLeadership() }
            host.leadershipChanged(self)
        case .leaderReady:
            // Served from the moment that the term start is applied, see `applyCommitted()`.
            break
        case .send(let message, let member, let ticket):
            host.send(message, to: member, from: self, after: ticket?.number)
        case .membershipChanged, .membershipChangeFinished, .membershipChangeFailed, .quietChanged,
            .electableChanged, .transferFinished, .transferRejected, .readReady, .readFailed:
            break
        case .truncate, .appendReceived, .installSnapshot, .readEntries, .sendSnapshot,
            .receiveSnapshot:
            preconditionFailure("a group of one has no leader but itself and no follower")
        }
    }

    private func expect(_ ticket: Ticket) {
        unpersisted.append(ticket)
        requestTurnEnd()
    }

    private func submitRecords() {
        guard !records.isEmpty else { return }
        // A hint only: recovery may start committed from here instead of from the end of the segments.
        if log.commitIndex > journaledCommitIndex {
            journaledCommitIndex = log.commitIndex
            records.append(.commit(log.commitIndex))
        }
        let ticket = unpersisted.last?.number ?? 0
        host.journal(records, of: self, ticket: ticket)
        records.removeAll(keepingCapacity: true)
    }

    // MARK: Leading

    private func proposeQueue() {
        guard !queue.isEmpty else { return }
        guard isServing else {
            refuseQueue(.rejected(raft.role == .leader ? .notReady : .notLeader(raft.leader)))
            return
        }
        step(
            .propose(
                queue.map { proposal in
                    ProposedEntry(
                        kind: proposal.isData ? .data : .other,
                        byteCount: proposal.byteCount
                    )
                }
            )
        )
    }

    private func refuseQueue(_ error: ReplicationError) {
        let refused = queue
        queue.removeAll(keepingCapacity: true)
        for proposal in refused { proposal.completion(.failure(error)) }
    }

    private func append(_ range: Range<LogIndex>, term: Term, _ content: AppendContent) {
        switch content {
        case .proposal:
            let proposals = queue
            queue.removeAll(keepingCapacity: true)
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
        case .termStart:
            appendControl(
                .termStart,
                ByteBuffer(),
                at: LogPosition(term: term, index: range.lowerBound)
            )
        case .membership(let membership):
            appendControl(
                .membership,
                membership.payload,
                at: LogPosition(term: term, index: range.lowerBound)
            )
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

    /// Entries that follow each other go to the journal as one record.
    private func addToJournal(_ entry: LogEntry) {
        if case .entries(var entries) = records.last,
            entries.last?.frame.index.next == entry.frame.index
        {
            records.removeLast()
            entries.append(entry)
            records.append(.entries(entries))
        } else {
            records.append(.entries([entry]))
        }
    }

    private var appendTime: Timestamp { max(log.lastAppendTime, host.wallTime) }

    private func segmentFlag(appending byteCount: Int) -> FrameFlags {
        log.shouldRoll(now: appendTime, appending: byteCount) ? .firstOfSegment : []
    }

    private func endLeadership() {
        isServing = false
        machine.leadershipEnded()
        refuseQueue(.rejected(.notLeader(raft.leader)))
        let waiting = Array(awaitingQuorum) + Array(awaitingFlush)
        awaitingQuorum.removeAll()
        awaitingFlush.removeAll()
        for entry in waiting { entry.completion(.failure(.leadershipLost)) }
    }

    // MARK: Applying

    private func applyCommitted(afterLoad: Bool = false) {
        guard !isLoading, !hasFailed else { return }
        var isAfterLoad = afterLoad
        let before = appliedIndex
        while appliedIndex < log.commitIndex {
            do throws(StorageError) {
                let read = try log.entries(
                    from: appliedIndex.next,
                    maxByteCount: Self.applyByteCount,
                    maxCount: Self.applyCount,
                    afterLoad: isAfterLoad
                )
                switch read {
                case .ready(let entries): guard apply(entries) else { return }
                case .load(let load): return resume(after: load)
                }
                isAfterLoad = false
            } catch {
                return fail(.storage(error))
            }
        }
        if raft.isReady, !isServing, raft.role == .leader {
            isServing = true
            machine.leadershipBegan()
            host.leadershipChanged(self)
        }
        // The host first: whoever is answered next must find what the entry changed.
        if appliedIndex > before { host.committed(self) }
        settle()
    }

    /// How much of the log is applied at a time.
    private static let applyByteCount = 4 << 20
    private static let applyCount = 4_096

    /// Applies entries up to the commit index; false when one of them cannot be applied.
    private func apply(_ entries: [LogEntry]) -> Bool {
        for entry in entries where entry.frame.index <= log.commitIndex {
            do throws(ReplicationError) {
                try apply(entry)
            } catch {
                fail(error)
                return false
            }
        }
        return true
    }

    private func apply(_ entry: LogEntry) throws(ReplicationError) {
        let frame = entry.frame
        if frame.flags.contains(.firstOfSegment) {
            log.provideState(before: frame.index, stateMachine: machine.snapshot())
        }
        if frame.kind == .startOffset {
            guard let offset = StartOffsetEntry.offset(in: entry.body) else {
                throw .unusableEntry(
                    index: frame.index,
                    description: "a start offset has eight bytes"
                )
            }
            log.advanceLogStart(to: offset)
        }
        try machine.apply(entry)
        appliedIndex = frame.index
        highWatermark = frame.endOffset
    }

    /// Brings entries into memory on a worker, and goes on applying.
    private func resume(after load: SegmentLoad) {
        isLoading = true
        host.workers.run({ load.perform() }) { [weak self] loaded in
            guard let self else { return }
            self.isLoading = false
            do throws(StorageError) {
                try self.log.finish(loaded)
                self.applyCommitted(afterLoad: true)
            } catch {
                self.fail(.storage(error))
            }
        }
    }

    /// Tells proposers, each kind in the order of the log: what waits for a quorum holds nothing else back.
    private func settle() {
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

    private func fail(_ error: ReplicationError) {
        hasFailed = true
        endLeadership()
        host.failed(self, error)
    }
}

extension Proposal {
    fileprivate var isData: Bool {
        if case .batch = content { true } else { false }
    }
}

/// The payload of a `startOffset` entry: the log's new first offset, eight bytes, little endian.
enum StartOffsetEntry {
    static func payload(_ offset: Offset) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeInteger(offset.rawValue, endianness: .little)
        return buffer
    }

    static func offset(in payload: ByteBuffer) -> Offset? {
        guard payload.readableBytes == MemoryLayout<Int64>.size else { return nil }
        return payload.getInteger(at: payload.readerIndex, endianness: .little).map(Offset.init)
    }
}
