import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords

/// Goes through the rows behind a checkpoint, and decides where the journal takes over.
///
/// Three stretches, by index:
///
/// 1. From the checkpoint up to the journal's first entry: let go by the journal, so durable. Each
///    row is verified; what fails is damage.
/// 2. The journal's entries: whatever the segments have of them is rewritten. Rows that equal them
///    tell that they were committed.
/// 3. Behind the journal's last entry. There is nothing, unless the journal lost its end or is not
///    there at all: rows are then verified to the last byte, and the first that fails is a torn
///    tail if nothing sound follows.
struct RecoveryWalk {
    let recovery: LogRecovery
    private(set) var recovered: RecoveredLog
    /// The journal's entries behind the checkpoint, up to the first gap.
    private var suffix: [LogEntry]
    /// What the journal has behind a gap that damage left in it.
    private var remainder: [LogEntry]
    /// Whether every row was let go by a journal, so that none may be torn.
    private let isAllDurable: Bool
    /// The last row that was readable.
    private var mark: LogMark
    /// Whether `mark` is the entry right before the next; false behind damage.
    private var isMarkCurrent = true
    /// The next row's index.
    private var nextIndex: LogIndex
    private var extent: SegmentExtent
    private var segment: SegmentName?
    /// Whether a torn tail was found.
    private var isCut = false

    init(recovery: LogRecovery, recovered: RecoveredLog) {
        self.recovery = recovery
        self.recovered = recovered
        let state = recovered.state
        let known = recovery.journal?.entries ?? []
        let behind = known.drop { $0.frame.index <= state.mark.index }
        let run = Self.firstRun(of: behind)
        suffix = Array(run)
        remainder = Array(behind.dropFirst(run.count))
        isAllDurable = recovery.journal != nil && known.isEmpty
        mark = state.mark
        nextIndex = state.mark.index.next
        extent = state.extent
        segment = state.extent.entryCount > 0 ? state.segment : nil
    }

    /// The entries up to the first gap.
    private static func firstRun(of entries: ArraySlice<LogEntry>) -> ArraySlice<LogEntry> {
        var end = entries.startIndex
        while end < entries.endIndex,
            end == entries.startIndex
                || LogMark(entries[end - 1].frame).isContinued(by: entries[end].frame)
        {
            end += 1
        }
        return entries[..<end]
    }

    private var firstJournalIndex: LogIndex? {
        suffix.first?.frame.index
    }

    private var commitHint: LogIndex {
        recovery.journal?.commitIndex ?? .zero
    }

    // MARK: The walk

    mutating func run(_ names: [SegmentName]) throws(StorageError) {
        if let segment, names.first != segment { noteLostActiveSegment(segment) }
        for name in names {
            if let firstJournalIndex, name.firstIndex > firstJournalIndex { continue }
            var rest = try recovery.openScanner(name, noting: &recovered)
            if name.firstIndex > nextIndex {
                guard firstJournalIndex.map({ $0 > nextIndex }) ?? true else { break }
                noteMissing(upTo: name.firstIndex - 1)
            }
            begin(name)
            checkLengths(rest)
            let link = isMarkCurrent ? previousChecksum(name) : nil
            let hasMore = try walkDurable(&rest)
            // A segment of which nothing is durable is begun anew, header and all.
            if extent.entryCount > 0 {
                try recovery.check(rest.header, of: name, previousChecksum: link, in: &recovered)
            }
            guard hasMore else { break }
        }
        try finish(names)
    }

    /// Goes through the first stretch in one segment; false where it ends.
    private mutating func walkDurable(_ scanner: inout SegmentScanner) throws(StorageError) -> Bool
    {
        while nextIndex != firstJournalIndex {
            let number = Int(nextIndex.rawValue - scanner.name.firstIndex.rawValue)
            guard number < scanner.rowCount else { return true }
            switch try wrapped({ () throws(DiskError) in try scanner.row(number) }) {
            case .success(let row) where !isMarkCurrent || mark.isContinued(by: row.frame):
                try take(row, &scanner)
            case .success:
                passDamaged(number, .chain)
            case .failure(let problem):
                if try isTorn(number, &scanner) {
                    isCut = true
                    return false
                }
                passDamaged(number, problem)
            }
        }
        return false
    }

    private mutating func take(_ row: FrameRow, _ scanner: inout SegmentScanner)
        throws(StorageError)
    {
        if row.frame.kind == .membership,
            let entry = try wrapped({ () throws(DiskError) in try scanner.entry(row) }),
            let membership = Membership(payload: entry.body)
        {
            recovered.memberships.append(
                IndexedMembership(index: row.frame.index, membership: membership)
            )
        }
        noteTermBehindDamage(row.frame)
        recovered.terms.note(row.frame.term, at: row.frame.index, offset: row.frame.baseOffset)
        closeDamage(before: row.frame.baseOffset)
        extent.take(row)
        mark = LogMark(row.frame)
        isMarkCurrent = true
        nextIndex = nextIndex.next
    }

    /// Whether nothing sound follows a row that nobody promised: then a write was cut off there.
    private func isTorn(_ number: Int, _ scanner: inout SegmentScanner) throws(StorageError) -> Bool
    {
        guard !isAllDurable, firstJournalIndex == nil, nextIndex > commitHint else { return false }
        var rest = scanner
        for later in number + 1..<max(scanner.rowCount, number + 1) {
            let row = try recovery.wrapped { () throws(DiskError) in try rest.row(later) }
            if case .success = row { return false }
        }
        return true
    }

    // MARK: Damage

    private mutating func passDamaged(_ number: Int, _ problem: RowProblem) {
        guard let segment else { preconditionFailure("rows lie in a segment") }
        recovered.note(
            recovery.damagedRow(
                number,
                of: segment,
                problem,
                offsets: mark.endOffset..<mark.endOffset
            )
        )
        isMarkCurrent = false
        extent.entryCount += 1
        nextIndex = nextIndex.next
    }

    private mutating func noteTermBehindDamage(_ frame: Frame) {
        guard !isMarkCurrent, frame.term != mark.term, mark.index.next < frame.index else { return }
        recovered.uncertainTerms.append(mark.index.next..<frame.index)
    }

    /// Now that a sound row follows, it is known which offsets the damage took.
    private mutating func closeDamage(before offset: Offset) {
        guard !isMarkCurrent, let last = recovered.damage.indices.last,
            recovered.damage[last].indexes != nil
        else { return }
        recovered.damage[last].offsets = mark.endOffset..<max(mark.endOffset, offset)
    }

    private mutating func noteMissing(upTo last: LogIndex) {
        let name = segment ?? recovered.state.segment
        let row = Int(nextIndex.rawValue - name.firstIndex.rawValue)
        recovered.note(
            Damage(
                indexes: nextIndex...last,
                offsets: mark.endOffset..<mark.endOffset,
                file: "\(recovery.directory)/\(name.fileName(.frames))",
                position: Int64(SegmentReader.range(of: row).lowerBound),
                reason: .missing
            )
        )
        extent.entryCount += Int(last.rawValue - nextIndex.rawValue) + 1
        nextIndex = last.next
        isMarkCurrent = false
    }

    private mutating func noteLostActiveSegment(_ name: SegmentName) {
        recovered.note(
            Damage(
                indexes: name.firstIndex...recovered.state.mark.index,
                offsets: name.baseOffset..<recovered.state.mark.endOffset,
                file: "\(recovery.directory)/\(name.fileName(.frames))",
                position: 0,
                reason: .missing
            )
        )
    }

    // MARK: Segments

    /// Entries that the journal lost before those that it has were perhaps never committed, and a leader may have others in their
    /// places: then what it has counts no more than they do, and a leader sends it all again.
    private mutating func abandonJournalBehindGap() {
        guard recovery.journal?.mayLackEntries == true, let first = firstJournalIndex,
            nextIndex < first
        else { return }
        suffix = []
        remainder = []
        recovered.isEndKnown = false
    }

    /// What a checkpoint promised, and the files are too short for.
    private mutating func checkLengths(_ scanner: SegmentScanner) {
        let file = "\(recovery.directory)/\(scanner.name.fileName(.frames))"
        if scanner.rowCount < extent.entryCount {
            let first = scanner.name.firstIndex + UInt64(scanner.rowCount)
            recovered.note(
                Damage(
                    indexes: first...mark.index,
                    offsets: nil,
                    file: file,
                    position: Int64(SegmentReader.range(of: scanner.rowCount).lowerBound),
                    reason: .missing
                )
            )
        } else if scanner.logByteCount < extent.logByteCount
            || scanner.controlByteCount < extent.controlByteCount
        {
            recovered.note(
                Damage(indexes: nil, offsets: nil, file: file, position: 0, reason: .payload)
            )
        }
    }

    /// Moves on to a segment; the one before is sealed.
    private mutating func begin(_ name: SegmentName) {
        guard name != segment else { return }
        keepSegment()
        segment = name
        extent = SegmentExtent()
    }

    private mutating func keepSegment() {
        guard let segment, extent.entryCount > 0 else { return }
        recovered.segments.append(
            RecoveredLog.RecoveredSegment(name: segment, extent: extent, lastMark: mark)
        )
    }

    private func previousChecksum(_ name: SegmentName) -> UInt32? {
        name.firstIndex == mark.index.next ? mark.checksum : nil
    }

    // MARK: The end

    private mutating func finish(_ names: [SegmentName]) throws(StorageError) {
        abandonJournalBehindGap()
        if let first = suffix.first?.frame {
            if nextIndex < first.index { noteMissing(upTo: first.index - 1) }
            try joinJournal(first, names)
        } else {
            let known = max(commitHint, recovered.state.mark.index)
            recovered.isEndKnown = recovered.isEndKnown && isMarkCurrent
            if nextIndex <= known { noteMissing(upTo: known) }
            endWithMark()
        }
        keepSegment()
        if isCut { try cutTail() }
        let expectedEnd = max(
            commitHint,
            recovered.state.mark.index,
            recovery.journal?.lastIndex ?? .zero
        )
        if lastEntryIndex < expectedEnd { recovered.isEndKnown = false }
        recovered.journaledMembership = recovery.journal?.membership
        recovered.writtenMark = mark
        recovered.syncedMark = recovery.journal == nil ? recovered.state.mark : mark
        // Among entries of which the journal lost some, an older one may stand in the place of what was committed.
        let hint = recovery.journal?.mayLackEntries == true ? .zero : commitHint
        recovered.commitIndex = max(
            recovered.commitIndex,
            min(hint, lastEntryIndex),
            mark.index
        )
    }

    /// Leaves out the rows behind the last sound one, in however many segments.
    ///
    /// A leader sends those entries again, and they take the same places.
    private mutating func endWithMark() {
        func kept(_ name: SegmentName, _ extent: SegmentExtent) -> Int {
            max(
                0,
                min(extent.entryCount, Int(mark.index.rawValue) + 1 - Int(name.firstIndex.rawValue))
            )
        }
        guard let segment else { return }
        extent.entryCount = kept(segment, extent)
        guard extent.entryCount == 0 else { return }
        while let last = recovered.segments.last {
            let count = kept(last.name, last.extent)
            guard count == 0 else {
                recovered.segments[recovered.segments.count - 1].extent.entryCount = count
                return
            }
            recovered.segments.removeLast()
        }
    }

    /// Cuts what a write left unfinished where no journal promises anything, so that the sealed
    /// segment will be like all others.
    private func cutTail() throws(StorageError) {
        guard let segment else { return }
        try wrapped { () throws(DiskError) in
            let files = try SegmentFiles.open(
                segment,
                in: recovery.directory,
                on: recovery.disk,
                .readWrite
            )
            try files.frames.truncate(to: Int64(extent.frameTableByteCount))
            try files.log.truncate(to: Int64(extent.logByteCount))
            try files.control.truncate(to: Int64(extent.controlByteCount))
        }
    }

    private var lastEntryIndex: LogIndex {
        recovered.entries.last?.frame.index ?? mark.index
    }

    /// Continues with the journal's entries, and finds how many of them segments had: those were
    /// committed.
    private mutating func joinJournal(_ first: Frame, _ names: [SegmentName]) throws(StorageError) {
        if !mark.isContinued(by: first) {
            if isMarkCurrent {
                recovered.note(chainDamage(at: mark.index))
            }
            noteTermBehindDamage(first)
            closeDamage(before: first.baseOffset)
            try findPositions(first, names)
            mark = LogMark(
                index: first.index - 1,
                term: min(mark.term, first.term),
                checksum: first.previousChecksum,
                endOffset: first.baseOffset,
                appendTime: min(mark.appendTime, first.appendTime)
            )
        }
        recovered.entries = suffix
        var committed = mark.index
        var index = first.index
        for name in names where name.firstIndex <= lastEntryIndex.next {
            guard name.firstIndex <= index, var scanner = try recovery.openScannerIfThere(name)
            else { break }
            while let row = try unprovenRow(index, &scanner) {
                let position = Int(index.rawValue - first.index.rawValue)
                if position < suffix.count {
                    guard suffix[position].frame == row.frame else { break }
                } else {
                    guard let entry = try provenEntry(index, &scanner) else { break }
                    recovered.entries.append(entry)
                }
                committed = index
                index = index.next
            }
        }
        recovered.commitIndex = committed
        for entry in remainder where entry.frame.index == lastEntryIndex.next {
            guard let last = recovered.entries.last,
                LogMark(last.frame).isContinued(by: entry.frame)
            else { break }
            recovered.entries.append(entry)
        }
    }

    private func unprovenRow(_ index: LogIndex, _ scanner: inout SegmentScanner)
        throws(StorageError) -> FrameRow?
    {
        let number = Int(index.rawValue - scanner.name.firstIndex.rawValue)
        let row = try wrapped { () throws(DiskError) in try scanner.unprovenRow(number) }
        return try? row.get()
    }

    /// An entry that only the segments have, if it continues the log and every byte of it is right.
    private func provenEntry(_ index: LogIndex, _ scanner: inout SegmentScanner)
        throws(StorageError) -> LogEntry?
    {
        let number = Int(index.rawValue - scanner.name.firstIndex.rawValue)
        let last = LogMark((recovered.entries.last ?? suffix[suffix.count - 1]).frame)
        guard
            case .success(let row) = try wrapped({ () throws(DiskError) in try scanner.row(number) }
            ),
            last.isContinued(by: row.frame),
            let entry = try wrapped({ () throws(DiskError) in try scanner.entry(row) }),
            (try? entry.verifyBatch()) != nil
        else { return nil }
        return entry
    }

    /// Behind damage it is not known where the next payload goes: a row of the segment that equals
    /// the journal's entry tells, else the batches in `.log`, else the files' lengths.
    private mutating func findPositions(_ first: Frame, _ names: [SegmentName]) throws(StorageError)
    {
        guard let segment, names.contains(segment), !first.flags.contains(.firstOfSegment) else {
            return
        }
        guard var scanner = try recovery.openScannerIfThere(segment) else { return }
        let start = extent.logByteCount
        let walked = try wrapped { () throws(DiskError) in
            try scanner.position(ofBatchAt: first.baseOffset, from: start)
        }
        var logEnd = walked ?? scanner.logByteCount
        var controlEnd = scanner.controlByteCount
        var hasLogEnd = false
        var hasControlEnd = false
        for entry in suffix {
            guard let row = try unprovenRow(entry.frame.index, &scanner), row.frame == entry.frame
            else { break }
            if row.frame.kind == .data, !hasLogEnd {
                logEnd = Int(row.position)
                hasLogEnd = true
            } else if row.frame.kind != .data, !hasControlEnd {
                controlEnd = Int(row.position)
                hasControlEnd = true
            }
        }
        extent.logByteCount = max(extent.logByteCount, logEnd)
        extent.controlByteCount = max(extent.controlByteCount, controlEnd)
    }

    private func chainDamage(at index: LogIndex) -> Damage {
        let name = segment ?? recovered.state.segment
        let row = max(0, Int(index.rawValue) - Int(name.firstIndex.rawValue))
        return recovery.damagedRow(row, of: name, .chain, offsets: nil)
    }

    private func wrapped<Value>(_ body: () throws(DiskError) -> Value) throws(StorageError) -> Value
    {
        try recovery.wrapped(body)
    }
}
