import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import FlotillaStorage
import Testing

import struct NIOCore.ByteBuffer

@Suite("A log searched by time")
struct PartitionLogTimeTests {
    /// Batches whose times go up and down, in segments and in memory, with entries of other kinds
    /// between them.
    private func makeFixture(seed: UInt64) throws -> LogFixture {
        var random = SeededRandom(seed: seed)
        let fixture = LogFixture(tailByteCount: Bool.random(using: &random) ? 0 : 1 << 20)
        for number in 0..<60 {
            if number % 7 == 3 { fixture.append { $0.control(.termStart) } }
            let time = Timestamp(Int64.random(in: 100..<200, using: &random) + Int64(number))
            let count = Int.random(in: 1...4, using: &random)
            let flags: FrameFlags = number % 13 == 12 ? .firstOfSegment : []
            fixture.append { $0.data(recordCount: count, timestamp: time, flags: flags) }
        }
        try fixture.commit(upTo: LogIndex(UInt64.random(in: 1...60, using: &random)))
        try fixture.write()
        try fixture.commit()
        return fixture
    }

    private func maximumTimestamp(of entry: LogEntry) -> Timestamp {
        guard let header = try? RecordBatchHeader(parsing: entry.payload.readableBytesSpan) else {
            return .none
        }
        return header.maxTimestamp
    }

    /// The batches that a search may find, in order.
    private func batches(_ fixture: LogFixture, _ range: Range<Offset>) -> [LogEntry] {
        fixture.entries.filter { entry in
            entry.frame.kind == .data && entry.frame.endOffset > range.lowerBound
                && entry.frame.baseOffset < range.upperBound
        }
    }

    @Test(
        "finds the first batch at or after a time, as a walk over all batches does",
        arguments: UInt64(0)..<20
    )
    func firstBatch(seed: UInt64) throws {
        let fixture = try makeFixture(seed: seed)
        var random = SeededRandom(seed: seed + 1_000)
        let end = fixture.log.logEndOffset.rawValue
        for _ in 0..<100 {
            let lower = Offset(Int64.random(in: 0...end, using: &random))
            let upper = Offset(Int64.random(in: lower.rawValue...end, using: &random))
            let time = Timestamp(Int64.random(in: 90..<280, using: &random))
            let found = try fixture.ready { isAfterLoad in
                try fixture.log.firstBatch(
                    atOrAfter: time,
                    from: lower,
                    upTo: upper,
                    afterLoad: isAfterLoad
                )
            }
            let expected = batches(fixture, lower..<upper).first {
                maximumTimestamp(of: $0) >= time
            }
            #expect(found?.baseOffset == expected?.frame.baseOffset)
            #expect(found?.endOffset == expected?.frame.endOffset)
            #expect(found?.term == expected?.frame.term)
            #expect(found?.bytes == expected?.payload)
        }
    }

    @Test(
        "finds the time of the first batch from an offset on, as a walk over all batches does",
        arguments: UInt64(0)..<20
    )
    func firstBatchTime(seed: UInt64) throws {
        let fixture = try makeFixture(seed: seed)
        var random = SeededRandom(seed: seed + 3_000)
        let end = fixture.log.logEndOffset.rawValue
        for _ in 0..<100 {
            let lower = Offset(Int64.random(in: 0...end, using: &random))
            let upper = Offset(Int64.random(in: lower.rawValue...end, using: &random))
            let found = try fixture.ready { isAfterLoad in
                try fixture.log.firstBatchTime(from: lower, upTo: upper, afterLoad: isAfterLoad)
            }
            let expected = batches(fixture, lower..<upper).first.map(maximumTimestamp)
            #expect(found == expected)
        }
    }

    @Test(
        "finds the batch with the largest time, as a walk over all batches does",
        arguments: UInt64(0)..<20
    )
    func maximum(seed: UInt64) throws {
        let fixture = try makeFixture(seed: seed)
        var random = SeededRandom(seed: seed + 2_000)
        let end = fixture.log.logEndOffset.rawValue
        for _ in 0..<30 {
            let lower = Offset(Int64.random(in: 0...end, using: &random))
            let upper = Offset(Int64.random(in: lower.rawValue...end, using: &random))
            let found = try fixture.ready { isAfterLoad in
                try fixture.log.maximumTimestampBatch(
                    from: lower,
                    upTo: upper,
                    afterLoad: isAfterLoad
                )
            }
            let candidates = batches(fixture, lower..<upper)
            let maximum = candidates.map(maximumTimestamp).max()
            let expected = candidates.first { maximumTimestamp(of: $0) == maximum }
            #expect(found?.baseOffset == expected?.frame.baseOffset)
            #expect(found?.bytes == expected?.payload)
        }
    }

    @Test("an empty log has no batch at any time")
    func empty() throws {
        let fixture = LogFixture()
        #expect(
            try fixture.ready { _ in
                try fixture.log.firstBatch(atOrAfter: .none, from: .zero, upTo: .zero)
            } == nil
        )
        #expect(
            try fixture.ready { _ in try fixture.log.maximumTimestampBatch(from: .zero, upTo: .zero)
            } == nil
        )
    }
}
