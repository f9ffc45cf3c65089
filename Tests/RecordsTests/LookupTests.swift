import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import Testing

import struct NIOCore.ByteBuffer

@Suite("Lookup by time")
struct LookupTests {
    static let limit = 1 << 20

    static func stored(_ records: [Record], codec: CompressionCodec, at baseOffset: Int64) throws
        -> RecordBatch
    {
        let entry = LogEntry.data(
            .of(records, codec: codec),
            index: LogIndex(1),
            term: Term(1),
            baseOffset: Offset(baseOffset),
            appendTime: Timestamp(0),
            previousChecksum: 0
        )
        return try RecordBatch(parsing: entry.payload)
    }

    @Test(
        "The first record at or after a time is what a plain search finds",
        arguments: CompressionCodec.allCases
    )
    func againstModel(codec: CompressionCodec) throws {
        for seed in 0..<20 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            let records = (0..<20).map { random.record(offset: Int64($0)) }
            let batch = try Self.stored(records, codec: codec, at: 100)
            let times = records.map(\.timestamp.rawValue)
            for probe in times.flatMap({ [$0 - 1, $0, $0 + 1] }) + [0, .max] {
                let start = Offset(Int64.random(in: 95...125, using: &random))
                let model = records.first { record in
                    record.timestamp.rawValue >= probe && record.offset + 100 >= start
                }
                let found = try batch.firstPosition(
                    atOrAfter: Timestamp(probe),
                    from: start,
                    using: Decompressor(),
                    limit: Self.limit
                )
                #expect(found?.offset == model.map { $0.offset + 100 })
                #expect(found?.timestamp == model?.timestamp)
            }
            let newest = records.first { $0.timestamp == batch.header.maxTimestamp }
            let position = try batch.positionOfMaxTimestamp(
                using: Decompressor(),
                limit: Self.limit
            )
            #expect(position?.offset == newest.map { $0.offset + 100 })
        }
    }

    @Test("With log append time the batch need not be opened")
    func logAppendTime() throws {
        var random = SeededRandom(seed: 3)
        let records = (0..<5).map { random.record(offset: $0) }
        let batch = try Self.stored(records, codec: .zstd, at: 7).rewritten { header in
            header.attributes.isLogAppendTime = true
            header.maxTimestamp = Timestamp(50)
        }
        func find(_ time: Int64, from start: Int64 = 0) throws -> RecordPosition? {
            try batch.firstPosition(
                atOrAfter: Timestamp(time),
                from: Offset(start),
                using: Decompressor(),
                limit: start > 7 ? Self.limit : 0
            )
        }
        #expect(try find(50) == RecordPosition(offset: Offset(7), timestamp: Timestamp(50)))
        #expect(try find(51) == nil)
        #expect(
            try find(50, from: 9) == RecordPosition(offset: Offset(9), timestamp: Timestamp(50))
        )
    }

    @Test("A batch that unfolds too far is not opened")
    func bounded() throws {
        let batch = try Self.stored(
            RecordBatch.of(String(repeating: "a", count: 100_000)).allRecords(),
            codec: .lz4,
            at: 0
        )
        #expect(throws: RecordsError.decompressedTooLarge(limit: 1000)) {
            try batch.firstPosition(atOrAfter: Timestamp(0), using: Decompressor(), limit: 1000)
        }
    }
}
