import FlotillaEnvironment
package import FlotillaModel
import FlotillaRecords
package import struct NIOCore.ByteBuffer

/// A mapped view of what was written to a segment when the view was made.
///
/// It never changes: a segment that grows gets a wider view. Whoever holds it pins files and
/// mappings, so retention may unlink the files at any time. Bytes outside what was written are
/// never mapped.
///
/// Every row and every batch head that is handed out was checked against its checksum just before;
/// the batches behind the heads are the business of whoever hands them out: `VerifiedRows`.
package final class SegmentReader: Sendable {
    /// The segment.
    package let name: SegmentName
    /// What the view covers.
    package let extent: SegmentExtent
    /// The Kafka offset after the last record that the view covers.
    package let endOffset: Offset
    let files: SegmentFiles
    /// The rows that are there: as many as `extent` says, unless damage took some.
    let rowCount: Int
    let frames: any FileMapping
    private let log: (any FileMapping)?
    private let control: (any FileMapping)?

    /// Maps what `extent` says was written, as far as the files reach.
    init(name: SegmentName, extent: SegmentExtent, endOffset: Offset, files: SegmentFiles)
        throws(DiskError)
    {
        self.name = name
        self.extent = extent
        self.endOffset = endOffset
        self.files = files
        let table = Int(min(Int64(extent.frameTableByteCount), try files.frames.byteCount()))
        guard table >= FrameTableHeader.byteCount else {
            throw .failed(operation: "map", path: files.frames.path, errno: 0)
        }
        rowCount = (table - FrameTableHeader.byteCount) / FrameRow.byteCount
        frames = try files.frames.map(0..<Int64(table))
        log = try Self.map(files.log, extent.logByteCount)
        control = try Self.map(files.control, extent.controlByteCount)
    }

    private static func map(_ file: any DiskFile, _ byteCount: Int) throws(DiskError) -> (
        any FileMapping
    )? {
        let byteCount = min(Int64(byteCount), try file.byteCount())
        return byteCount == 0 ? nil : try file.map(0..<byteCount)
    }

    // MARK: What a consumer gets

    /// The descriptor of `.log`, for `sendfile`; nil on a simulated disk.
    package var logDescriptor: Int32? {
        files.log.descriptor
    }

    /// Bytes of `.log` from the mapping.
    package func buffer(_ range: Range<Int>) -> ByteBuffer {
        guard let log else { return ByteBuffer() }
        return log.buffer(range)
    }

    // MARK: Residency

    /// Whether the rows and the batches from `row` on, up to `byteCount` bytes, are in memory.
    func isResident(from row: Int, byteCount: Int) -> Bool {
        guard row < rowCount else { return true }
        let last = min(row + Self.residencyRowCount, rowCount)
        guard frames.isResident(Self.range(of: row).lowerBound..<Self.range(of: last).lowerBound)
        else { return false }
        guard let log else { return true }
        return log.isResident(logRange(from: row, byteCount: byteCount))
    }

    /// Whether all rows are in memory, so that a search does not block.
    var isTableResident: Bool {
        frames.isResident(0..<frames.byteCount)
    }

    /// Reads rows and payloads into memory; for a worker.
    func populate(from row: Int, byteCount: Int) throws(DiskError) {
        try frames.populate(0..<frames.byteCount)
        if let control { try control.populate(0..<control.byteCount) }
        if let log, row < rowCount {
            let range = logRange(from: row, byteCount: byteCount)
            if !range.isEmpty { try log.populate(range) }
        }
    }

    /// The pages ahead of a read whose rows are asked for: 64 KiB of rows.
    private static let residencyRowCount = 1_024

    /// The bytes of `.log` from a row's payload on: `byteCount`, or the payload if that is more; by
    /// numbers that are not checked yet.
    func logRange(from row: Int, byteCount: Int) -> Range<Int> {
        frames.withBytes(Self.range(of: row)) { bytes in
            let start =
                bytes.littleEndian(UInt8.self, at: 20) == EntryKind.data.rawValue
                ? Int(bytes.littleEndian(UInt32.self, at: 56)) : 0
            let wanted = max(byteCount, Int(bytes.littleEndian(UInt32.self, at: 4)))
            let end = log?.byteCount ?? 0
            let lower = min(start, end)
            return lower..<min(lower + wanted, end)
        }
    }

    // MARK: Rows

    /// The place of a row in `.frames`.
    static func range(of row: Int) -> Range<Int> {
        let start = FrameTableHeader.byteCount + row * FrameRow.byteCount
        return start..<start + FrameRow.byteCount
    }

    /// The row's numbers as they lie there, unchecked: good for a search, whose result is checked.
    struct RawRow {
        var baseOffset: Offset
        var span: Int64
        var runningMaximum: Timestamp

        var endOffset: Offset { Offset(baseOffset.rawValue &+ span) }
    }

    /// The first row from `first` on for which `predicate` holds, if it fails for all before and
    /// holds for all after; `rowCount` if none.
    func partitioningRow(from first: Int = 0, where predicate: (RawRow) -> Bool) -> Int {
        frames.withBytes(0..<frames.byteCount) { bytes in
            var low = first
            var high = rowCount
            while low < high {
                let middle = (low + high) / 2
                let start = Self.range(of: middle).lowerBound
                let row = RawRow(
                    baseOffset: Offset(bytes.littleEndian(Int64.self, at: start + 24)),
                    span: Int64(bytes.littleEndian(UInt32.self, at: start + 36)),
                    runningMaximum: Timestamp(bytes.littleEndian(Int64.self, at: start + 48))
                )
                if predicate(row) { high = middle } else { low = middle + 1 }
            }
            return low
        }
    }

    /// The row, checked against its checksums, its payload's covered bytes and its place in the
    /// segment.
    func row(_ number: Int) throws(RowProblem) -> FrameRow {
        guard number < rowCount else { throw .missing }
        let row = try frames.withBytes(Self.range(of: number)) { bytes throws(RowProblem) in
            try FrameRow(parsing: bytes)
        }
        guard row.frame.index == name.firstIndex + UInt64(number) else { throw .frame }
        let isData = row.frame.kind == .data
        let range = row.payloadRange
        guard range.upperBound <= (isData ? log : control)?.byteCount ?? 0 else { throw .missing }
        let covered = range.lowerBound..<range.lowerBound + row.frame.coveredByteCount
        let isSound = withPayload(isData, covered) { bytes in
            (try? row.frame.verify(covering: bytes)) != nil
        }
        guard isSound else { throw .frame }
        return row
    }

    /// Lends bytes of `.log` or `.control`; an empty range needs no mapping.
    func withPayload<Result, Failure: Error>(
        _ isData: Bool,
        _ range: Range<Int>,
        _ body: (RawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        guard !range.isEmpty, let mapping = isData ? log : control else {
            return try body(ByteBuffer().readableBytesSpan)
        }
        return try mapping.withBytes(range, body)
    }

    /// An entry, with its payload in one piece from the mapping.
    func entry(_ row: FrameRow) throws(RowProblem) -> LogEntry {
        let range = row.payloadRange
        let mapping = row.frame.kind == .data ? log : control
        let payload = range.isEmpty ? ByteBuffer() : mapping?.buffer(range) ?? ByteBuffer()
        do {
            return try LogEntry(frame: row.frame, payload: payload)
        } catch {
            throw .frame
        }
    }

    /// Describes what is wrong with a row, with the offsets that its neighbours leave it.
    func damage(at number: Int, _ problem: RowProblem, in directory: String) -> Damage {
        let index = name.firstIndex + UInt64(number)
        if problem == .payload, let row = try? row(number) {
            return Damage(
                indexes: index...index,
                offsets: row.frame.baseOffset..<row.frame.endOffset,
                file: "\(directory)/\(name.fileName(.log))",
                position: Int64(row.position),
                reason: problem.reason
            )
        }
        var offsets: Range<Offset>?
        let lower = number == 0 ? name.baseOffset : (try? row(number - 1))?.frame.endOffset
        let upper =
            number + 1 == extent.entryCount
            ? endOffset : (try? row(number + 1))?.frame.baseOffset
        if let lower, let upper, upper >= lower { offsets = lower..<upper }
        return Damage(
            indexes: index...index,
            offsets: offsets,
            file: "\(directory)/\(name.fileName(.frames))",
            position: Int64(Self.range(of: number).lowerBound),
            reason: problem.reason
        )
    }
}
