package import FlotillaModel
package import struct NIOCore.ByteBuffer

/// An answer, or what has to be loaded before there is one.
package enum LogRead<Value> {
    /// The answer.
    case ready(Value)
    /// Run `perform()` on a worker, give the result to `PartitionLog.finish(_:)`, and ask again
    /// with `afterLoad: true`.
    case load(SegmentLoad)
}

/// Whole batches of a partition, in order, as they go to a consumer.
package struct FetchSlice {
    /// Where the bytes are; written one after the other they are the batches.
    package var parts: [FetchPart] = []
    /// The bytes of all parts.
    package var byteCount = 0
    /// The first batch's base offset; it may lie below the offset that was asked for.
    package var firstOffset: Offset
    /// The offset after the last batch; where the next read begins.
    package var endOffset: Offset
    /// Whether a batch was compressed by the broker, and has to be inflated for clients that do not
    /// read lz4.
    package var containsBrokerCompressed = false

    /// Whether there is no batch.
    package var isEmpty: Bool {
        byteCount == 0
    }

    /// All bytes in one buffer: a copy, for those who look into the batches.
    package func joined() -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(byteCount)
        for part in parts {
            buffer.writeBytes(part.buffer.readableBytesSpan)
        }
        return buffer
    }
}

/// A run of batches in one place.
package enum FetchPart {
    /// In memory.
    case memory(ByteBuffer)
    /// A range of a segment's `.log`; the reader pins the file and its mapping until it is let go.
    case segment(SegmentReader, Range<Int>)

    /// The bytes, from the mapping for a segment.
    package var buffer: ByteBuffer {
        switch self {
        case .memory(let buffer): buffer
        case .segment(let reader, let range): reader.buffer(range)
        }
    }

    /// The number of bytes.
    package var byteCount: Int {
        switch self {
        case .memory(let buffer): buffer.readableBytes
        case .segment(_, let range): range.count
        }
    }
}

/// A batch that a search by time found; its records tell the offset.
package struct BatchCandidate {
    /// The first record's offset.
    package var baseOffset: Offset
    /// The offset after the last record.
    package var endOffset: Offset
    /// The leader epoch of the batch.
    package var term: Term
    /// The batch.
    package var bytes: ByteBuffer
}
