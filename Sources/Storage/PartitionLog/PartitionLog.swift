package import FlotillaEnvironment
package import FlotillaModel
package import FlotillaRaft
package import FlotillaRecords
import struct NIOCore.ByteBuffer

/// What the logs of one shard share.
package struct LogResources {
    /// Where files live.
    package let disk: any Disk
    /// The memory for recent entries.
    package let tail: TailBudget
    /// The open segments.
    package let segments: SegmentCache

    /// Collects what the logs of one shard share.
    package init(disk: any Disk, tail: TailBudget, segments: SegmentCache) {
        self.disk = disk
        self.tail = tail
        self.segments = segments
    }
}

/// One replica's log: recent entries in memory, committed ones in segments.
///
/// Confined to its shard, synchronous, and without a call to the disk: what blocks leaves as a
/// `Sendable` job whose `perform()` runs on a worker and whose result comes back to a `finish(_:)`.
/// Durability before the segments is the journal's business.
///
/// At every instant `syncedIndex` ≤ `writtenIndex` ≤ `commitIndex` ≤ `lastIndex`, and the window in
/// memory holds at least all entries above `writtenIndex`.
package final class PartitionLog {
    /// The replica.
    package let group: GroupID
    /// The replica's directory.
    package let directory: String
    /// What the topic's settings ask for.
    package var configuration: LogConfiguration
    /// Where the state machines start from: the last checkpoint that recovery found.
    package let recoveredState: LogState
    /// Damaged entries among which a term begins, and nobody knows where.
    var uncertainTerms: [Range<LogIndex>]
    /// What reads and recovery found damaged.
    var foundDamage: [Damage]

    /// Up to where the log is known to be committed.
    package internal(set) var commitIndex: LogIndex
    /// The first readable offset.
    package internal(set) var logStartOffset: Offset
    /// Bytes of committed entries that are not in segments.
    package internal(set) var pendingByteCount = 0
    /// Bytes of all entries that are not in segments.
    package internal(set) var unsegmentedByteCount = 0

    let resources: LogResources
    let window: TailWindow
    /// The segments in order; all but the last are sealed.
    var segments: [Segment]
    var terms: TermTable
    /// The memberships from the last one in segments on, and every later one.
    var knownMemberships: [IndexedMembership]
    /// The last entry.
    var endMark: LogMark
    /// The last entry that is durable in segments.
    var syncedMark: LogMark
    /// The segment that the last entry belongs to, whether it is written or not.
    var openSegment: OpenSegment
    /// States that wait for the writing to reach them, in order.
    var pendingStates: [LogState] = []
    /// A state that the next sync writes out.
    var readyCheckpoint: LogState?
    /// The `.state` files that stand beside no segment.
    var checkpointNames: [SegmentName]
    /// Files of segments whose removal was cut short.
    var remains: [String]
    var isWriting = false
    var isSyncing = false
    var isScrubbing = false
    /// Whether another log takes this one's place: nothing is begun on its files any more.
    var isRetired = false
    /// The segment whose files are being healed.
    var repairing: SegmentName?
    /// States that the replay came by and whose files are damaged; as many as segments at most.
    var rebuiltStates: [LogState] = []
    /// The segments that are being sent to other replicas.
    var leases: [ShipmentLease] = []
    var nextLease: UInt64 = 1

    /// Opens a log from what recovery found; no call to the disk.
    package init(
        _ recovered: RecoveredLog,
        resources: LogResources,
        configuration: LogConfiguration
    ) {
        group = recovered.group
        directory = recovered.directory
        self.resources = resources
        self.configuration = configuration
        recoveredState = recovered.state
        uncertainTerms = recovered.uncertainTerms
        foundDamage = recovered.damage
        remains = recovered.remains
        logStartOffset = recovered.state.logStartOffset
        segments = recovered.segments.map {
            Segment(name: $0.name, extent: $0.extent, lastMark: $0.lastMark)
        }
        terms = recovered.terms
        knownMemberships = recovered.memberships
        endMark = recovered.writtenMark
        syncedMark = recovered.syncedMark
        commitIndex = recovered.writtenMark.index
        checkpointNames = recovered.checkpointNames
        window = TailWindow(lastIndex: recovered.writtenMark.index)
        openSegment = OpenSegment()
        openSegment = writtenOpenSegment
        segments.last?.isDirty = syncedMark.index < endMark.index
        append(recovered.entries)
        if let membership = recovered.journaledMembership { restore(membership) }
        commit(upTo: recovered.commitIndex)
    }

    // MARK: Positions

    /// The first entry that the log has.
    package var firstIndex: LogIndex {
        segments.first?.name.firstIndex ?? window.firstIndex
    }

    /// The last entry.
    package var lastIndex: LogIndex {
        endMark.index
    }

    /// What the log ends with, as Raft compares it.
    package var lastPosition: LogPosition {
        LogPosition(term: endMark.term, index: endMark.index)
    }

    /// The frame CRC that the next entry continues.
    package var lastFrameChecksum: UInt32 {
        endMark.checksum
    }

    /// Whether an entry is in memory, so that reading it costs no disk.
    package func isInMemory(_ index: LogIndex) -> Bool {
        window.contains(index)
    }

    /// The offset of the next record.
    package var logEndOffset: Offset {
        endMark.endOffset
    }

    /// The append time of the last entry; `.none` before the first.
    package var lastAppendTime: Timestamp {
        endMark.appendTime
    }

    /// The last entry that is in segment files.
    package var writtenIndex: LogIndex {
        window.writtenIndex
    }

    /// The last entry that is durable in segment files; the journal may forget up to here.
    package var syncedIndex: LogIndex {
        syncedMark.index
    }

    /// What is known to be damaged or missing; ask when the state machines have replayed, since
    /// only then the log's start is known.
    package var damage: [Damage] {
        guard let first = segments.first?.name, logStartOffset < first.baseOffset else {
            return foundDamage
        }
        let lost = Damage(
            indexes: nil,
            offsets: logStartOffset..<first.baseOffset,
            file: directory,
            position: 0,
            reason: .missing
        )
        return [lost] + foundDamage
    }

    /// The memberships that count: the one in effect at the commit index, and every later one in
    /// the log.
    package var memberships: [IndexedMembership] {
        let inEffect = knownMemberships.lastIndex { $0.index <= commitIndex } ?? 0
        return Array(knownMemberships.dropFirst(inEffect))
    }

    /// The term of an entry, or of the one before the first; nil beyond the log, or where the log
    /// began with a shipped segment.
    package func term(at index: LogIndex) -> Term? {
        guard index > .zero else { return .zero }
        return index <= lastIndex ? terms.term(at: index) : nil
    }

    /// The largest term up to `term` and its end offset (Kafka's OffsetForLeaderEpoch); nil when
    /// there is none.
    package func endOffset(ofEpoch term: Term) -> (term: Term, endOffset: Offset)? {
        terms.endOffset(of: term, logEndOffset: logEndOffset)
    }

    /// Whether the terms of all entries are known; if they are not, healing finds them.
    package var areTermsKnown: Bool {
        uncertainTerms.allSatisfy { $0.upperBound <= firstIndex }
    }

    /// The terms that the log has entries of.
    package var termTable: TermTable {
        terms
    }

    /// The frame of an entry, if it is in memory; `entries(from:)` reads others.
    package func frame(at index: LogIndex) -> Frame? {
        if window.contains(index) { return window[index].frame }
        guard let segment = segment(holding: index), let reader = segment.reader else { return nil }
        let row = Int(index.rawValue - segment.name.firstIndex.rawValue)
        guard row < reader.extent.entryCount else { return nil }
        return try? reader.row(row).frame
    }

    // MARK: The log's end

    /// Adds entries behind the last; they must continue its chain.
    package func append(_ entries: [LogEntry]) {
        for entry in entries {
            precondition(
                endMark.isContinued(by: entry.frame),
                "an appended entry continues the log's chain"
            )
            if entry.frame.kind == .membership { noteMembership(of: entry) }
            terms.note(entry.frame.term, at: entry.frame.index, offset: entry.frame.baseOffset)
            resources.tail.admit(entry, to: window)
            openSegment.add(entry.frame)
            unsegmentedByteCount += entry.byteCount
            endMark = LogMark(entry.frame)
        }
        resources.tail.trim()
    }

    /// Removes the entries from `index` on; none of them is committed.
    package func truncate(from index: LogIndex) {
        precondition(index > commitIndex, "what is committed is never truncated")
        guard index <= lastIndex else { return }
        var dropped = index
        while dropped < window.endIndex {
            unsegmentedByteCount -= window[dropped].frame.entryByteCount
            dropped = dropped.next
        }
        window.truncate(from: index)
        terms.truncate(from: index)
        knownMemberships.removeAll { $0.index >= index }
        endMark = mark(at: index - 1)
        openSegment = writtenOpenSegment
        var kept = writtenIndex.next
        while kept < window.endIndex {
            openSegment.add(window[kept].frame)
            kept = kept.next
        }
    }

    /// Makes the entries up to `index` eligible for segments.
    package func commit(upTo index: LogIndex) {
        guard index > commitIndex else { return }
        precondition(index <= lastIndex, "a log commits what it has")
        while commitIndex < index {
            commitIndex = commitIndex.next
            pendingByteCount += window[commitIndex].frame.entryByteCount
        }
    }

    /// The entries that segments do not durably have, for a journal that wants to drop its oldest
    /// file.
    ///
    /// - Returns: nil when some of them left memory; a sync then does what a copy would.
    package func journalSuffix() -> [LogEntry]? {
        guard window.firstIndex <= syncedIndex.next else { return nil }
        var entries: [LogEntry] = []
        var index = syncedIndex.next
        while index < window.endIndex {
            entries.append(window[index].entry)
            index = index.next
        }
        return entries
    }

    // MARK: Parts

    /// The segment that the log's end belongs to.
    struct OpenSegment {
        var entryCount = 0
        var logByteCount = 0
        var firstAppendTime = Timestamp.none

        mutating func add(_ frame: Frame) {
            if frame.flags.contains(.firstOfSegment) { self = OpenSegment() }
            if entryCount == 0 { firstAppendTime = frame.appendTime }
            entryCount += 1
            if frame.kind == .data { logByteCount += frame.payloadByteCount }
        }
    }

    private var writtenOpenSegment: OpenSegment {
        guard let active = segments.last else { return OpenSegment() }
        return OpenSegment(
            entryCount: active.extent.entryCount,
            logByteCount: active.extent.logByteCount,
            firstAppendTime: active.extent.firstAppendTime
        )
    }

    /// The last entry that is in segment files.
    var writtenMark: LogMark {
        segments.last?.lastMark ?? recoveredState.mark
    }

    /// The place of an entry that is in memory, or is the last written one.
    func mark(at index: LogIndex) -> LogMark {
        if window.contains(index) { return LogMark(window[index].frame) }
        precondition(
            index == writtenIndex,
            "only entries in memory and the last written one are asked for"
        )
        return writtenMark
    }

    /// The segment that has an entry in its files.
    func segment(holding index: LogIndex) -> Segment? {
        var low = 0
        var high = segments.count
        while low < high {
            let middle = (low + high) / 2
            if segments[middle].endIndex > index { high = middle } else { low = middle + 1 }
        }
        guard low < segments.count, segments[low].name.firstIndex <= index else { return nil }
        return segments[low]
    }

    /// A committed membership counts though damage took its entry.
    ///
    /// With an older one the replica could win an election that the present members know nothing of.
    private func restore(_ committed: IndexedMembership) {
        // Of a log that lost its end this is the last that is known; a leader will send the entry again.
        let index = min(committed.index, lastIndex)
        let place = knownMemberships.firstIndex { $0.index >= index } ?? knownMemberships.endIndex
        if place < knownMemberships.endIndex, knownMemberships[place].index == index {
            guard committed.index > index else { return }
            knownMemberships.remove(at: place)
        }
        // What the log's checkpoint begins with is newer than all that the journal knows of before it.
        guard place > 0 || committed.index > index else { return }
        guard place == 0 || knownMemberships[place - 1].membership != committed.membership else {
            return
        }
        knownMemberships.insert(
            IndexedMembership(index: index, membership: committed.membership),
            at: place
        )
    }

    private func noteMembership(of entry: LogEntry) {
        guard let membership = Membership(payload: entry.body) else {
            preconditionFailure("a membership entry is checked before it is appended")
        }
        knownMemberships.append(IndexedMembership(index: entry.frame.index, membership: membership))
    }
}

extension PartitionLog {
    /// What Raft wants to know at a start.
    ///
    /// - Parameters:
    ///   - hardState: from the journal.
    ///   - initialMembership: what the group was created with, for a log that has no membership
    ///     entry yet.
    ///   - isElectable: whether journal and log are known to hold all that was acknowledged.
    /// - Returns: the log as terms, memberships and indexes.
    package func restoredState(
        hardState: HardState,
        initialMembership: Membership,
        isElectable: Bool
    ) -> RestoredState {
        var memberships = memberships
        if let first = memberships.first, first.index == .zero, first.membership == .empty {
            memberships[0].membership = initialMembership
        }
        return RestoredState(
            hardState: hardState,
            base: base,
            lastIndex: lastIndex,
            termRuns: termRuns,
            memberships: memberships,
            commitIndex: commitIndex,
            isElectable: isElectable,
            areTermsKnown: areTermsKnown
        )
    }

    private var base: LogPosition {
        LogPosition(term: term(at: firstIndex - 1) ?? .zero, index: firstIndex - 1)
    }

    /// The terms of the entries that the log has.
    package var termRuns: [TermRun] {
        let base = base
        var runs: [TermRun] = []
        for row in terms.rows {
            if row.firstIndex <= firstIndex { runs.removeAll() }
            runs.append(TermRun(term: row.term, firstIndex: max(row.firstIndex, firstIndex)))
        }
        if lastIndex < firstIndex { runs.removeAll() }
        // Where damage took the first rows their terms are not known; they are committed, and nobody asks.
        if let first = runs.first, first.firstIndex > firstIndex {
            if first.term == base.term {
                runs[0].firstIndex = firstIndex
            } else {
                runs.insert(TermRun(term: base.term, firstIndex: firstIndex), at: 0)
            }
        }
        return runs
    }
}
