import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import FlotillaStorage
import FlotillaSimulation
import Testing

import struct NIOCore.ByteBuffer

@Suite("Retention of a log")
struct PartitionLogRetentionTests {
    /// Five segments of four batches; segment n was appended at time 1,000 · (n + 1).
    private func makeFixture() throws -> LogFixture {
        let fixture = LogFixture(tailByteCount: 0)
        for number in 0..<20 {
            fixture.maker.time = Timestamp(1_000 * Int64(number / 4 + 1))
            fixture.append {
                $0.data(valueByteCount: 100, flags: number % 4 == 0 ? .firstOfSegment : [])
            }
        }
        try fixture.commit()
        try fixture.write()
        try fixture.sync()
        return fixture
    }

    @Test("by time, a segment goes when its last append is too old, and never the last segment")
    func byTime() throws {
        let log = try makeFixture().log
        let policy = RetentionPolicy(millis: 500)
        func start(_ now: Int64) -> Int64? {
            log.retentionStart(policy: policy, now: Timestamp(now), notPast: log.logEndOffset)?
                .rawValue
        }
        #expect(start(1_500) == nil)
        #expect(start(1_501) == 4)
        #expect(start(3_501) == 12)
        #expect(start(99_000) == 16)
    }

    @Test("by size, segments go while what is left is enough")
    func bySize() throws {
        let fixture = try makeFixture()
        let segment = fixture.log.segmentByteCount / 5
        func start(_ byteCount: Int64) -> Int64? {
            let policy = RetentionPolicy(byteCount: byteCount)
            return fixture.log.retentionStart(
                policy: policy,
                now: .none,
                notPast: fixture.log.logEndOffset
            )?.rawValue
        }
        #expect(start(5 * segment) == nil)
        #expect(start(4 * segment + 1) == nil)
        #expect(start(4 * segment) == 4)
        #expect(start(2 * segment) == 12)
        #expect(start(0) == 16)
        #expect(
            fixture.log.retentionStart(
                policy: RetentionPolicy(),
                now: Timestamp(.max),
                notPast: fixture.log.logEndOffset
            ) == nil
        )
    }

    @Test("does not pass the limit that readers and state machines set")
    func limit() throws {
        let log = try makeFixture().log
        let policy = RetentionPolicy(millis: 1)
        #expect(
            log.retentionStart(policy: policy, now: Timestamp(99_000), notPast: Offset(11))
                == Offset(8)
        )
        #expect(
            log.retentionStart(policy: policy, now: Timestamp(99_000), notPast: Offset(3)) == nil
        )
    }

    @Test(
        "below the start nothing is read, files go, and a reader that holds a segment goes on reading"
    )
    func removal() throws {
        let fixture = try makeFixture()
        let held = try fixture.read(from: .zero)
        #expect(held.endOffset == Offset(4))
        var expected = ByteBuffer()
        for entry in fixture.entries.prefix(4) {
            expected.writeBytes(entry.payload.readableBytesSpan)
        }
        try fixture.moveStart(to: Offset(9))
        #expect(
            throws: StorageError.offsetOutOfRange(
                Offset(8),
                logStartOffset: Offset(9),
                logEndOffset: Offset(20)
            )
        ) {
            try fixture.read(from: Offset(8))
        }
        #expect(fixture.log.nextRemoval(keepingFrom: LogIndex(5)).map { _ = $0.perform() } != nil)
        #expect(fixture.log.firstIndex == LogIndex(5))
        #expect(fixture.log.nextRemoval(keepingFrom: LogIndex(100)).map { _ = $0.perform() } != nil)
        #expect(fixture.log.nextRemoval(keepingFrom: LogIndex(100)) == nil)
        #expect(fixture.log.firstIndex == LogIndex(9))
        #expect(fixture.paths(".frames").count == 3)
        #expect(fixture.paths(".log").count == 3)
        #expect(held.joined() == expected)
        #expect(try fixture.readAll(from: Offset(9)) == fixture.expectedBytes(from: Offset(9)))
        #expect(throws: StorageError.self) { try fixture.readEntries(from: LogIndex(8)) }
        try fixture.checkpoint()
        try fixture.reopen(JournalSuffix())
        #expect(fixture.log.logStartOffset == Offset(9))
        #expect(fixture.log.firstIndex == LogIndex(9))
        #expect(fixture.log.damage.isEmpty)
    }

    @Test("a removal that a crash cut short anywhere is finished at the next start")
    func interruptedRemoval() throws {
        let fixture = try makeFixture()
        try fixture.moveStart(to: Offset(9))
        try fixture.checkpoint()
        for stop in 0..<12 {
            let disk = fixture.disk.copy()
            let interrupted = LogFixture(disk: disk)
            try interrupted.reopen(JournalSuffix())
            let removal = try #require(interrupted.log.nextRemoval(keepingFrom: LogIndex(100)))
            var stepCount = 0
            disk.fault = { _ in
                stepCount += 1
                return stepCount > stop ? .failed(operation: "power", path: "", errno: 5) : nil
            }
            _ = removal.perform()
            disk.fault = nil
            disk.crash(stop % 2 == 0 ? .dropUnsynced : .keepUnsynced)
            let next = LogFixture(disk: disk, tailByteCount: 0)
            try next.reopen(JournalSuffix())
            #expect(next.log.damage.isEmpty)
            #expect(next.log.logEndOffset == Offset(20))
            #expect(next.log.firstIndex <= LogIndex(9))
            _ = next.log.nextRemoval(keepingFrom: LogIndex(100)).map { $0.perform() }
            #expect(next.log.firstIndex == LogIndex(9))
            #expect(next.paths("").count == 3 * next.log.segmentCount + next.log.segmentCount + 1)
        }
    }

    @Test("what is said of damage goes with the records below the start, and stays for the others")
    func damageBelowStart() throws {
        let fixture = try makeFixture()
        let frames = fixture.paths(".frames")
        // The last row of the first two segments, the head of the second, all of a `.log`.
        fixture.disk.flip(frames[0], at: 64 + 3 * 64)
        fixture.disk.flip(frames[1], at: 64 + 3 * 64)
        fixture.disk.flip(frames[1], at: 20)
        try fixture.disk.remove(fixture.paths(".control")[0])
        try fixture.reopen(fixture.suffix)
        #expect(fixture.log.damage.count == 4)
        #expect(throws: StorageError.self) { try fixture.read(from: Offset(3)) }
        try fixture.moveStart(to: Offset(4))
        let left = fixture.log.damage
        #expect(left.count == 2)
        #expect(left.allSatisfy { $0.file == frames[1] })
        #expect(throws: StorageError.self) { try fixture.read(from: Offset(7)) }
        #expect(fixture.log.damage.contains { $0.offsets == Offset(7)..<Offset(8) })
        try fixture.moveStart(to: Offset(7))
        #expect(!fixture.log.damage.isEmpty, "the start lies on the damaged batch")
        try fixture.moveStart(to: Offset(8))
        #expect(fixture.log.damage.isEmpty)
    }

    @Test(
        "a leader rolls by size, by age, by number, and when all has outlived retention; never an empty segment"
    )
    func rolling() throws {
        let fixture = LogFixture()
        let log = fixture.log
        log.configuration = LogConfiguration(segmentByteCount: 1_000, segmentMillis: 5_000)
        #expect(!log.shouldRoll(now: Timestamp(1_000_000), appending: 2_000))
        fixture.append { $0.control(.termStart) }
        #expect(!log.shouldRoll(now: Timestamp(1_000_000)))
        fixture.append { $0.data(valueByteCount: 500) }
        let size = fixture.entries[1].payloadByteCount
        #expect(!log.shouldRoll(now: Timestamp(1_000), appending: 1_000 - size))
        #expect(log.shouldRoll(now: Timestamp(1_000), appending: 1_001 - size))
        #expect(!log.shouldRoll(now: Timestamp(5_999)))
        #expect(log.shouldRoll(now: Timestamp(6_000)))
        log.configuration.retention = RetentionPolicy(millis: 100)
        #expect(!log.shouldRoll(now: Timestamp(1_100)))
        #expect(log.shouldRoll(now: Timestamp(1_101)))
        fixture.append { $0.control(.roll, flags: .firstOfSegment) }
        #expect(!log.shouldRoll(now: Timestamp(1_000_000)))
    }

    @Test("after truncation the leader counts what is left in the open segment")
    func rollingAfterTruncation() throws {
        let fixture = LogFixture()
        fixture.log.configuration = LogConfiguration(segmentByteCount: 1_000)
        fixture.append { $0.data(valueByteCount: 800) }
        try fixture.commit()
        fixture.append { $0.data(valueByteCount: 10, flags: .firstOfSegment) }
        #expect(!fixture.log.shouldRoll(now: Timestamp(1_000), appending: 500))
        fixture.truncate(from: LogIndex(2))
        #expect(fixture.log.shouldRoll(now: Timestamp(1_000), appending: 500))
    }
}
