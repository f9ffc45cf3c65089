package import FlotillaModel

package import struct NIOCore.ByteBuffer

/// Makes a batch of records: what a producer sends, and what the broker writes itself.
///
/// Records are encoded as they come; `build(using:)` compresses and seals. Offset deltas count 0,
/// 1, 2, … without gaps.
package struct RecordBatchBuilder: Sendable {
    /// How `build(using:)` compresses.
    package var codec: CompressionCodec
    /// The codec's level; nil is its default.
    package var level: Int?
    /// The idempotent producer, or `.none`.
    package var producerID = ProducerID.none
    /// The producer's epoch, or -1.
    package var producerEpoch: Int16 = -1
    /// The first record's sequence number, or -1.
    package var baseSequence: Int32 = -1
    /// Whether the batch belongs to a transaction.
    package var isTransactional = false
    /// Whether the batch holds a control record.
    var isControl = false

    /// The number of records so far.
    package private(set) var count = 0

    private var buffer: ByteBuffer
    private var baseTimestamp = Timestamp.none
    private var maxTimestamp = Timestamp.none

    /// An empty batch.
    ///
    /// `capacity`: how many bytes to make room for at once.
    package init(codec: CompressionCodec = .none, level: Int? = nil, capacity: Int = 1024) {
        self.codec = codec
        self.level = level
        buffer = ByteBuffer()
        buffer.reserveCapacity(max(capacity, RecordBatchHeader.byteCount))
        buffer.writeRepeatingByte(0, count: RecordBatchHeader.byteCount)
    }

    /// Whether no record was added.
    package var isEmpty: Bool {
        count == 0
    }

    /// The size of the batch as it would be without compression.
    package var byteCount: Int {
        buffer.readableBytes
    }

    /// The most bytes that a record adds to a batch; for deciding whether it still fits.
    package static func maximumByteCount(
        key: ByteBuffer?,
        value: ByteBuffer?,
        headers: [RecordHeader]
    ) -> Int {
        // Length, attributes, timestamp and offset deltas, two lengths, header count; then two
        // lengths per header.
        let fixed = 5 + 1 + 10 + 5 + 5 + 5 + 5
        let content = (key?.readableBytes ?? 0) + (value?.readableBytes ?? 0)
        return headers.reduce(fixed + content) { sum, header in
            sum + 10 + header.name.utf8.count + (header.value?.readableBytes ?? 0)
        }
    }

    /// Adds a record behind the others.
    ///
    /// `timestamp`: in milliseconds; it may be earlier than those before it.
    package mutating func append(
        key: ByteBuffer?,
        value: ByteBuffer?,
        headers: [RecordHeader] = [],
        timestamp: Timestamp
    ) {
        if isEmpty {
            baseTimestamp = timestamp
        }
        let timestampDelta = timestamp.rawValue &- baseTimestamp.rawValue
        let length =
            1 + varintByteCount(timestampDelta) + varintByteCount(Int64(count))
            + Self.byteCount(of: key) + Self.byteCount(of: value) + Self.byteCount(of: headers)
        precondition(
            byteCount + length + 5 <= Frame.maximumPayloadByteCount && count < Int(Int32.max),
            "a batch's length and count fit their fields"
        )
        let total = varintByteCount(Int64(length)) + length
        // Safe: the writer keeps within the room, and the record fills exactly what was computed.
        unsafe buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: total) { room in
            var writer = unsafe RecordWriter(room)
            writer.varint(Int64(length))
            writer.byte(0)
            writer.varint(timestampDelta)
            writer.varint(Int64(count))
            writer.nullable(key)
            writer.nullable(value)
            writer.varint(Int64(headers.count))
            for header in headers {
                writer.varint(Int64(header.name.utf8.count))
                // Safe: bytes have no padding.
                unsafe writer.bytes(header.name.utf8Span.span.bytes)
                writer.nullable(header.value)
            }
            precondition(writer.count == total, "a record has the length written before it")
            return total
        }
        maxTimestamp = max(maxTimestamp, timestamp)
        count += 1
    }

    private static func byteCount(of bytes: ByteBuffer?) -> Int {
        guard let bytes else {
            return 1
        }
        return varintByteCount(Int64(bytes.readableBytes)) + bytes.readableBytes
    }

    private static func byteCount(of headers: [RecordHeader]) -> Int {
        headers.reduce(varintByteCount(Int64(headers.count))) { sum, header in
            let name = header.name.utf8.count
            return sum + varintByteCount(Int64(name)) + name + byteCount(of: header.value)
        }
    }

    /// The finished batch; the builder may go on and make a longer one.
    ///
    /// `baseOffset`: 0 in a batch that a producer sends.
    /// `leaderEpoch`: -1 in a batch that a producer sends.
    package func build(
        using compressor: Compressor,
        baseOffset: Offset = .zero,
        leaderEpoch: Int32 = -1
    ) -> RecordBatch {
        precondition(!isEmpty, "a batch holds a record")
        var attributes = BatchAttributes(codec: codec)
        attributes.isTransactional = isTransactional
        attributes.isControl = isControl
        let header = RecordBatchHeader(
            baseOffset: baseOffset,
            leaderEpoch: leaderEpoch,
            attributes: attributes,
            lastOffsetDelta: Int32(count - 1),
            baseTimestamp: baseTimestamp,
            maxTimestamp: maxTimestamp,
            producerID: producerID,
            producerEpoch: producerEpoch,
            baseSequence: baseSequence,
            recordCount: Int32(count)
        )
        let records = buffer.readableBytesSpan.extracting(
            droppingFirst: RecordBatchHeader.byteCount
        )
        return RecordBatch(header: header, records: records, level: level, using: compressor)
    }
}

extension RecordBatchHeader {
    /// A header whose length and CRC are still to be filled in.
    init(
        baseOffset: Offset,
        leaderEpoch: Int32,
        attributes: BatchAttributes,
        lastOffsetDelta: Int32,
        baseTimestamp: Timestamp,
        maxTimestamp: Timestamp,
        producerID: ProducerID,
        producerEpoch: Int16,
        baseSequence: Int32,
        recordCount: Int32
    ) {
        self.baseOffset = baseOffset
        batchLength = 0
        self.leaderEpoch = leaderEpoch
        checksum = 0
        self.attributes = attributes
        self.lastOffsetDelta = lastOffsetDelta
        self.baseTimestamp = baseTimestamp
        self.maxTimestamp = maxTimestamp
        self.producerID = producerID
        self.producerEpoch = producerEpoch
        self.baseSequence = baseSequence
        self.recordCount = recordCount
    }
}

extension RecordBatch {
    /// A batch of plain records, compressed as the header's attributes say.
    init(
        header: RecordBatchHeader,
        records: RawSpan,
        level: Int?,
        using compressor: Compressor,
        isCompressedByBroker: Bool = false
    ) {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(RecordBatchHeader.byteCount + records.byteCount)
        header.write(into: &buffer)
        compressor.compress(records, as: header.attributes.codec, level: level, into: &buffer)
        self.init(
            sealing: consume buffer,
            header: header,
            isCompressedByBroker: isCompressedByBroker
        )
    }
}
