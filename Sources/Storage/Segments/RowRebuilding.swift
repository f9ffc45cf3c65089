import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import struct NIOCore.ByteBuffer

/// Finds out what an entry was from what is left of it in its segment.
///
/// Most fields of a frame stand twice: in the batch, in the entry before, in the row's own number.
/// Whatever is put together counts only when a checksum that was stored says so: the frame's own,
/// or the one that the next frame repeats.
struct RowRebuilding {
    /// The row.
    let number: Int
    /// The entry before.
    let mark: LogMark
    /// Where the payload begins, were it a batch, and were it none.
    let logPosition: Int?
    let controlPosition: Int?
    /// What the entry after repeats; nil when that is not known.
    let nextChecksum: UInt32?

    /// The entry, if enough of it is left.
    func entry(from scanner: inout SegmentScanner) throws(DiskError) -> LogEntry? {
        guard let row = try scanner.rowBytes(number) else { return nil }
        if let frame = try? Frame(parsing: row.readableBytesSpan), mark.isContinued(by: frame),
            let entry = try entry(with: frame, &scanner)
        {
            return entry
        }
        let stored = row.getSlice(at: row.readerIndex, length: Frame.byteCount) ?? ByteBuffer()
        if let entry = try dataEntry(stored, &scanner) { return entry }
        return try controlEntry(stored, &scanner)
    }

    // MARK: The frame is whole

    /// The payload lies there, whole but for a batch's first 21 bytes at most.
    private func entry(with frame: Frame, _ scanner: inout SegmentScanner) throws(DiskError)
        -> LogEntry?
    {
        let isData = frame.kind == .data
        guard let position = isData ? logPosition : controlPosition else { return nil }
        let payload = try scanner.payloadBytes(
            isData,
            position..<position + frame.payloadByteCount
        )
        if let entry = sound(frame, payload) { return entry }
        guard isData,
            let body = payload.getSlice(
                at: payload.readerIndex + Frame.batchHeadByteCount,
                length: payload.readableBytes - Frame.batchHeadByteCount
            )
        else { return nil }
        var rebuilt = ByteBuffer()
        rebuilt.writeInteger(frame.baseOffset.rawValue)
        rebuilt.writeInteger(Int32(frame.payloadByteCount - RecordBatchHeader.prefixByteCount))
        rebuilt.writeInteger(frame.term.leaderEpoch)
        rebuilt.writeInteger(RecordBatchHeader.magic)
        rebuilt.writeInteger(CRC32C.checksum(body))
        rebuilt.writeImmutableBuffer(body)
        return sound(frame, rebuilt)
    }

    /// Joins frame and payload if both are whole.
    private func sound(_ frame: Frame, _ payload: ByteBuffer) -> LogEntry? {
        guard let entry = try? LogEntry(frame: frame, payload: payload),
            (try? entry.verifyBatch()) != nil
        else { return nil }
        return entry
    }

    // MARK: The payload is whole

    private func dataEntry(_ stored: ByteBuffer, _ scanner: inout SegmentScanner) throws(DiskError)
        -> LogEntry?
    {
        guard let logPosition else { return nil }
        let start = try scanner.payloadBytes(
            true,
            logPosition..<logPosition + RecordBatchHeader.byteCount
        )
        guard let header = try? RecordBatchHeader(parsing: start.readableBytesSpan),
            header.baseOffset == mark.endOffset
        else { return nil }
        let payload = try scanner.payloadBytes(
            true,
            logPosition..<logPosition + header.totalByteCount
        )
        let left = FrameDraft(stored, after: mark)
        var draft = left
        draft.kind = EntryKind.data.rawValue
        draft.payloadByteCount = UInt32(header.totalByteCount)
        draft.term = UInt32(bitPattern: header.leaderEpoch)
        draft.offsetSpan = UInt32(truncatingIfNeeded: header.offsetSpan)
        for flags in [left.flags, 0, 1, 2, 3] {
            for time in [left.appendTime, mark.appendTime.rawValue] {
                draft.flags = flags
                draft.appendTime = time
                if let entry = proven(draft, payload) { return entry }
            }
        }
        return nil
    }

    private func controlEntry(_ stored: ByteBuffer, _ scanner: inout SegmentScanner)
        throws(DiskError) -> LogEntry?
    {
        guard let controlPosition else { return nil }
        let draft = FrameDraft(stored, after: mark)
        let left = scanner.controlByteCount - controlPosition
        for count in [Int(draft.payloadByteCount), 0]
        where count <= min(left, Self.largestControlPayload) {
            let payload = try scanner.payloadBytes(false, controlPosition..<controlPosition + count)
            for kind in EntryKind.allCases where kind != .data {
                if let entry = controlEntry(draft, kind, payload) { return entry }
            }
        }
        return nil
    }

    private func controlEntry(_ left: FrameDraft, _ kind: EntryKind, _ payload: ByteBuffer)
        -> LogEntry?
    {
        var draft = left
        draft.kind = kind.rawValue
        draft.payloadByteCount = UInt32(payload.readableBytes)
        draft.offsetSpan = 0
        for term in [left.term, mark.term.rawValue] {
            for flags in [left.flags, 0, 1] {
                for time in [left.appendTime, mark.appendTime.rawValue] {
                    draft.term = term
                    draft.flags = flags
                    draft.appendTime = time
                    if let entry = proven(draft, payload) { return entry }
                }
            }
        }
        return nil
    }

    /// Makes an entry of a draft whose checksum stands somewhere.
    private func proven(_ draft: FrameDraft, _ payload: ByteBuffer) -> LogEntry? {
        let isData = draft.kind == EntryKind.data.rawValue
        let coveredByteCount = isData ? Frame.batchHeadByteCount : payload.readableBytes
        guard payload.readableBytes >= coveredByteCount else { return nil }
        let covered = payload.readableBytesSpan.extracting(first: coveredByteCount)
        let checksum = draft.checksum(covering: covered)
        guard checksum == draft.storedChecksum || checksum == nextChecksum,
            let frame = try? Frame(parsing: draft.bytes(checksum).readableBytesSpan),
            mark.isContinued(by: frame)
        else { return nil }
        return sound(frame, payload)
    }

    /// Each guess costs a checksum of the payload; other kinds than data are small.
    private static let largestControlPayload = 1 << 20
}

/// A frame whose fields are guesses, to be judged by its checksum.
private struct FrameDraft {
    let storedChecksum: UInt32
    var payloadByteCount: UInt32
    let index: UInt64
    var term: UInt32
    var kind: UInt8
    var flags: UInt32
    let baseOffset: Int64
    let previousChecksum: UInt32
    var offsetSpan: UInt32
    var appendTime: Int64

    /// The stored bytes, with what the entry before says of the next one.
    init(_ stored: ByteBuffer, after mark: LogMark) {
        let bytes = stored.readableBytesSpan
        storedChecksum = bytes.littleEndian(UInt32.self, at: 0)
        payloadByteCount = bytes.littleEndian(UInt32.self, at: 4)
        index = mark.index.next.rawValue
        term = bytes.littleEndian(UInt32.self, at: 16)
        kind = bytes.littleEndian(UInt8.self, at: 20)
        flags = bytes.littleEndian(UInt32.self, at: 20) >> 8
        baseOffset = mark.endOffset.rawValue
        previousChecksum = mark.checksum
        offsetSpan = bytes.littleEndian(UInt32.self, at: 36)
        appendTime = bytes.littleEndian(Int64.self, at: 40)
    }

    func bytes(_ checksum: UInt32) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(Frame.byteCount)
        buffer.writeInteger(checksum, endianness: .little)
        buffer.writeInteger(payloadByteCount, endianness: .little)
        buffer.writeInteger(index, endianness: .little)
        buffer.writeInteger(term, endianness: .little)
        buffer.writeInteger(UInt32(kind) | flags << 8, endianness: .little)
        buffer.writeInteger(baseOffset, endianness: .little)
        buffer.writeInteger(previousChecksum, endianness: .little)
        buffer.writeInteger(offsetSpan, endianness: .little)
        buffer.writeInteger(appendTime, endianness: .little)
        return buffer
    }

    func checksum(covering covered: RawSpan) -> UInt32 {
        let bytes = bytes(0)
        var checksum = CRC32C()
        checksum.update(bytes.readableBytesSpan.extracting(droppingFirst: 4))
        checksum.update(covered)
        return checksum.value
    }
}
