package import FlotillaModel
package import FlotillaRecords
package import struct NIOCore.ByteBuffer

/// Batches, and the entries that a leader makes of them, in sizes that benchmarks ask for.
///
/// Values are pseudo-random text: a checksum does not care, and lz4 finds something, but not everything.
package struct SampleBatches {
    /// The time of every record.
    package static let time = Timestamp(1_700_000_000_000)

    private var state: UInt64 = 0x9E37_79B9_7F4A_7C15

    /// Starts at the same place each time.
    package init() {}

    /// Bytes of no meaning.
    package mutating func bytes(_ count: Int) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(count)
        for _ in 0..<count {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            buffer.writeInteger(UInt8(ascii: "a") + UInt8(truncatingIfNeeded: state >> 60))
        }
        return buffer
    }

    /// A plain batch with so many records of so many bytes each.
    package mutating func batch(recordCount: Int, valueByteCount: Int) -> RecordBatch {
        var builder = RecordBatchBuilder(capacity: recordCount * (valueByteCount + 20) + 61)
        for _ in 0..<recordCount {
            builder.append(key: nil, value: bytes(valueByteCount), timestamp: Self.time)
        }
        return builder.build(using: Compressor())
    }
}

/// Makes entries as a leader does: each continues the one before.
package struct EntryChain {
    private var lastIndex = LogIndex.zero
    private var nextOffset = Offset.zero
    private var checksum: UInt32 = 0

    /// The start of a log.
    package init() {}

    /// The next entry.
    package mutating func append(_ batch: RecordBatch) -> LogEntry {
        let entry = LogEntry.data(
            batch,
            index: lastIndex.next,
            term: Term(1),
            baseOffset: nextOffset,
            appendTime: SampleBatches.time,
            previousChecksum: checksum
        )
        lastIndex = entry.frame.index
        nextOffset = entry.frame.endOffset
        checksum = entry.frame.checksum
        return entry
    }
}

extension LogEntry {
    /// Frame and payload in one buffer, as they lie in a journal or arrive from a leader.
    package var joined: ByteBuffer {
        var buffer = ByteBuffer()
        write(into: &buffer)
        return buffer
    }
}
