package import FlotillaModel

package import struct NIOCore.ByteBuffer

/// The 48 bytes before every entry of a log: what it is, where it stands, and what stood before it.
///
/// Little endian, six words of eight bytes:
///
/// | bytes | field |
/// |---|---|
/// | 0-3 | CRC32C over bytes 4-47 and, for data, the batch's first 21 bytes; other kinds: the whole payload |
/// | 4-7 | payload length |
/// | 8-15 | Raft index |
/// | 16-19 | term, which is Kafka's leader epoch |
/// | 20 | kind |
/// | 21-23 | flags |
/// | 24-31 | Kafka base offset; for zero-width kinds the next offset |
/// | 32-35 | the previous frame's CRC: the chain |
/// | 36-39 | offset span: last offset delta + 1; 0 for zero-width kinds |
/// | 40-47 | append time in milliseconds |
///
/// The batch's own CRC covers it from byte 21 on, and lies within the first 21 bytes: so the chain
/// of frame CRCs binds every byte of the log without a second pass over the payloads.
package struct Frame: Hashable, Sendable {
    /// The size of a frame.
    package static let byteCount = 48

    /// How much of a batch the frame's checksum covers: what Kafka's CRC leaves out, and that CRC.
    package static let batchHeadByteCount = 21

    /// The largest payload: Kafka's lengths are signed.
    package static let maximumPayloadByteCount = Int(Int32.max)

    /// CRC32C over the rest of the frame and what it covers of the payload; also the next frame's
    /// link to this one.
    package private(set) var checksum: UInt32
    /// The bytes that follow the frame.
    package let payloadByteCount: Int
    /// The entry's place in the Raft log; the first is 1.
    package let index: LogIndex
    /// The term of the leader that made the entry; on the wire the leader epoch.
    package let term: Term
    /// What the payload is.
    package let kind: EntryKind
    /// First of a segment, compressed by the broker.
    package let flags: FrameFlags
    /// The first record's offset; for zero-width kinds the offset that the next record will have.
    package let baseOffset: Offset
    /// The checksum of the frame before this one; 0 for the first of a log.
    package let previousChecksum: UInt32
    /// The offsets that the entry takes; 0 for zero-width kinds.
    package let offsetSpan: Int64
    /// The leader's time when it appended the entry; never less than the entry's before it.
    package let appendTime: Timestamp

    /// A frame for a new entry.
    ///
    /// `covered`: for data the batch's first 21 bytes with offset and epoch stamped in; else the
    /// payload.
    package init(
        kind: EntryKind,
        flags: FrameFlags,
        index: LogIndex,
        term: Term,
        baseOffset: Offset,
        offsetSpan: Int64,
        appendTime: Timestamp,
        previousChecksum: UInt32,
        payloadByteCount: Int,
        covering covered: RawSpan
    ) {
        checksum = 0
        self.payloadByteCount = payloadByteCount
        self.index = index
        self.term = term
        self.kind = kind
        self.flags = flags
        self.baseOffset = baseOffset
        self.previousChecksum = previousChecksum
        self.offsetSpan = offsetSpan
        self.appendTime = appendTime
        precondition(
            flags.isSubset(of: .known(for: kind)),
            "a frame carries only flags that its kind has"
        )
        precondition(fieldOutOfRange == nil, "a frame's numbers lie within their ranges")
        checksum = computeChecksum(covering: covered)
    }

    /// Reads the frame at the start of `bytes`; its checksum is not yet compared, see
    /// `verify(covering:)`.
    ///
    /// - Throws: `.truncated`, `.unknownEntryKind`, `.unknownFlags`, `.frameFieldOutOfRange`.
    package init(parsing bytes: RawSpan) throws(RecordsError) {
        guard bytes.byteCount >= Self.byteCount else {
            throw .truncated(needed: Self.byteCount, found: bytes.byteCount)
        }
        let rawKind = bytes.littleEndian(UInt8.self, at: 20)
        guard let kind = EntryKind(rawValue: rawKind) else {
            throw .unknownEntryKind(rawKind)
        }
        let flags = FrameFlags(rawValue: bytes.littleEndian(UInt32.self, at: 20) >> 8)
        guard flags.isSubset(of: .known(for: kind)) else {
            throw .unknownFlags(flags.rawValue)
        }
        self.kind = kind
        self.flags = flags
        checksum = bytes.littleEndian(UInt32.self, at: 0)
        payloadByteCount = Int(bytes.littleEndian(UInt32.self, at: 4))
        index = LogIndex(bytes.littleEndian(UInt64.self, at: 8))
        term = Term(bytes.littleEndian(UInt32.self, at: 16))
        baseOffset = Offset(bytes.littleEndian(Int64.self, at: 24))
        previousChecksum = bytes.littleEndian(UInt32.self, at: 32)
        offsetSpan = Int64(bytes.littleEndian(UInt32.self, at: 36))
        appendTime = Timestamp(bytes.littleEndian(Int64.self, at: 40))
        if let field = fieldOutOfRange {
            throw .frameFieldOutOfRange(field)
        }
    }

    /// The offset after the entry's last record; for zero-width kinds the base offset.
    package var endOffset: Offset {
        baseOffset + offsetSpan
    }

    /// The entry's place as Raft compares it.
    package var position: LogPosition {
        LogPosition(term: term, index: index)
    }

    /// The frame and its payload.
    package var entryByteCount: Int {
        Self.byteCount + payloadByteCount
    }

    /// How many of the payload's first bytes the checksum covers.
    package var coveredByteCount: Int {
        kind == .data ? Self.batchHeadByteCount : payloadByteCount
    }

    /// Appends the 48 bytes to a buffer.
    package func write(into buffer: inout ByteBuffer) {
        let words = words
        // Safe: six integers have no padding, so all 48 bytes are initialized.
        unsafe buffer.writeBytes(words.span.bytes)
    }

    /// Compares the checksum with the frame's fields and the payload's covered bytes.
    ///
    /// `covered`: exactly the payload's first `coveredByteCount` bytes.
    ///
    /// - Throws: `.frameChecksumMismatch`, and `.truncated` when fewer bytes are given.
    package func verify(covering covered: RawSpan) throws(RecordsError) {
        guard covered.byteCount == coveredByteCount else {
            throw .truncated(needed: coveredByteCount, found: covered.byteCount)
        }
        let computed = computeChecksum(covering: covered)
        guard computed == checksum else {
            throw .frameChecksumMismatch(index: index, stored: checksum, computed: computed)
        }
    }

    private func computeChecksum(covering covered: RawSpan) -> UInt32 {
        let words = words
        var checksum = CRC32C()
        // Safe: six integers have no padding, so all 48 bytes are initialized.
        unsafe checksum.update(words.span.bytes.extracting(droppingFirst: 4))
        checksum.update(covered)
        return checksum.value
    }

    private var words: InlineArray<6, UInt64> {
        let kindAndFlags = UInt64(kind.rawValue) | UInt64(flags.rawValue) << 8
        return [
            (UInt64(checksum) | UInt64(payloadByteCount) << 32).littleEndian,
            index.rawValue.littleEndian,
            (UInt64(term.rawValue) | kindAndFlags << 32).littleEndian,
            UInt64(bitPattern: baseOffset.rawValue).littleEndian,
            (UInt64(previousChecksum) | UInt64(offsetSpan) << 32).littleEndian,
            UInt64(bitPattern: appendTime.rawValue).littleEndian,
        ]
    }

    /// The first field that no valid frame has; ranges are such that no sum of fields overflows.
    private var fieldOutOfRange: FrameField? {
        let isData = kind == .data
        let smallestPayload = isData ? RecordBatchHeader.byteCount : 0
        guard payloadByteCount >= smallestPayload, payloadByteCount <= Self.maximumPayloadByteCount
        else {
            return .payloadByteCount
        }
        guard index > .zero, index.rawValue < UInt64(Int64.max) else {
            return .index
        }
        guard term.rawValue <= UInt32(Int32.max) else {
            return .term
        }
        guard isData ? (1...Int64(Int32.max) + 1).contains(offsetSpan) : offsetSpan == 0 else {
            return .offsetSpan
        }
        guard baseOffset >= .zero, baseOffset.rawValue <= Int64.max - offsetSpan else {
            return .baseOffset
        }
        return nil
    }
}
