import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import struct NIOCore.ByteBuffer

/// Goes through a segment and finds, for every row that is not sound, what it has to be.
///
/// What is left of an entry comes first, then what a peer sent. An entry of a peer counts when it
/// continues the one before and either is the one that the stored frame names, or leads to the
/// sound entry behind it: the chain of checksums binds every byte in between.
struct RepairWalk {
    /// A row that is made again.
    struct Change {
        var number: Int
        var entry: LogEntry
        var row: FrameRow
        /// What the row failed by.
        var problem: RowProblem
        var isFromPeer: Bool
    }

    /// What stands behind a segment's last entry.
    enum Link {
        case entry(LogMark)
        case next(checksum: UInt32, baseOffset: Offset)

        var checksum: UInt32 {
            switch self {
            case .entry(let mark): mark.checksum
            case .next(let checksum, _): checksum
            }
        }

        func continues(_ mark: LogMark) -> Bool {
            switch self {
            case .entry(let other): mark == other
            case .next(let checksum, let baseOffset):
                mark.checksum == checksum && mark.endOffset == baseOffset
            }
        }
    }

    let directory: String
    let end: (row: Int, offset: Offset)
    let offers: [LogEntry]
    let link: Link?
    var scanner: SegmentScanner
    /// What is made again.
    private(set) var changes: [Change] = []
    /// What stays damaged.
    private(set) var remaining: [Damage] = []
    /// The entry before the next row; nil behind one that stays damaged.
    private(set) var mark: LogMark?
    private(set) var extent = SegmentExtent()
    /// The terms of the rows that are sound, or are made again.
    private(set) var terms = TermTable()
    /// The checksum before the first row, as that row tells it.
    private(set) var firstLink: UInt32?
    /// Changes that nothing behind them has proven yet.
    private var pending: [Change] = []
    private var isLogEndKnown = true
    private var isControlEndKnown = true

    init(
        _ scanner: SegmentScanner,
        in directory: String,
        end: (row: Int, offset: Offset),
        after mark: LogMark?,
        before link: Link?,
        offers: [LogEntry]
    ) {
        self.scanner = scanner
        self.directory = directory
        self.end = end
        self.mark = mark
        self.link = link
        self.offers = offers
    }

    /// Does the walk.
    ///
    /// - Throws: `.repairRefused` for entries of a peer that do not belong there.
    mutating func run() throws(StorageError) {
        for number in 0..<end.row {
            switch try onDisk({ () throws(DiskError) in try scanner.row(number) }) {
            case .success(let row) where isContinued(by: row):
                acceptPending()
                take(row)
            case .success(let row):
                guard try !heal(number, .chain) else { continue }
                try refusePending()
                try keep(number, .chain)
                take(row)
            case .failure(let problem):
                if try !heal(number, problem) { try keep(number, problem) }
            }
        }
        guard !pending.isEmpty else { return }
        if let link, let mark, link.continues(mark) { return acceptPending() }
        if link != nil { try refusePending() }
        try dropPending()
    }

    // MARK: Sound rows

    private func isContinued(by row: FrameRow) -> Bool {
        guard mark.map({ $0.isContinued(by: row.frame) }) ?? true else { return false }
        guard let position = position(of: row.frame.kind) else { return true }
        return Int(row.position) == position
    }

    /// Where the next payload lies; nil behind damage.
    private func position(of kind: EntryKind) -> Int? {
        if kind == .data { return isLogEndKnown ? extent.logByteCount : nil }
        return isControlEndKnown ? extent.controlByteCount : nil
    }

    private mutating func take(_ row: FrameRow) {
        if extent.entryCount == 0 { firstLink = row.frame.previousChecksum }
        extent.take(row)
        // Behind damage a row may be sound and yet not from here; then the rows around it do not hold together.
        if row.frame.term >= terms.rows.last?.term ?? .zero {
            terms.note(row.frame.term, at: row.frame.index, offset: row.frame.baseOffset)
        }
        mark = LogMark(row.frame)
        if row.frame.kind == .data { isLogEndKnown = true } else { isControlEndKnown = true }
    }

    // MARK: Damaged rows

    /// Makes a row again, if it is known what it was.
    private mutating func heal(_ number: Int, _ problem: RowProblem) throws(StorageError) -> Bool {
        guard let mark else { return false }
        if problem != .chain, let entry = try leftover(number, after: mark) {
            add(number, entry, problem, isFromPeer: false)
            acceptPending()
            return true
        }
        guard let offer = offer(number), position(of: offer.frame.kind) != nil else { return false }
        guard mark.isContinued(by: offer.frame), (try? offer.verifyBatch()) != nil,
            number == 0 || !offer.frame.flags.contains(.firstOfSegment)
        else { throw refused(number) }
        let stored = try onDisk { () throws(DiskError) in try scanner.unprovenRow(number) }
        add(number, offer, problem, isFromPeer: true)
        if problem != .chain, case .success(let row) = stored, row.frame == offer.frame {
            acceptPending()
        }
        return true
    }

    private mutating func leftover(_ number: Int, after mark: LogMark) throws(StorageError)
        -> LogEntry?
    {
        let rebuilding = RowRebuilding(
            number: number,
            mark: mark,
            logPosition: position(of: .data),
            controlPosition: position(of: .roll),
            nextChecksum: try nextLink(number)
        )
        return try onDisk { () throws(DiskError) in try rebuilding.entry(from: &scanner) }
    }

    /// The checksum that the row after repeats, whatever else is wrong with it.
    private mutating func nextLink(_ number: Int) throws(StorageError) -> UInt32? {
        guard number + 1 < end.row else { return link?.checksum }
        let row = try onDisk { () throws(DiskError) in try scanner.rowBytes(number + 1) }
        return row?.readableBytesSpan.littleEndian(UInt32.self, at: 32)
    }

    private func offer(_ number: Int) -> LogEntry? {
        guard let first = offers.first?.frame.index else { return nil }
        let index = scanner.name.firstIndex + UInt64(number)
        guard index >= first, index.rawValue - first.rawValue < UInt64(offers.count) else {
            return nil
        }
        return offers[Int(index.rawValue - first.rawValue)]
    }

    private mutating func add(
        _ number: Int,
        _ entry: LogEntry,
        _ problem: RowProblem,
        isFromPeer: Bool
    ) {
        let isData = entry.frame.kind == .data
        let maximum = isData ? (try? entry.batchHeader())?.maxTimestamp ?? .none : .none
        let position = UInt32(isData ? extent.logByteCount : extent.controlByteCount)
        let row = FrameRow(
            frame: entry.frame,
            runningMaximum: max(extent.runningMaximum, maximum),
            position: position
        )
        pending.append(
            Change(
                number: number,
                entry: entry,
                row: row,
                problem: problem,
                isFromPeer: isFromPeer
            )
        )
        take(row)
    }

    /// A row that stays as it is.
    private mutating func keep(_ number: Int, _ problem: RowProblem) throws(StorageError) {
        try dropPending()
        try tell(number, problem)
        extent.entryCount = problem == .chain ? extent.entryCount : extent.entryCount + 1
        mark = nil
        isLogEndKnown = false
        isControlEndKnown = false
    }

    private mutating func tell(_ number: Int, _ problem: RowProblem) throws(StorageError) {
        remaining.note(
            try onDisk { () throws(DiskError) in
                try scanner.damage(at: number, problem, in: directory, end: end)
            }
        )
    }

    // MARK: Proofs

    private mutating func acceptPending() {
        changes += pending
        pending.removeAll()
    }

    /// Nothing vouches for them, and nothing speaks against them.
    private mutating func dropPending() throws(StorageError) {
        let dropped = pending
        pending.removeAll()
        for change in dropped { try tell(change.number, change.problem) }
    }

    /// What follows speaks against them.
    private func refusePending() throws(StorageError) {
        if let first = pending.first(where: \.isFromPeer) { throw refused(first.number) }
    }

    private func refused(_ number: Int) -> StorageError {
        .repairRefused(
            file: "\(directory)/\(scanner.name.fileName(.frames))",
            at: scanner.name.firstIndex + UInt64(number)
        )
    }
}
