import struct NIOCore.ByteBuffer

/// What a topic does with the compression that batches arrive in: its `compression.type`.
package enum CompressionPolicy: Hashable, Sendable {
    /// What arrives plain is compressed with lz4 by the leader; what arrives compressed is kept.
    case auto
    /// Everything is kept as it arrives.
    case producer
    /// Everything is stored in this codec, whatever it arrives in.
    case fixed(CompressionCodec, level: Int?)

    /// Batches below this size are kept plain: what lz4 saves on them is less than it costs every
    /// reader.
    package static let smallestBatchByteCount = 1024

    /// The codec that a batch in `codec` is to be stored in; it is only tried where the policy is
    /// `auto`.
    package func target(for batch: RecordBatch) -> CompressionCodec {
        let codec = batch.header.attributes.codec
        return switch self {
        case .producer: codec
        case .fixed(let target, _): target
        case .auto: codec == .none && batch.byteCount >= Self.smallestBatchByteCount ? .lz4 : codec
        }
    }

    /// The batch as it is to be stored; the same when there is nothing to do or nothing to gain.
    ///
    /// `limit`: the most bytes that a compressed batch may unfold to on the way.
    ///
    /// - Throws: `.corruptCompression`, `.decompressedTooLarge`.
    package func applied(
        to batch: RecordBatch,
        using compressor: Compressor,
        _ decompressor: Decompressor,
        limit: Int
    ) throws(RecordsError) -> RecordBatch {
        let target = target(for: batch)
        guard target != batch.header.attributes.codec, !batch.header.attributes.isControl else {
            return batch
        }
        switch self {
        case .producer:
            return batch
        case .fixed(_, let level):
            return try batch.recompressed(
                as: target,
                level: level,
                using: compressor,
                decompressor,
                limit: limit
            )
        case .auto:
            let smaller = try batch.recompressed(
                as: target,
                level: nil,
                using: compressor,
                decompressor,
                limit: limit,
                isByBroker: true
            )
            // Below a tenth of gain every reader would pay for next to nothing.
            return smaller.byteCount <= batch.byteCount - batch.byteCount / 10 ? smaller : batch
        }
    }
}

extension RecordBatch {
    /// The same records in another codec; offsets, times and producer stay.
    ///
    /// `limit`: the most bytes that the records may unfold to.
    /// `isByBroker`: whether the broker does it unasked, so that it must undo it for some clients.
    ///
    /// - Throws: `.corruptCompression`, `.decompressedTooLarge`.
    package func recompressed(
        as codec: CompressionCodec,
        level: Int? = nil,
        using compressor: Compressor,
        _ decompressor: Decompressor,
        limit: Int,
        isByBroker: Bool = false
    ) throws(RecordsError) -> RecordBatch {
        let records = try plainRecords(using: decompressor, limit: limit)
        var header = header
        header.attributes.codec = codec
        return RecordBatch(
            header: header,
            records: records.readableBytesSpan,
            level: level,
            using: compressor,
            isCompressedByBroker: isByBroker
        )
    }

    /// The batch without compression, for a client that was never asked whether it reads lz4.
    ///
    /// - Throws: `.corruptCompression`, `.decompressedTooLarge`.
    package func inflated(using decompressor: Decompressor, limit: Int) throws(RecordsError)
        -> RecordBatch
    {
        guard header.attributes.codec != .none else {
            return self
        }
        return try recompressed(as: .none, using: Compressor(), decompressor, limit: limit)
    }
}
