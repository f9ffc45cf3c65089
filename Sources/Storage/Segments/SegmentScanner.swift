import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import struct NIOCore.ByteBuffer

/// Reads a segment's files from one end to the other, without maps; for recovery and verification.
struct SegmentScanner {
    /// How the bytes are to be looked at.
    struct Manner: Sendable {
        /// Whether to read from the medium, past the page cache.
        var isUncached = false
        /// Whether to check each batch to its last byte, and not only what its frame covers.
        var verifiesPayload = false
    }

    let name: SegmentName
    let header: Result<FrameTableHeader, FrameTableHeader.Problem>
    /// The whole rows that `.frames` has.
    let rowCount: Int
    let logByteCount: Int
    let controlByteCount: Int
    private let manner: Manner
    private var frames: WindowedFile
    private var log: WindowedFile
    private var control: WindowedFile

    init(_ name: SegmentName, in directory: String, on disk: any Disk, _ manner: Manner)
        throws(DiskError)
    {
        let files = try SegmentFiles.open(name, in: directory, on: disk, .read)
        self.name = name
        self.manner = manner
        frames = WindowedFile(files.frames, isUncached: manner.isUncached)
        log = WindowedFile(files.log, isUncached: manner.isUncached)
        control = WindowedFile(files.control, isUncached: manner.isUncached)
        logByteCount = Int(try files.log.byteCount())
        controlByteCount = Int(try files.control.byteCount())
        let byteCount = Int(try files.frames.byteCount())
        rowCount = max(0, byteCount - FrameTableHeader.byteCount) / FrameRow.byteCount
        let bytes = try frames.bytes(
            0..<min(byteCount, FrameTableHeader.byteCount),
            window: FrameTableHeader.byteCount
        )
        header = Result { () throws(FrameTableHeader.Problem) in
            try FrameTableHeader(parsing: bytes)
        }
    }

    /// A row as it stands in `.frames`, if it parses; its payload is not looked at.
    mutating func unprovenRow(_ number: Int) throws(DiskError) -> Result<FrameRow, RowProblem> {
        guard number < rowCount else { return .failure(.missing) }
        let bytes = try frames.bytes(SegmentReader.range(of: number), window: Self.frameWindow)
        // Behind the page cache a file may be shorter than its length says: its end never reached the medium.
        guard bytes.readableBytes == FrameRow.byteCount else { return .failure(.missing) }
        return Result { () throws(RowProblem) in try FrameRow(parsing: bytes.readableBytesSpan) }
    }

    /// A row's bytes as they lie there; nil beyond the end of the file.
    mutating func rowBytes(_ number: Int) throws(DiskError) -> ByteBuffer? {
        guard number < rowCount else { return nil }
        return try frames.bytes(SegmentReader.range(of: number), window: Self.frameWindow)
    }

    /// Bytes of `.log` or `.control` as they lie there; fewer at the end of the file.
    mutating func payloadBytes(_ isData: Bool, _ range: Range<Int>) throws(DiskError) -> ByteBuffer
    {
        isData
            ? try log.bytes(range, window: Self.payloadWindow)
            : try control.bytes(range, window: Self.payloadWindow)
    }

    /// A row, checked against its payload and its place in the segment.
    mutating func row(_ number: Int) throws(DiskError) -> Result<FrameRow, RowProblem> {
        let row: FrameRow
        switch try unprovenRow(number) {
        case .success(let found): row = found
        case .failure(let problem): return .failure(problem)
        }
        guard row.frame.index == name.firstIndex + UInt64(number) else { return .failure(.frame) }
        let covered =
            row.payloadRange.lowerBound..<row.payloadRange.lowerBound + row.frame.coveredByteCount
        guard
            row.payloadRange.upperBound
                <= (row.frame.kind == .data ? logByteCount : controlByteCount)
        else {
            return .failure(.missing)
        }
        let bytes = try payload(row.frame.kind, covered, of: row)
        guard bytes.readableBytes == covered.count,
            (try? row.frame.verify(covering: bytes.readableBytesSpan)) != nil
        else { return .failure(.frame) }
        if manner.verifiesPayload, row.frame.kind == .data {
            guard let entry = try entry(row), (try? entry.verifyBatch()) != nil else {
                return .failure(.payload)
            }
        }
        return .success(row)
    }

    /// The entry of a row that was checked; nil if its payload is not what the frame says.
    mutating func entry(_ row: FrameRow) throws(DiskError) -> LogEntry? {
        let bytes = try payload(row.frame.kind, row.payloadRange, of: row)
        return try? LogEntry(frame: row.frame, payload: bytes)
    }

    /// Where the batch that begins at `baseOffset` lies in `.log`, found by going from batch to
    /// batch; batches tell their length.
    ///
    /// `start` is a position at which some earlier batch begins.
    mutating func position(ofBatchAt baseOffset: Offset, from start: Int) throws(DiskError) -> Int?
    {
        var position = start
        while position < logByteCount {
            let bytes = try log.bytes(
                position..<position + RecordBatchHeader.prefixByteCount,
                window: Self.payloadWindow
            )
            guard bytes.readableBytes == RecordBatchHeader.prefixByteCount else { return nil }
            let span = bytes.readableBytesSpan
            let length = span.bigEndian(Int32.self, at: 8)
            let found = span.bigEndian(Int64.self, at: 0)
            if found == baseOffset.rawValue { return position }
            guard found < baseOffset.rawValue, length > 0 else { return nil }
            position += RecordBatchHeader.prefixByteCount + Int(length)
        }
        return position == logByteCount ? position : nil
    }

    private mutating func payload(
        _ kind: EntryKind,
        _ range: Range<Int>,
        of row: FrameRow
    ) throws(DiskError) -> ByteBuffer {
        // Heads of small batches lie close together, so they are read a window at a time; those of
        // large ones alone.
        let window =
            manner.verifiesPayload || row.frame.payloadByteCount < Self.largePayload
            ? Self.payloadWindow : range.count
        if kind == .data { return try log.bytes(range, window: window) }
        return try control.bytes(range, window: window)
    }

    private static let frameWindow = 256 << 10
    private static let payloadWindow = 256 << 10
    private static let largePayload = 8 << 10
}

/// A file that is read forward in pieces.
private struct WindowedFile {
    private let file: any DiskFile
    private let isUncached: Bool
    private var start = 0
    private var window = ByteBuffer()

    init(_ file: any DiskFile, isUncached: Bool) {
        self.file = file
        self.isUncached = isUncached
    }

    /// The bytes of a range; fewer only beyond the end of the file.
    mutating func bytes(_ range: Range<Int>, window size: Int) throws(DiskError) -> ByteBuffer {
        if range.lowerBound < start || range.upperBound > start + window.readableBytes {
            let count = max(range.count, size)
            window =
                isUncached
                ? try file.readUncached(at: Int64(range.lowerBound), count: count)
                : try file.read(at: Int64(range.lowerBound), count: count)
            start = range.lowerBound
        }
        let first = range.lowerBound - start
        let count = min(range.count, max(0, window.readableBytes - first))
        return window.getSlice(at: window.readerIndex + first, length: count) ?? ByteBuffer()
    }
}
