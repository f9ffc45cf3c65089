package import struct NIOCore.ByteBuffer

/// One whole batch of records: its header, parsed, and its bytes.
///
/// A value of this type has a sound header and exactly the length that the header says; its CRC was
/// compared unless the caller said otherwise. Its records are opaque until they are walked.
package struct RecordBatch: Sendable {
    /// The header of `bytes`.
    package let header: RecordBatchHeader
    /// The batch, from base offset to last record.
    package let bytes: ByteBuffer
    /// Whether the broker compressed what had arrived plain.
    package let isCompressedByBroker: Bool

    /// Takes bytes that hold exactly one batch.
    ///
    /// `isChecksumTrusted`: whether to leave the CRC alone, for bytes that were checked before.
    ///
    /// - Throws: what `RecordBatchHeader(parsing:)` throws, `.truncated`, `.trailingBytes`,
    ///   `.batchChecksumMismatch`.
    package init(
        parsing buffer: ByteBuffer,
        isChecksumTrusted: Bool = false,
        isCompressedByBroker: Bool = false
    ) throws(RecordsError) {
        let header = try RecordBatchHeader(framing: buffer.readableBytesSpan)
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
        try header.checkContent()
    }

    /// Bytes and header that were just made from each other.
    init(header: RecordBatchHeader, bytes: ByteBuffer, isCompressedByBroker: Bool) {
        assert(
            header.totalByteCount == bytes.readableBytes,
            "a batch has the length that its header says"
        )
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

    /// Takes the next whole batch from the front of `buffer`; nil when what is left is empty or an
    /// incomplete batch.
    ///
    /// A fetched range may end within a batch, and clients ignore that tail.
    ///
    /// - Throws: what `RecordBatchHeader(parsing:)` throws, `.batchChecksumMismatch`; the reader
    ///   then stays.
    package static func next(
        from buffer: inout ByteBuffer,
        isChecksumTrusted: Bool = false
    ) throws(RecordsError) -> RecordBatch? {
        guard buffer.readableBytes >= RecordBatchHeader.byteCount else {
            return nil
        }
        let header = try RecordBatchHeader(framing: buffer.readableBytesSpan)
        guard buffer.readableBytes >= header.totalByteCount else {
            return nil
        }
        let bytes = buffer.piece(0..<header.totalByteCount)
        let batch = RecordBatch(header: header, bytes: bytes, isCompressedByBroker: false)
        if !isChecksumTrusted {
            try batch.verifyChecksum()
        }
        try header.checkContent()
        buffer.moveReaderIndex(forwardBy: header.totalByteCount)
        return batch
    }
}

extension RecordBatch {
    /// The records without compression: a slice of the batch where it has none, else new bytes.
    ///
    /// `limit`: the most bytes to unfold to.
    ///
    /// - Throws: `.corruptCompression`, `.decompressedTooLarge`.
    package func plainRecords(using decompressor: Decompressor, limit: Int) throws(RecordsError)
        -> ByteBuffer
    {
        let codec = header.attributes.codec
        guard codec != .none else {
            return recordBytes
        }
        let compressed = bytes.readableBytesSpan.extracting(
            droppingFirst: RecordBatchHeader.byteCount
        )
        return try decompressor.decompress(compressed, as: codec, limit: limit)
    }

    /// The batch with a changed header; length and CRC follow by themselves.
    ///
    /// The records are copied.
    package func rewritten(_ change: (inout RecordBatchHeader) -> Void) -> RecordBatch {
        var header = header
        change(&header)
        var buffer = ByteBuffer()
        buffer.reserveCapacity(byteCount)
        header.write(into: &buffer)
        buffer.writeBytes(
            bytes.readableBytesSpan.extracting(droppingFirst: RecordBatchHeader.byteCount)
        )
        return RecordBatch(
            sealing: consume buffer,
            header: header,
            isCompressedByBroker: isCompressedByBroker
        )
    }

    /// Completes a batch: header and records lie in `buffer`; length and CRC are written into it.
    ///
    /// The buffer is consumed, since a second reference to it would make each of the two writes a
    /// copy.
    init(
        sealing buffer: consuming ByteBuffer,
        header: RecordBatchHeader,
        isCompressedByBroker: Bool = false
    ) {
        precondition(
            buffer.readableBytes <= Frame.maximumPayloadByteCount,
            "a batch's length fits its field"
        )
        var header = header
        let start = buffer.readerIndex
        header.checksum = CRC32C.checksum(
            buffer.readableBytesSpan.extracting(droppingFirst: Frame.batchHeadByteCount)
        )
        header.batchLength = Int32(buffer.readableBytes - RecordBatchHeader.prefixByteCount)
        buffer.setInteger(header.batchLength, at: start + 8)
        buffer.setInteger(header.checksum, at: start + 17)
        self.init(header: header, bytes: buffer.slice(), isCompressedByBroker: isCompressedByBroker)
    }
}
