import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import Testing

import struct NIOCore.ByteBuffer

@Suite("BatchRules")
struct BatchRulesTests {
    static let now = Timestamp(1_700_000_000_000)

    static func record(_ value: String? = "value", key: String? = "key", at time: Timestamp = now)
        -> Record
    {
        Record(
            offset: .zero,
            timestamp: time,
            key: key.map { ByteBuffer(string: $0) },
            value: value.map { ByteBuffer(string: $0) }
        )
    }

    static func admit(
        _ records: ByteBuffer?,
        acceptsZstd: Bool = true,
        now: Timestamp = now,
        rules change: (inout BatchRules) -> Void = { _ in }
    ) throws(BatchRefusal) -> RecordBatch {
        var rules = BatchRules()
        change(&rules)
        return try rules.admit(
            records,
            now: now,
            acceptsZstd: acceptsZstd,
            using: Compressor(),
            Decompressor()
        )
    }

    static func refusal(
        _ records: ByteBuffer?,
        acceptsZstd: Bool = true,
        now: Timestamp = now,
        rules change: (inout BatchRules) -> Void = { _ in }
    ) -> BatchRefusal? {
        do throws(BatchRefusal) {
            _ = try admit(records, acceptsZstd: acceptsZstd, now: now, rules: change)
            return nil
        } catch {
            return error
        }
    }

    @Test("Real clients' batches are admitted as they are", arguments: GoldenBatch.all)
    func golden(batch: GoldenBatch) throws {
        // One of them was sent with the time of its capture.
        let admitted = try Self.admit(batch.bytes, now: Timestamp(1_795_300_000_000))
        #expect(admitted.bytes == batch.bytes)
        #expect(!admitted.isCompressedByBroker)
    }

    @Test("Nothing, old formats and two batches are INVALID_RECORD (PROD-5)")
    func exactlyOne() {
        #expect(Self.refusal(nil) == .noBatch)
        #expect(Self.refusal(ByteBuffer()) == .noBatch)
        #expect(Self.refusal(nil)?.errorCode == .invalidRecord)
        let one = RecordBatch.of("one").bytes
        let two = ByteBuffer(bytes: one.array + one.array)
        #expect(Self.refusal(two) == .malformed(.trailingBytes(one.readableBytes)))
        #expect(Self.refusal(two)?.errorCode == .invalidRecord)
        // A message of format 1: 8 offset, 4 size, 4 crc, magic 1, attributes, 8 time, two lengths.
        let old = ByteBuffer(
            hex: "0000000000000000 00000016 00000000 01 00 0000000000000000 ffffffff ffffffff"
        )
        #expect(Self.refusal(old) == .malformed(.unsupportedMagic(1)))
        #expect(Self.refusal(old)?.errorCode == .invalidRecord)
    }

    @Test("zstd before Produce 7 is UNSUPPORTED_COMPRESSION_TYPE (PROD-5)")
    func oldZstd() {
        let batch = RecordBatch.of("z", codec: .zstd).bytes
        #expect(Self.refusal(batch, acceptsZstd: false)?.errorCode == .unsupportedCompressionType)
        #expect(Self.refusal(batch) == nil)
    }

    @Test(
        "Damage anywhere from length to end is CORRUPT_MESSAGE, so that the client sends again (PROD-6)"
    )
    func damage() {
        let bytes = RecordBatch.of("damage").bytes
        for position in 17..<bytes.readableBytes {
            for bit in 0..<8 {
                let code = Self.refusal(bytes.flipping(bit: bit, ofByte: position))?.errorCode
                #expect(code == .corruptMessage, "byte \(position), bit \(bit)")
            }
        }
        for count in 1..<bytes.readableBytes {
            let cut = ByteBuffer(bytes: bytes.array[..<count])
            #expect(Self.refusal(cut)?.errorCode == .corruptMessage, "\(count) bytes")
        }
    }

    @Test("Headers that no producer writes are INVALID_RECORD (PROD-7)")
    func headers() {
        let batch = RecordBatch.of([Self.record(), Self.record(), Self.record()])
        func refusal(_ change: (inout RecordBatchHeader) -> Void) -> ErrorCode? {
            Self.refusal(batch.rewritten(change).bytes)?.errorCode
        }
        #expect(refusal { $0.attributes.isControl = true } == .invalidRecord)
        #expect(refusal { $0.attributes.hasDeleteHorizon = true } == .invalidRecord)
        #expect(refusal { $0.attributes.rawValue |= 0x80 } == .invalidRecord)
        #expect(refusal { $0.attributes.rawValue |= 5 } == .unsupportedCompressionType)
        #expect(refusal { $0.recordCount = 0 } == .invalidRecord)
        #expect(refusal { $0.recordCount = 2 } == .invalidRecord)
        #expect(refusal { $0.recordCount = -1 } == .invalidRecord)
        #expect(refusal { $0.lastOffsetDelta = -1 } == .invalidRecord)
        #expect(refusal { $0.lastOffsetDelta = 3 } == .invalidRecord)
        #expect(refusal { $0.lastOffsetDelta = .max } == .invalidRecord)
        #expect(refusal { ($0.recordCount, $0.lastOffsetDelta) = (4, 3) } == .invalidRecord)
        #expect(refusal { ($0.recordCount, $0.lastOffsetDelta) = (2, 1) } == .invalidRecord)
        #expect(
            refusal { ($0.producerID, $0.producerEpoch) = (ProducerID(1), 0) } == .invalidRecord
        )
        #expect(refusal { ($0.producerID, $0.baseSequence) = (ProducerID(1), 0) } == .invalidRecord)
        #expect(refusal { $0.attributes.isTransactional = true } == .invalidRecord)
        #expect(
            refusal { header in
                header.producerID = ProducerID(1)
                header.producerEpoch = 0
                header.baseSequence = 0
                header.attributes.isTransactional = true
            } == nil
        )
        // aiokafka's quirk: a sequence number without a producer.
        #expect(refusal { $0.baseSequence = 0 } == nil)
    }

    @Test("A gap in the offsets names the record (PROD-7)")
    func gap() throws {
        // Three records; the second one's offset delta (byte 3 of the record) says 2.
        let batch = RecordBatch.of([Self.record(), Self.record(), Self.record()])
        var bytes = batch.bytes
        let recordByteCount = (bytes.readableBytes - 61) / 3
        bytes.setInteger(UInt8(4), at: 61 + recordByteCount + 3)
        let changed = try RecordBatch(parsing: bytes, isChecksumTrusted: true).rewritten { _ in }
        let refusal = Self.refusal(changed.bytes)
        #expect(refusal == .gapInOffsets(batchIndex: 1))
        #expect(refusal?.errorCode == .invalidRecord)
        #expect(refusal?.recordErrors.map(\.batchIndex) == [1])
    }

    @Test("Sizes are compared as sent, before the CRC (PROD-8)")
    func sizes() {
        let bytes = RecordBatch.of("size").bytes
        let size = bytes.readableBytes
        #expect(Self.refusal(bytes) { $0.maximumByteCount = size } == nil)
        let refusal = Self.refusal(bytes.flipping(bit: 0, ofByte: 65)) {
            $0.maximumByteCount = size - 1
        }
        #expect(refusal == .tooLarge(byteCount: size, limit: size - 1))
        #expect(refusal?.errorCode == .messageTooLarge)
        let segment = Self.refusal(bytes) { $0.segmentByteCount = size - 1 }
        #expect(segment?.errorCode == .recordListTooLarge)
        // A length that only claims to be huge is too large, and nothing is allocated for it.
        var huge = bytes
        huge.setInteger(Int32.max - 12, at: 8)
        #expect(Self.refusal(huge)?.errorCode == .messageTooLarge)
    }

    @Test("After recompression the size is compared again")
    func sizeAfterRecompression() {
        let batch = RecordBatch.of(String(repeating: "a", count: 10_000), codec: .zstd)
        let refusal = Self.refusal(batch.bytes) { rules in
            rules.maximumByteCount = 5000
            rules.compression = .fixed(.none, level: nil)
        }
        #expect(refusal?.errorCode == .messageTooLarge)
    }

    @Test(
        "A compacted topic names every record without a key (PROD-9)",
        arguments: CompressionCodec.allCases
    )
    func keys(codec: CompressionCodec) {
        let records = ["a", nil, "", nil].map { Self.record(key: $0) }
        let bytes = RecordBatch.of(records, codec: codec).bytes
        #expect(Self.refusal(bytes) == nil)
        let refusal = Self.refusal(bytes) { $0.requiresKeys = true }
        #expect(refusal?.errorCode == .invalidRecord)
        #expect(refusal?.recordErrors.map(\.batchIndex) == [1, 3])
    }

    @Test(
        "A compacted topic opens compressed batches within its bound only",
        arguments: CodecTests.compressing
    )
    func boundedOpening(codec: CompressionCodec) {
        let bytes = RecordBatch.of(String(repeating: "a", count: 1 << 20), codec: codec).bytes
        let refusal = Self.refusal(bytes) { rules in
            rules.requiresKeys = true
            rules.unfoldedLimit = 1 << 19
        }
        #expect(refusal == .malformed(.decompressedTooLarge(limit: 1 << 19)))
        #expect(refusal?.errorCode == .messageTooLarge)
    }

    @Test("Timestamps outside the window name their records (PROD-10)")
    func timestamps() {
        let hour: Int64 = 3_600_000
        func refusal(_ offsets: [Int64], codec: CompressionCodec = .none) -> BatchRefusal? {
            let records = offsets.map { Self.record(at: Timestamp(Self.now.rawValue + $0)) }
            return Self.refusal(RecordBatch.of(records, codec: codec).bytes) {
                $0.timestampBeforeMax = 1000
            }
        }
        #expect(refusal([0, -1000, hour]) == nil)
        #expect(refusal([0, -1001, 5, hour + 1])?.recordErrors.map(\.batchIndex) == [1, 3])
        #expect(refusal([hour + 1])?.errorCode == .invalidTimestamp)
        #expect(refusal([hour + 1], codec: .lz4)?.errorCode == .invalidTimestamp)
        #expect(refusal([hour], codec: .lz4) == nil)
        // No time at all passes, and extreme ones overflow nothing.
        for time in [Timestamp.none, Timestamp(.max), Timestamp(.min), Timestamp(0)] {
            let bytes = RecordBatch.of([Self.record(at: time), Self.record(at: Timestamp(.min))])
                .bytes
            _ = Self.refusal(bytes) { $0.timestampAfterMax = .max }
            _ = Self.refusal(bytes) { $0.usesLogAppendTime = true }
        }
        #expect(Self.refusal(RecordBatch.of([Self.record(at: .none)]).bytes) == nil)
        let claimed = RecordBatch.of("x").rewritten { $0.attributes.isLogAppendTime = true }
        #expect(Self.refusal(claimed.bytes)?.errorCode == .invalidTimestamp)
    }

    @Test("A refusal names a bounded number of records")
    func boundedRefusal() {
        let records = Array(repeating: Self.record(key: nil), count: 3000)
        let refusal = Self.refusal(RecordBatch.of(records).bytes) { $0.requiresKeys = true }
        #expect(refusal?.recordErrors.count == BatchRules.maximumRecordErrorCount)
    }

    @Test("Log append time sets bit, time and CRC (PROD-11)", arguments: CompressionCodec.allCases)
    func logAppendTime(codec: CompressionCodec) throws {
        let batch = RecordBatch.of(
            [Self.record(at: Timestamp(5)), Self.record(at: Timestamp(3))],
            codec: codec
        )
        let admitted = try Self.admit(batch.bytes) { $0.usesLogAppendTime = true }
        let reparsed = try RecordBatch(parsing: admitted.bytes)
        #expect(reparsed.header.attributes.isLogAppendTime)
        #expect(reparsed.header.maxTimestamp == Self.now)
        #expect(try reparsed.allRecords().map(\.timestamp) == [Self.now, Self.now])
    }

    @Test("A wrong maximum timestamp is mended")
    func maxTimestamp() throws {
        let batch = RecordBatch.of([Self.record(), Self.record(at: Timestamp(7))])
        let wrong = batch.rewritten { $0.maxTimestamp = Timestamp(1) }
        #expect(try Self.admit(wrong.bytes).bytes == batch.bytes)
    }

    @Test(
        "auto: large plain batches become lz4, small and incompressible ones stay, compressed ones stay"
    )
    func auto() throws {
        var random = SeededRandom(seed: 12)
        let long = RecordBatch.of(String(repeating: "compress me ", count: 200))
        let stored = try Self.admit(long.bytes)
        #expect(stored.header.attributes.codec == .lz4 && stored.isCompressedByBroker)
        #expect(stored.byteCount < long.byteCount / 2)
        #expect(try RecordBatch(parsing: stored.bytes).allRecords() == long.allRecords())
        #expect(try stored.inflated(using: Decompressor(), limit: 1 << 20).bytes == long.bytes)

        let short = RecordBatch.of(String(repeating: "a", count: 900))
        #expect(short.byteCount < 1024)
        #expect(try Self.admit(short.bytes).bytes == short.bytes)

        var noise = Self.record()
        noise.value = random.bytes(count: 10_000)
        let incompressible = RecordBatch.of([noise])
        #expect(try Self.admit(incompressible.bytes).bytes == incompressible.bytes)

        for codec in CodecTests.compressing {
            let batch = RecordBatch.of(String(repeating: "keep me ", count: 500), codec: codec)
            #expect(try Self.admit(batch.bytes).bytes == batch.bytes)
        }
    }

    @Test(
        "producer keeps everything; a fixed codec stores everything in it",
        arguments: CompressionCodec.allCases
    )
    func fixed(target: CompressionCodec) throws {
        for codec in CompressionCodec.allCases {
            let batch = RecordBatch.of(String(repeating: "text ", count: 500), codec: codec)
            #expect(try Self.admit(batch.bytes) { $0.compression = .producer }.bytes == batch.bytes)
            let stored = try Self.admit(batch.bytes) { $0.compression = .fixed(target, level: nil) }
            #expect(stored.header.attributes.codec == target)
            #expect(!stored.isCompressedByBroker)
            #expect(try RecordBatch(parsing: stored.bytes).allRecords() == batch.allRecords())
        }
    }

    @Test("Where the content is opened, lies about it are found", arguments: CodecTests.compressing)
    func openedLies(codec: CompressionCodec) {
        let batch = RecordBatch.of([Self.record(), Self.record()], codec: codec).rewritten {
            header in
            header.recordCount = 3
            header.lastOffsetDelta = 2
        }
        #expect(Self.refusal(batch.bytes) == nil)
        let refusal = Self.refusal(batch.bytes) { $0.requiresKeys = true }
        #expect(refusal == .malformed(.recordCountMismatch(announced: 3, found: 2)))
    }

    @Test("Only work that takes long is sent to a worker")
    func workers() {
        let small = RecordBatch.of("small").bytes
        let large = RecordBatch.of(String(repeating: "l", count: 20_000)).bytes
        var random = SeededRandom(seed: 13)
        var noise = Self.record()
        noise.value = random.bytes(count: 20_000)
        let zstd = RecordBatch.of([noise], codec: .zstd).bytes
        var rules = BatchRules()
        #expect(!rules.wantsWorker(for: small))
        #expect(rules.wantsWorker(for: large))
        #expect(!rules.wantsWorker(for: zstd))
        rules.requiresKeys = true
        #expect(rules.wantsWorker(for: zstd))
        rules = BatchRules()
        rules.compression = .producer
        #expect(!rules.wantsWorker(for: large))
        #expect(!rules.wantsWorker(for: ByteBuffer()))
    }
}
