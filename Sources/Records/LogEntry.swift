package import FlotillaModel

package import struct NIOCore.ByteBuffer

/// An entry of a log in memory: a frame and its payload, in the two buffers that journal, followers
/// and consumers gather.
///
/// For data, the frame and the batch's first 21 bytes lie in one new buffer of 69 bytes (base
/// offset and leader epoch are stamped there); the batch's rest is a slice of what was received.
/// For other kinds the first buffer holds the frame alone, and the body is the whole payload.
package struct LogEntry: Sendable {
    /// The frame, parsed.
    package let frame: Frame
    /// The frame's 48 bytes, and for data the batch's first 21.
    package let frameAndHead: ByteBuffer
    /// For data the batch from byte 21 on; for other kinds the payload.
    package let body: ByteBuffer

    /// For data the batch's first 21 bytes; for other kinds empty.
    package var head: ByteBuffer {
        frameAndHead.piece(from: Frame.byteCount)
    }

    /// The bytes that follow the frame.
    package var payloadByteCount: Int {
        frame.payloadByteCount
    }

    /// The bytes of frame and payload.
    package var byteCount: Int {
        frame.entryByteCount
    }

    /// The payload in one piece; copied for data, free for other kinds.
    package var payload: ByteBuffer {
        guard frame.kind == .data else {
            return body
        }
        var buffer = ByteBuffer()
        buffer.reserveCapacity(payloadByteCount)
        buffer.writeBytes(head.readableBytesSpan)
        buffer.writeBytes(body.readableBytesSpan)
        return buffer
    }

    /// An entry for a batch that was checked; the leader's copy, with base offset and leader epoch
    /// stamped in.
    ///
    /// `flags`: `compressedByBroker` is added when the batch says so.
    package static func data(
        _ batch: RecordBatch,
        index: LogIndex,
        term: Term,
        baseOffset: Offset,
        appendTime: Timestamp,
        previousChecksum: UInt32,
        flags: FrameFlags = []
    ) -> LogEntry {
        var head = ByteBuffer()
        head.reserveCapacity(Frame.byteCount + Frame.batchHeadByteCount)
        head.moveWriterIndex(to: Frame.byteCount)
        head.writeInteger(baseOffset.rawValue)
        head.writeInteger(batch.header.batchLength)
        head.writeInteger(term.leaderEpoch)
        head.writeInteger(RecordBatchHeader.magic)
        head.writeInteger(batch.header.checksum)
        let frame = Frame(
            kind: .data,
            flags: batch.isCompressedByBroker ? flags.union(.compressedByBroker) : flags,
            index: index,
            term: term,
            baseOffset: baseOffset,
            offsetSpan: batch.header.offsetSpan,
            appendTime: appendTime,
            previousChecksum: previousChecksum,
            payloadByteCount: batch.byteCount,
            covering: head.readableBytesSpan.extracting(droppingFirst: Frame.byteCount)
        )
        head.moveWriterIndex(to: 0)
        frame.write(into: &head)
        head.moveWriterIndex(to: Frame.byteCount + Frame.batchHeadByteCount)
        return LogEntry(
            frame: frame,
            frameAndHead: head,
            body: batch.bytes.piece(from: Frame.batchHeadByteCount)
        )
    }

    /// An entry that clients do not see.
    ///
    /// `nextOffset`: the offset that the next record will have.
    package static func control(
        _ kind: EntryKind,
        payload: ByteBuffer,
        index: LogIndex,
        term: Term,
        nextOffset: Offset,
        appendTime: Timestamp,
        previousChecksum: UInt32,
        flags: FrameFlags = []
    ) -> LogEntry {
        precondition(kind != .data, "data entries are built from batches")
        let frame = Frame(
            kind: kind,
            flags: flags,
            index: index,
            term: term,
            baseOffset: nextOffset,
            offsetSpan: 0,
            appendTime: appendTime,
            previousChecksum: previousChecksum,
            payloadByteCount: payload.readableBytes,
            covering: payload.readableBytesSpan
        )
        var bytes = ByteBuffer()
        bytes.reserveCapacity(Frame.byteCount)
        frame.write(into: &bytes)
        return LogEntry(frame: frame, frameAndHead: bytes, body: payload.slice())
    }

    private init(frame: Frame, frameAndHead: ByteBuffer, body: ByteBuffer) {
        self.frame = frame
        self.frameAndHead = frameAndHead
        self.body = body
    }

    /// Reads the entry at the start of `buffer`, frame and payload, without a copy; the reader
    /// moves behind it.
    ///
    /// The frame's checksum is compared; the batch's own is not, see `verifyBatch()`. On error the
    /// reader stays.
    ///
    /// - Throws: what `Frame(parsing:)` and `Frame.verify(covering:)` throw.
    package init(parsing buffer: inout ByteBuffer) throws(RecordsError) {
        let frame = try Frame(parsing: buffer.readableBytesSpan)
        guard buffer.readableBytes >= frame.entryByteCount else {
            throw .truncated(needed: frame.entryByteCount, found: buffer.readableBytes)
        }
        let covered = Frame.byteCount..<Frame.byteCount + frame.coveredByteCount
        try frame.verify(covering: buffer.readableBytesSpan.extracting(covered))
        let split = frame.kind == .data ? covered.upperBound : Frame.byteCount
        self.frame = frame
        frameAndHead = buffer.piece(0..<split)
        body = buffer.piece(split..<frame.entryByteCount)
        buffer.moveReaderIndex(forwardBy: frame.entryByteCount)
    }

    /// Joins a frame that is kept apart (in a frame table) with its payload, without a copy of the
    /// payload's body.
    ///
    /// - Throws: `.truncated`, `.trailingBytes` and what `Frame.verify(covering:)` throws.
    package init(frame: Frame, payload: ByteBuffer) throws(RecordsError) {
        guard payload.readableBytes >= frame.payloadByteCount else {
            throw .truncated(needed: frame.payloadByteCount, found: payload.readableBytes)
        }
        guard payload.readableBytes == frame.payloadByteCount else {
            throw .trailingBytes(payload.readableBytes - frame.payloadByteCount)
        }
        let covered = payload.readableBytesSpan.extracting(first: frame.coveredByteCount)
        try frame.verify(covering: covered)
        let headByteCount = frame.kind == .data ? Frame.batchHeadByteCount : 0
        var bytes = ByteBuffer()
        bytes.reserveCapacity(Frame.byteCount + headByteCount)
        frame.write(into: &bytes)
        bytes.writeBytes(payload.readableBytesSpan.extracting(first: headByteCount))
        self.frame = frame
        frameAndHead = bytes
        body = payload.piece(from: headByteCount)
    }

    /// Adds frame and payload to a gathered write.
    package func appendParts(to parts: inout [ByteBuffer]) {
        parts.append(frameAndHead)
        if body.readableBytes > 0 {
            parts.append(body)
        }
    }

    /// Adds the payload without its frame to a gathered write: what a segment and a consumer get.
    package func appendPayloadParts(to parts: inout [ByteBuffer]) {
        if frame.kind == .data {
            parts.append(head)
        }
        if body.readableBytes > 0 {
            parts.append(body)
        }
    }

    /// Appends frame and payload to one buffer.
    package func write(into buffer: inout ByteBuffer) {
        buffer.writeBytes(frameAndHead.readableBytesSpan)
        buffer.writeBytes(body.readableBytesSpan)
    }

    /// The header of a data entry's batch.
    ///
    /// - Throws: what `RecordBatchHeader` throws.
    package func batchHeader() throws(RecordsError) -> RecordBatchHeader {
        precondition(frame.kind == .data, "only data entries hold a batch")
        return try RecordBatchHeader(head: head.readableBytesSpan, body: body.readableBytesSpan)
    }

    /// Checks a data entry's batch to its last byte: its own CRC, and that frame and batch agree.
    ///
    /// Other kinds are covered by the frame's checksum and pass.
    ///
    /// - Throws: `.batchChecksumMismatch`, `.frameDisagreesWithBatch` and what `RecordBatchHeader`
    ///   throws.
    package func verifyBatch() throws(RecordsError) {
        guard frame.kind == .data else {
            return
        }
        let header = try batchHeader()
        try header.agree(with: frame)
        let computed = CRC32C.checksum(body)
        guard computed == header.checksum else {
            throw .batchChecksumMismatch(stored: header.checksum, computed: computed)
        }
    }
}
