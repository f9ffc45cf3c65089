import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords

/// A walk through a segment that checks everything a row says: itself, its payload to the last
/// byte, its place in the chain and in the files.
///
/// It is a value, so it can stop after any row and go on later.
struct SegmentInspection: Hashable, Sendable {
    /// The next row.
    private(set) var row = 0
    /// The entry before the next row; nil right behind an entry that is not readable.
    private(set) var mark: LogMark?
    /// What the rows so far fill; behind damage as far as sound rows tell.
    private(set) var extent = SegmentExtent()
    /// Whether the end of `.log` that `extent` tells is where the next batch has to lie.
    private var isLogEndKnown = true
    private var isControlEndKnown = true

    /// A walk from the first row on; `mark` is the entry before it, where it is known.
    init(after mark: LogMark?) {
        self.mark = mark
    }

    /// Checks the next row.
    mutating func next(_ scanner: inout SegmentScanner) throws(DiskError) -> Result<
        FrameRow, RowProblem
    > {
        var found = try scanner.row(row)
        if case .success(let row) = found, !isContinued(by: row) { found = .failure(.chain) }
        row += 1
        switch found {
        case .success(let row):
            extent.take(row)
            mark = LogMark(row.frame)
            if row.frame.kind == .data { isLogEndKnown = true } else { isControlEndKnown = true }
        case .failure:
            passBy(1)
        }
        return found
    }

    /// Passes the rows up to `end` by.
    mutating func skip(to end: Int) {
        passBy(end - row)
        row = end
    }

    private mutating func passBy(_ count: Int) {
        extent.entryCount += count
        mark = nil
        isLogEndKnown = false
        isControlEndKnown = false
    }

    private func isContinued(by row: FrameRow) -> Bool {
        guard let mark else { return true }
        guard mark.isContinued(by: row.frame) else { return false }
        let isData = row.frame.kind == .data
        let end = isData ? extent.logByteCount : extent.controlByteCount
        let isEndKnown = isData ? isLogEndKnown : isControlEndKnown
        return (isEndKnown ? Int(row.position) == end : Int(row.position) >= end)
            && row.runningMaximum >= extent.runningMaximum
    }
}

extension SegmentScanner {
    /// Describes what is wrong with a row, with the offsets that its neighbours leave it.
    ///
    /// - Parameters:
    ///   - number: the row.
    ///   - problem: what it fails by.
    ///   - directory: the replica's.
    ///   - end: the segment's number of rows, and the offset after its last record.
    /// - Returns: damage of one entry.
    /// - Throws: when the neighbours cannot be read.
    mutating func damage(
        at number: Int,
        _ problem: RowProblem,
        in directory: String,
        end: (row: Int, offset: Offset)
    ) throws(DiskError) -> Damage {
        let index = name.firstIndex + UInt64(number)
        if problem == .payload, case .success(let row) = try unprovenRow(number) {
            return Damage(
                indexes: index...index,
                offsets: row.frame.baseOffset..<row.frame.endOffset,
                file: "\(directory)/\(name.fileName(.log))",
                position: Int64(row.position),
                reason: .payload
            )
        }
        var lower: Offset? = number == 0 ? name.baseOffset : nil
        if number > 0, case .success(let row) = try row(number - 1) { lower = row.frame.endOffset }
        var upper: Offset? = number + 1 == end.row ? end.offset : nil
        if number + 1 < end.row, case .success(let row) = try row(number + 1) {
            upper = row.frame.baseOffset
        }
        var offsets: Range<Offset>?
        if let lower, let upper, upper >= lower { offsets = lower..<upper }
        return Damage(
            indexes: index...index,
            offsets: offsets,
            file: "\(directory)/\(name.fileName(.frames))",
            position: Int64(SegmentReader.range(of: number).lowerBound),
            reason: problem.reason
        )
    }
}

extension [Damage] {
    /// Adds damage, joined with what lies right before it.
    mutating func note(_ found: Damage) {
        if let merged = last?.merged(with: found) {
            self[count - 1] = merged
        } else {
            append(found)
        }
    }
}
