import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import Testing

import struct NIOCore.ByteBuffer

/// The fuzzers' entry points over seeded changes of good input; a trap fails the run.
@Suite("Hostile bytes")
struct HostileBytesTests {
    @Test("Damaged batches end in errors", arguments: 0..<40 as Range<UInt64>)
    func batches(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let codec = CompressionCodec.allCases[Int(seed % 5)]
        let original = RecordBatch.of((0..<6).map { random.record(offset: $0) }, codec: codec).bytes
        for _ in 0..<25 {
            let bytes = Self.mutated(original, using: &random)
            fuzzBatchParser(bytes.readableBytesSpan)
        }
    }

    @Test("Damaged entries end in errors", arguments: 0..<20 as Range<UInt64>)
    func entries(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let first = LogEntryTests.data(.of((0..<3).map { random.record(offset: $0) }))
        let second = LogEntryTests.data(
            .of("second"),
            previousChecksum: first.frame.checksum,
            index: 6
        )
        let original = ByteBuffer(bytes: first.contiguous.array + second.contiguous.array)
        for _ in 0..<50 {
            let bytes = Self.mutated(original, using: &random)
            fuzzFrameReader(bytes.readableBytesSpan)
        }
    }

    @Test("Real clients' batches, cut at every byte, end in errors", arguments: GoldenBatch.all)
    func cutGolden(golden: GoldenBatch) {
        let bytes = golden.bytes.array
        for count in 0...bytes.count {
            let cut = ByteBuffer(bytes: bytes[..<count])
            fuzzBatchParser(cut.readableBytesSpan)
            fuzzFrameReader(cut.readableBytesSpan)
        }
    }

    @Test("Record lengths that lie are refused, whatever they claim")
    func hostileLengths() throws {
        // Each is the records part of a batch of one record; the CRC is right, the lengths are not.
        let table = [
            "",  // no record
            "00",  // a record of no bytes
            "01",  // length -1
            "ffffffff0f",  // length -2147483648
            "feffffff0f",  // length 2147483647
            "ffffffffffffffffff01",  // a varint of ten bytes
            "8080808080808080808080",  // a varint without an end
            "0e 00 00 00 01 01 00 00",  // a byte after the last header
            "0a 00 00 00 01 01",  // longer than the batch
            "0c 00 00 00 feffffff0f 01 00",  // a key of 2147483647 bytes
            "0c 00 00 00 03 01 00",  // a key of -2 bytes
            "0c 00 00 00 01 03 00",  // a value of -2 bytes
            "0c 00 00 00 01 01 01",  // -1 headers
            "14 00 00 00 01 01 feffffff0f",  // 2147483647 headers
            "10 00 00 00 01 01 02 01 01",  // a header without a name
            "14 00 ffffffffffffffffff7f 00 01 01 00",  // a time beyond 64 bits
            "14 00 00 8080808010 01 01 00",  // an offset beyond 32 bits
        ]
        for hex in table {
            let records = ByteBuffer(hex: hex)
            let batch = try Self.batch(records: records)
            #expect(throws: BatchRefusal.self, "\(hex)") {
                try BatchRules().check(batch.bytes, now: BatchRulesTests.now, using: Decompressor())
            }
            #expect(throws: RecordsError.self, "\(hex)") {
                try batch.allRecords()
            }
        }
        // And the same record without a lie.
        let sound = try Self.batch(records: ByteBuffer(hex: "0c 00 00 00 01 01 00"))
        #expect(try sound.allRecords().count == 1)
    }

    private static func batch(records: ByteBuffer) throws -> RecordBatch {
        var bytes = ByteBuffer(bytes: RecordBatch.of("template").bytes.array[..<61])
        bytes.writeBytes(records.readableBytesView)
        bytes.setInteger(Int32(bytes.readableBytes - 12), at: 8)
        return try RecordBatch(parsing: bytes, isChecksumTrusted: true).rewritten { _ in }
    }

    private static func mutated(_ original: ByteBuffer, using random: inout SeededRandom)
        -> ByteBuffer
    {
        var bytes = original.array
        let interesting: [UInt8] = [0x00, 0x01, 0x7F, 0x80, 0xFF]
        for _ in 0..<Int.random(in: 1...6, using: &random) where !bytes.isEmpty {
            let position = Int.random(in: 0..<bytes.count, using: &random)
            switch Int.random(in: 0..<5, using: &random) {
            case 0: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 1: bytes[position] = UInt8.random(in: .min ... .max, using: &random)
            case 2:
                bytes[position] = interesting[Int.random(in: 0..<interesting.count, using: &random)]
            case 3: bytes.removeSubrange(position..<min(bytes.count, position + 3))
            default: bytes.insert(contentsOf: bytes.prefix(position).suffix(4), at: position)
            }
        }
        return ByteBuffer(bytes: bytes)
    }
}
