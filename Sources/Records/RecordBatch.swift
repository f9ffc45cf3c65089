package import struct NIOCore.ByteBuffer

/// One whole batch of records: its header, parsed, and its bytes.
///
/// A value of this type has a sound header and exactly the length that the header says; its CRC was compared unless the
/// caller said otherwise. Its records are opaque until they are walked.
package struct RecordBatch: Sendable {
    /// The header of `bytes`.
    package let header: RecordBatchHeader
    /// The batch, from base offset to last record.
    package let bytes: ByteBuffer
    /// Whether the broker compressed what had arrived plain.
    package let isCompressedByBroker: Bool

    /// Takes bytes that hold exactly one batch.
    ///
    /// - Parameter isChecksumTrusted: whether to leave the CRC alone, for bytes that were checked before.
    /// - Throws: what `RecordBatchHeader(parsing:)` throws, `.truncated`, `.trailingBytes`, `.batchChecksumMismatch`.
    package init(
        parsing buffer: ByteBuffer,
        isChecksumTrusted: Bool = false,
        isCompressedByBroker: Bool = false
    ) throws(RecordsError) {
        let header = try RecordBatchHeader(parsing: buffer.readableBytesSpan)
        let found = buffer.readableBytes
        guard found >= header.totalByteCount else {
            throw .truncated(needed: header.totalByteCount, found: found)
        }
        guard found == header.totalByteCount else {
            throw .trailingBytes(found - header.totalByteCount)
        }
        self.header = header
        bytes = buffer.slice()
        self.isCompressedByBroker = isCompressedByBroker
        if !isChecksumTrusted {
            try verifyChecksum()
        }
    }

    /// Bytes and header that were just made from each other.
    init(header: RecordBatchHeader, bytes: ByteBuffer, isCompressedByBroker: Bool) {
        assert(header.totalByteCount == bytes.readableBytes, "a batch has the length that its header says")
        self.header = header
        self.bytes = bytes
        self.isCompressedByBroker = isCompressedByBroker
    }

    /// The size of the batch.
    package var byteCount: Int {
        bytes.readableBytes
    }

    /// The records' bytes, compressed or not.
    package var recordBytes: ByteBuffer {
        bytes.piece(from: RecordBatchHeader.byteCount)
    }

    /// Compares the batch's CRC with its bytes.
    ///
    /// - Throws: `.batchChecksumMismatch`.
    package func verifyChecksum() throws(RecordsError) {
        let covered = bytes.readableBytesSpan.extracting(droppingFirst: Frame.batchHeadByteCount)
        let computed = CRC32C.checksum(covered)
        guard computed == header.checksum else {
            throw .batchChecksumMismatch(stored: header.checksum, computed: computed)
        }
    }

    /// Takes the next whole batch from the front of `buffer`; nil when what is left is empty or an incomplete batch.
    ///
    /// A fetched range may end within a batch, and clients ignore that tail.
    ///
    /// - Throws: what `RecordBatchHeader(parsing:)` throws, `.batchChecksumMismatch`; the reader then stays.
    package static func next(
        from buffer: inout ByteBuffer,
        isChecksumTrusted: Bool = false
    ) throws(RecordsError) -> RecordBatch? {
        guard buffer.readableBytes >= RecordBatchHeader.byteCount else {
            return nil
        }
        let header = try RecordBatchHeader(parsing: buffer.readableBytesSpan)
        guard buffer.readableBytes >= header.totalByteCount else {
            return nil
        }
        let bytes = buffer.piece(0..<header.totalByteCount)
        let batch = RecordBatch(header: header, bytes: bytes, isCompressedByBroker: false)
        if !isChecksumTrusted {
            try batch.verifyChecksum()
        }
        buffer.moveReaderIndex(forwardBy: header.totalByteCount)
        return batch
    }
}
