import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import Testing

import struct NIOCore.ByteBuffer

@Suite("RecordBatch")
struct RecordBatchTests {
    @Test(
        "Real clients' batches are sound, and unfold to the record that was sent",
        arguments: GoldenBatch.all
    )
    func golden(batch golden: GoldenBatch) throws {
        let batch = try RecordBatch(parsing: golden.bytes)
        #expect(batch.header.attributes.codec == golden.codec)
        #expect(batch.header.recordCount == 1)
        let records = try batch.allRecords()
        #expect(records.count == 1)
        #expect(
            records[0].value == ByteBuffer(string: String(repeating: "hello golden ", count: 4))
        )
        guard !golden.name.contains("aiokafka 0.14.0 Produce v7 txn") else {
            #expect(records[0].key == nil && records[0].headers.isEmpty)
            #expect(
                batch.header.attributes.isTransactional
                    && batch.header.producerID == ProducerID(4000)
            )
            return
        }
        #expect(records[0].key == ByteBuffer(string: "k1"))
        #expect(records[0].timestamp == Timestamp(1_700_000_000_000))
        #expect(
            records[0].headers.first == RecordHeader(name: "h1", value: ByteBuffer(string: "v1"))
        )
        let hasNullHeader = records[0].headers.contains(RecordHeader(name: "h2", value: nil))
        #expect(hasNullHeader == golden.name.contains("librdkafka"))
    }

    @Test("A plain batch of a real client is built again, byte for byte")
    func rebuiltGolden() throws {
        let golden = GoldenBatch.all.filter { $0.codec == .none && !$0.name.contains("aiokafka") }
        #expect(golden.count >= 4)
        for sample in golden {
            let original = try RecordBatch(parsing: sample.bytes)
            let rebuilt = RecordBatch.of(try original.allRecords()) { builder in
                builder.producerID = original.header.producerID
                builder.producerEpoch = original.header.producerEpoch
                builder.baseSequence = original.header.baseSequence
                builder.isTransactional = original.header.attributes.isTransactional
            }
            // Clients differ in the epoch that they send, which the leader stamps over anyway.
            #expect(rebuilt.bytes.array[16...] == original.bytes.array[16...], "\(sample.name)")
        }
    }

    @Test("A batch cut at any byte is no batch", arguments: GoldenBatch.all)
    func truncated(golden: GoldenBatch) {
        let bytes = golden.bytes.array
        for count in 0..<bytes.count {
            let needed = count < 61 ? 61 : bytes.count
            #expect(throws: RecordsError.truncated(needed: needed, found: count)) {
                try RecordBatch(parsing: ByteBuffer(bytes: bytes[..<count]))
            }
        }
    }

    @Test(
        "Any turned bit from the CRC on is found by the CRC",
        arguments: GoldenBatch.all.prefix(7)
    )
    func flipped(golden: GoldenBatch) {
        for position in 17..<golden.bytes.readableBytes {
            for bit in 0..<8 {
                let damaged = golden.bytes.flipping(bit: bit, ofByte: position)
                let error = #expect(throws: RecordsError.self) {
                    try RecordBatch(parsing: damaged)
                }
                guard case .batchChecksumMismatch = error else {
                    Issue.record("byte \(position) bit \(bit): \(String(describing: error))")
                    continue
                }
            }
        }
    }

    @Test("Lengths and magic that no batch has are refused")
    func framing() throws {
        let bytes = RecordBatch.of("x").bytes
        func changed(_ change: (inout ByteBuffer) -> Void) -> ByteBuffer {
            var copy = bytes
            change(&copy)
            return copy
        }
        for length in [Int32.min, -1, 0, 48, .max, .max - 11] {
            #expect(throws: RecordsError.invalidBatchLength(length)) {
                try RecordBatch(parsing: changed { $0.setInteger(length, at: 8) })
            }
        }
        for magic in [Int8.min, -1, 0, 1, 3] {
            #expect(throws: RecordsError.unsupportedMagic(magic)) {
                try RecordBatch(parsing: changed { $0.setInteger(magic, at: 16) })
            }
        }
        #expect(throws: RecordsError.trailingBytes(1)) {
            try RecordBatch(parsing: changed { $0.writeInteger(UInt8(0)) })
        }
    }

    @Test("A fetched range is split into its batches; its incomplete tail is left")
    func splitting() throws {
        let batches = ["one", "two", "three"].map { RecordBatch.of($0) }
        var range = ByteBuffer(bytes: batches.flatMap(\.bytes.array))
        let whole = range
        for expected in batches {
            #expect(try RecordBatch.next(from: &range)?.bytes == expected.bytes)
        }
        #expect(try RecordBatch.next(from: &range) == nil)
        for count in 0..<batches[2].byteCount {
            let start = batches[0].byteCount + batches[1].byteCount
            var cut = ByteBuffer(bytes: whole.array[..<(start + count)])
            #expect(try RecordBatch.next(from: &cut) != nil)
            #expect(try RecordBatch.next(from: &cut) != nil)
            #expect(try RecordBatch.next(from: &cut) == nil)
            #expect(cut.readableBytes == count)
        }
        var damaged = whole.flipping(bit: 0, ofByte: 70)
        #expect(throws: RecordsError.self) {
            try RecordBatch.next(from: &damaged)
        }
        #expect(damaged.readableBytes == whole.readableBytes)
    }

    @Test(
        "Random records survive every codec",
        arguments: CompressionCodec.allCases,
        0..<20 as Range<UInt64>
    )
    func roundTrip(codec: CompressionCodec, seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let records = (0..<Int.random(in: 1...60, using: &random)).map {
            random.record(offset: Int64($0))
        }
        let batch = RecordBatch.of(records, codec: codec)
        let reparsed = try RecordBatch(parsing: batch.bytes)
        #expect(reparsed.header == batch.header)
        #expect(try reparsed.allRecords() == records)
        #expect(batch.header.maxTimestamp == records.map(\.timestamp).max())
        let other = CompressionCodec.allCases[Int.random(in: 0..<5, using: &random)]
        let recompressed = try batch.recompressed(
            as: other,
            using: Compressor(),
            Decompressor(),
            limit: 1 << 20
        )
        #expect(try RecordBatch(parsing: recompressed.bytes).allRecords() == records)
        #expect(try batch.inflated(using: Decompressor(), limit: 1 << 20).allRecords() == records)
    }

    @Test("The builder's running size is the size of the plain batch")
    func runningSize() {
        var random = SeededRandom(seed: 9)
        var builder = RecordBatchBuilder()
        for number in 0..<200 {
            let record = random.record(offset: Int64(number))
            let before = builder.byteCount
            let most = RecordBatchBuilder.maximumByteCount(
                key: record.key,
                value: record.value,
                headers: record.headers
            )
            builder.append(
                key: record.key,
                value: record.value,
                headers: record.headers,
                timestamp: record.timestamp
            )
            #expect(builder.byteCount - before <= most)
            #expect(builder.build(using: Compressor()).byteCount == builder.byteCount)
        }
    }

    @Test("A rewritten header carries a new CRC over the same records")
    func rewritten() throws {
        let batch = RecordBatch.of("rewritten", codec: .lz4)
        let changed = batch.rewritten { header in
            header.producerID = ProducerID(77)
            header.producerEpoch = 2
            header.baseSequence = 9
        }
        let reparsed = try RecordBatch(parsing: changed.bytes)
        #expect(reparsed.header.producerID == ProducerID(77))
        #expect(reparsed.header.baseSequence == 9)
        #expect(try reparsed.allRecords() == batch.allRecords())
        #expect(reparsed.header.checksum != batch.header.checksum)
    }

    @Test(
        "Sequence numbers wrap from 2147483647 to 0",
        arguments: [
            (0, 0, 0), (5, 10, 15), (Int32.max, 0, Int32.max), (.max, 1, 0), (.max - 2, 5, 2),
            (.max, .max, .max - 1),
        ] as [(Int32, Int32, Int32)]
    )
    func sequences(base: Int32, count: Int32, expected: Int32) {
        #expect(RecordBatchHeader.sequence(base, advancedBy: count) == expected)
    }

    @Test("With log append time every record has the batch's time")
    func logAppendTime() throws {
        var random = SeededRandom(seed: 10)
        let records = (0..<5).map { random.record(offset: $0) }
        let batch = RecordBatch.of(records).rewritten { header in
            header.attributes.isLogAppendTime = true
            header.maxTimestamp = Timestamp(42)
        }
        #expect(try batch.allRecords().allSatisfy { $0.timestamp == Timestamp(42) })
    }

    @Test("A record count that does not fit the records is found out, both ways")
    func wrongCount() throws {
        var random = SeededRandom(seed: 11)
        let batch = RecordBatch.of((0..<5).map { random.record(offset: $0) })
        for count in [0, 4, 6] as [Int32] {
            let wrong = batch.rewritten { header in
                header.recordCount = count
                header.lastOffsetDelta = 100
            }
            #expect(throws: RecordsError.recordCountMismatch(announced: count, found: 5)) {
                try wrong.allRecords()
            }
        }
    }
}

@Suite("Transaction markers")
struct TransactionMarkerTests {
    static let marker = TransactionMarker(
        decision: .commit,
        producerID: ProducerID(4000),
        producerEpoch: 3,
        coordinatorEpoch: 9
    )

    @Test("A marker is the batch of 78 bytes that Kafka writes")
    func bytes() {
        let batch = Self.marker.batch(timestamp: Timestamp(1_700_000_000_000))
        #expect(batch.byteCount == 78)
        #expect(batch.header.attributes.rawValue == 0x30)
        #expect(batch.header.baseSequence == -1)
        #expect(batch.header.lastOffsetDelta == 0 && batch.header.recordCount == 1)
        let record = ByteBuffer(hex: "20 00 00 00 08 00000001 0c 000000000009 00")
        #expect(batch.recordBytes == record)
    }

    @Test("A marker reads back", arguments: [TransactionMarker.Decision.abort, .commit])
    func roundTrip(decision: TransactionMarker.Decision) throws {
        var marker = Self.marker
        marker.decision = decision
        let batch = try RecordBatch(parsing: marker.batch(timestamp: Timestamp(1)).bytes)
        #expect(try TransactionMarker(parsing: batch) == marker)
    }

    @Test("Control records of other types are no markers, and data is no control record")
    func others() throws {
        let bytes = Self.marker.batch(timestamp: Timestamp(1)).bytes
        var leaderChange = bytes
        leaderChange.setInteger(Int16(2), at: 61 + 7)
        let other = try RecordBatch(parsing: leaderChange, isChecksumTrusted: true)
        #expect(try TransactionMarker(parsing: other) == nil)
        #expect(throws: RecordsError.malformedControlRecord) {
            try TransactionMarker(parsing: .of("data"))
        }
    }
}
