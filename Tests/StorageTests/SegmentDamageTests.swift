import FlotillaModel
import FlotillaRecords
import FlotillaStorage
import FlotillaSimulation
import Testing

import struct NIOCore.ByteBuffer

@Suite("One changed byte in a segment")
struct SegmentDamageTests {
    /// Three segments with a few entries of each kind, synced, with a checkpoint at the end.
    private func makeFixture() throws -> LogFixture {
        let fixture = LogFixture(tailByteCount: 0)
        for number in 0..<9 {
            let flags: FrameFlags = number % 3 == 0 ? .firstOfSegment : []
            if number == 4 {
                fixture.append {
                    $0.control(.termStart, payload: ByteBuffer(string: "hello"), flags: flags)
                }
            } else {
                fixture.append {
                    $0.data(valueByteCount: 8, timestamp: Timestamp(Int64(number)), flags: flags)
                }
            }
        }
        try fixture.commit()
        try fixture.checkpoint()
        return fixture
    }

    private func suffix(_ fixture: LogFixture) -> JournalSuffix {
        JournalSuffix(commitIndex: fixture.log.lastIndex, lastIndex: fixture.log.lastIndex)
    }

    /// Reads batch by batch; the ones that cannot be read, by base offset.
    private func unreadable(_ fixture: LogFixture, _ entries: [LogEntry]) throws -> [Offset] {
        var lost: [Offset] = []
        for entry in entries where entry.frame.kind == .data {
            do {
                let slice = try fixture.read(
                    from: entry.frame.baseOffset,
                    upTo: entry.frame.endOffset
                )
                guard !slice.isEmpty else {
                    lost.append(entry.frame.baseOffset)
                    continue
                }
                let batch = try RecordBatch(parsing: slice.joined())
                #expect(
                    batch.bytes == entry.payload,
                    "what is answered without an error is what was written"
                )
            } catch StorageError.damaged {
                lost.append(entry.frame.baseOffset)
            }
        }
        return lost
    }

    @Test(
        "is found by verification in every file, never changes an answer, and costs one batch at most"
    )
    func everyByte() throws {
        let whole = try makeFixture()
        for path in whole.paths("") {
            for position in 0..<whole.disk.contents(path).readableBytes {
                let disk = whole.disk.copy()
                disk.flip(path, at: Int64(position), mask: 1 << UInt8(position % 8))
                let report = try LogVerification(
                    group: LogFixture.group,
                    directory: "data",
                    disk: disk
                ).perform()
                #expect(!report.damage.isEmpty, "\(path) byte \(position)")
                let fixture = LogFixture(disk: disk, tailByteCount: 0)
                try fixture.reopen(suffix(whole))
                #expect(fixture.log.lastIndex == whole.log.lastIndex)
                #expect(fixture.log.logEndOffset == whole.log.logEndOffset)
                #expect(fixture.log.lastFrameChecksum == whole.log.lastFrameChecksum)
                let lost = try unreadable(fixture, whole.entries)
                let isContent =
                    path.hasSuffix(".log") || path.hasSuffix(".frames") && position >= 64
                #expect(lost.count <= (isContent ? 1 : 0), "\(path) byte \(position): \(lost)")
                if path.hasSuffix(".log") {
                    #expect(lost.count == 1, "every byte of a batch counts")
                    let told = fixture.log.damage.compactMap(\.offsets)
                    #expect(told.map(\.lowerBound) == lost, "\(path) byte \(position)")
                }
                #expect(
                    disk.contents(path).readableBytes == whole.disk.contents(path).readableBytes
                )
            }
        }
    }

    @Test("with no checkpoint behind it, is found when the log opens, with its place and offsets")
    func foundAtOpening() throws {
        let fixture = LogFixture(tailByteCount: 0)
        for _ in 0..<8 { fixture.append { $0.data(recordCount: 2, valueByteCount: 8) } }
        try fixture.commit()
        try fixture.write()
        try fixture.sync()
        fixture.releaseJournal(upTo: LogIndex(6))
        let frames = try #require(fixture.paths(".frames").first)
        for position in 64 + 3 * 64..<64 + 5 * 64 {
            let disk = fixture.disk.copy()
            disk.flip(frames, at: Int64(position))
            let row = UInt64((position - 64) / 64)
            let next = LogFixture(disk: disk, tailByteCount: 0)
            try next.reopen(fixture.suffix)
            let found = try #require(next.log.damage.first)
            #expect(next.log.damage.count == 1)
            #expect(found.indexes == LogIndex(row + 1)...LogIndex(row + 1))
            #expect(found.offsets == Offset(Int64(row) * 2)..<Offset(Int64(row) * 2 + 2))
            #expect(found.file == frames && found.position == Int64(64 + row * 64))
            #expect(next.log.lastIndex == LogIndex(8))
            next.log.commit(upTo: LogIndex(8))
            try next.write()
            let lost = try unreadable(next, fixture.entries)
            #expect(lost == [Offset(Int64(row) * 2)])
            let log = fixture.paths(".log")[0]
            #expect(
                disk.contents(log) == fixture.disk.contents(log),
                "the journal's part went to its old place"
            )
        }
    }

    @Test("in the part that the journal still has is healed by it")
    func healed() throws {
        let fixture = LogFixture(tailByteCount: 0)
        for _ in 0..<6 { fixture.append { $0.data(valueByteCount: 8) } }
        try fixture.commit()
        try fixture.write()
        try fixture.sync()
        for path in fixture.paths("") {
            for position in 0..<fixture.disk.contents(path).readableBytes
            where path.hasSuffix(".log") || position >= 64 {
                let disk = fixture.disk.copy()
                disk.flip(path, at: Int64(position))
                let next = LogFixture(disk: disk, tailByteCount: 0)
                try next.reopen(fixture.suffix)
                #expect(next.log.damage.isEmpty)
                next.log.commit(upTo: LogIndex(6))
                try next.write()
                #expect(disk.contents(path) == fixture.disk.contents(path))
            }
        }
    }

    @Test("a lost file is told, and the rest is served")
    func lostFiles() throws {
        let whole = try makeFixture()
        for path in whole.paths("") {
            let disk = whole.disk.copy()
            try disk.remove(path)
            let report = try LogVerification(group: LogFixture.group, directory: "data", disk: disk)
                .perform()
            let fixture = LogFixture(disk: disk, tailByteCount: 0)
            try fixture.reopen(suffix(whole))
            let lost = try unreadable(fixture, whole.entries)
            if path.hasSuffix(".state") {
                #expect(lost.isEmpty)
            } else {
                #expect(!fixture.log.damage.isEmpty && !report.damage.isEmpty, "\(path)")
                #expect(lost.count <= 3, "\(path): \(lost)")
            }
            #expect(fixture.log.lastIndex == whole.log.lastIndex)
        }
    }
}
