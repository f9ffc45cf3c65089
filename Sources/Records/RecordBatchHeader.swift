package import FlotillaModel

package import struct NIOCore.ByteBuffer

/// The 61 bytes before a batch's records (format v2, magic 2), big endian.
///
/// | bytes | field |
/// |---|---|
/// | 0-7 | base offset |
/// | 8-11 | batch length: the bytes after this field |
/// | 12-15 | partition leader epoch |
/// | 16 | magic, 2 |
/// | 17-20 | CRC32C over bytes 21 to the end |
/// | 21-22 | attributes |
/// | 23-26 | last offset delta |
/// | 27-34 | base timestamp |
/// | 35-42 | maximum timestamp |
/// | 43-50 | producer id |
/// | 51-52 | producer epoch |
/// | 53-56 | base sequence |
/// | 57-60 | record count |
package struct RecordBatchHeader: Hashable, Sendable {
    /// The size of the header, and of the smallest batch.
    package static let byteCount = 61

    /// The bytes up to and with the batch length, which the batch length does not count.
    package static let prefixByteCount = 12

    /// The format's number.
    package static let magic: Int8 = 2

    /// The first record's offset; a producer sends 0, the leader stamps it.
    package var baseOffset: Offset
    /// The bytes after the length field.
    package var batchLength: Int32
    /// The term of the leader that appended the batch; a producer sends 0 or -1.
    package var leaderEpoch: Int32
    /// CRC32C over the batch from its attributes on.
    package var checksum: UInt32
    /// Codec, timestamp type, transactional, control, delete horizon.
    package var attributes: BatchAttributes
    /// The last record's offset less the base offset; kept by compaction.
    package var lastOffsetDelta: Int32
    /// The zero point of the records' timestamps (or the delete horizon, if the attributes say so).
    package var baseTimestamp: Timestamp
    /// The largest timestamp of the records, or the append time.
    package var maxTimestamp: Timestamp
    /// The idempotent producer, or `.none`.
    package var producerID: ProducerID
    /// The producer's epoch, or -1.
    package var producerEpoch: Int16
    /// The first record's sequence number; means something only with a producer id.
    package var baseSequence: Int32
    /// The number of records; fewer than the span of offsets after compaction.
    package var recordCount: Int32

    /// Reads a header; `bytes` holds at least its 61 bytes, and no more of the batch is looked at.
    ///
    /// - Throws: `.truncated`, `.unsupportedMagic`, `.invalidBatchLength`, `.unknownCodec`,
    ///   `.invalidCounts`.
    package init(parsing bytes: RawSpan) throws(RecordsError) {
        try self.init(framing: bytes)
        try checkContent()
    }

    /// Reads a header that is split as entries keep it: the first 21 bytes, and the batch from
    /// there on.
    ///
    /// - Throws: what `init(parsing:)` throws.
    package init(head: RawSpan, body: RawSpan) throws(RecordsError) {
        try self.init(framing: head, body)
        try checkContent()
    }

    /// Reads a header and checks only what lies outside the CRC: compare that first, then
    /// `checkContent()`, or a bit that flipped on the way is taken for a client's mistake.
    init(framing bytes: RawSpan) throws(RecordsError) {
        guard bytes.byteCount >= Self.byteCount else {
            throw .truncated(needed: Self.byteCount, found: bytes.byteCount)
        }
        try self.init(
            framing: bytes.extracting(first: Frame.batchHeadByteCount),
            bytes.extracting(droppingFirst: Frame.batchHeadByteCount)
        )
    }

    private init(framing head: RawSpan, _ body: RawSpan) throws(RecordsError) {
        let bodyByteCount = Self.byteCount - Frame.batchHeadByteCount
        guard head.byteCount == Frame.batchHeadByteCount, body.byteCount >= bodyByteCount else {
            throw .truncated(needed: Self.byteCount, found: head.byteCount + body.byteCount)
        }
        let magic = head.bigEndian(Int8.self, at: 16)
        guard magic == Self.magic else {
            throw .unsupportedMagic(magic)
        }
        baseOffset = Offset(head.bigEndian(Int64.self, at: 0))
        batchLength = head.bigEndian(Int32.self, at: 8)
        leaderEpoch = head.bigEndian(Int32.self, at: 12)
        checksum = head.bigEndian(UInt32.self, at: 17)
        attributes = BatchAttributes(rawValue: body.bigEndian(UInt16.self, at: 0))
        lastOffsetDelta = body.bigEndian(Int32.self, at: 2)
        baseTimestamp = Timestamp(body.bigEndian(Int64.self, at: 6))
        maxTimestamp = Timestamp(body.bigEndian(Int64.self, at: 14))
        producerID = ProducerID(body.bigEndian(Int64.self, at: 22))
        producerEpoch = body.bigEndian(Int16.self, at: 30)
        baseSequence = body.bigEndian(Int32.self, at: 32)
        recordCount = body.bigEndian(Int32.self, at: 36)
        guard batchLength >= Int32(Self.byteCount - Self.prefixByteCount),
            batchLength <= Int32.max - Int32(Self.prefixByteCount)
        else {
            throw .invalidBatchLength(batchLength)
        }
    }

    /// Checks what the CRC covers: codec and counts.
    ///
    /// - Throws: `.unknownCodec`, `.invalidCounts`.
    func checkContent() throws(RecordsError) {
        guard CompressionCodec(rawValue: attributes.codecNumber) != nil else {
            throw .unknownCodec(attributes.codecNumber)
        }
        // A compacted batch keeps its span and loses records, so fewer is fine and more is not.
        guard lastOffsetDelta >= 0, recordCount >= 0, Int64(recordCount) <= offsetSpan else {
            throw .invalidCounts(recordCount: recordCount, lastOffsetDelta: lastOffsetDelta)
        }
    }

    /// The size of the whole batch.
    package var totalByteCount: Int {
        Int(batchLength) + Self.prefixByteCount
    }

    /// The number of offsets that the batch takes.
    package var offsetSpan: Int64 {
        Int64(lastOffsetDelta) + 1
    }

    /// The sequence number of the last record; it wraps from 2147483647 to 0.
    package var lastSequence: Int32 {
        Self.sequence(baseSequence, advancedBy: lastOffsetDelta)
    }

    /// Whether an idempotent producer sent the batch.
    package var hasProducerID: Bool {
        producerID.rawValue >= 0
    }

    /// A sequence number further on; numbers wrap from 2147483647 to 0.
    ///
    /// - Source: `kafka/PROTOCOL.md` §5.
    package static func sequence(_ base: Int32, advancedBy count: Int32) -> Int32 {
        Int32(truncatingIfNeeded: (Int64(base) + Int64(count)) & Int64(Int32.max))
    }

    /// Appends the 61 bytes to a buffer.
    package func write(into buffer: inout ByteBuffer) {
        buffer.writeInteger(baseOffset.rawValue)
        buffer.writeInteger(batchLength)
        buffer.writeInteger(leaderEpoch)
        buffer.writeInteger(Self.magic)
        buffer.writeInteger(checksum)
        buffer.writeInteger(attributes.rawValue)
        buffer.writeInteger(lastOffsetDelta)
        buffer.writeInteger(baseTimestamp.rawValue)
        buffer.writeInteger(maxTimestamp.rawValue)
        buffer.writeInteger(producerID.rawValue)
        buffer.writeInteger(producerEpoch)
        buffer.writeInteger(baseSequence)
        buffer.writeInteger(recordCount)
    }

    /// Compares the header with the frame that stands before it.
    ///
    /// - Throws: `.frameDisagreesWithBatch`.
    func agree(with frame: Frame) throws(RecordsError) {
        let disagreement: FrameField? =
            if totalByteCount != frame.payloadByteCount {
                .payloadByteCount
            } else if baseOffset != frame.baseOffset {
                .baseOffset
            } else if offsetSpan != frame.offsetSpan {
                .offsetSpan
            } else if leaderEpoch != frame.term.leaderEpoch {
                .term
            } else {
                nil
            }
        if let disagreement {
            throw .frameDisagreesWithBatch(index: frame.index, field: disagreement)
        }
    }
}

/// Bits 21 and 22 of a batch: its codec and what kind of batch it is.
package struct BatchAttributes: Hashable, Sendable {
    /// The 16 bits as they are sent.
    package var rawValue: UInt16

    /// Wraps the bits.
    package init(rawValue: UInt16) {
        self.rawValue = rawValue
    }

    /// Attributes of a batch with this codec and no other bit.
    package init(codec: CompressionCodec = .none) {
        rawValue = UInt16(codec.rawValue)
    }

    /// The three bits of the codec, checked or not.
    var codecNumber: UInt8 {
        UInt8(truncatingIfNeeded: rawValue & 7)
    }

    /// How the records are compressed; the number was checked when the header was read.
    package var codec: CompressionCodec {
        get { CompressionCodec(rawValue: codecNumber) ?? .none }
        set { rawValue = rawValue & ~7 | UInt16(newValue.rawValue) }
    }

    /// Whether every record's time is the batch's maximum timestamp, given by the broker.
    package var isLogAppendTime: Bool {
        get { rawValue & 0x08 != 0 }
        set { setBit(0x08, newValue) }
    }

    /// Whether the batch belongs to a transaction.
    package var isTransactional: Bool {
        get { rawValue & 0x10 != 0 }
        set { setBit(0x10, newValue) }
    }

    /// Whether the batch holds a control record, which clients skip.
    package var isControl: Bool {
        get { rawValue & 0x20 != 0 }
        set { setBit(0x20, newValue) }
    }

    /// Whether the base timestamp is the time from which tombstones may go.
    package var hasDeleteHorizon: Bool {
        get { rawValue & 0x40 != 0 }
        set { setBit(0x40, newValue) }
    }

    /// The bits that mean nothing yet.
    package var reservedBits: UInt16 {
        rawValue & 0xFF80
    }

    private mutating func setBit(_ bit: UInt16, _ isSet: Bool) {
        rawValue = isSet ? rawValue | bit : rawValue & ~bit
    }
}
