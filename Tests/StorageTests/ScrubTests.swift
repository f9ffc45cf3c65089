import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import FlotillaStorage
import FlotillaSimulation
import Testing

import struct NIOCore.ByteBuffer

@Suite("A scrub")
struct ScrubTests {
    /// Walks to the end; what was found.
    static func scrub(_ log: PartitionLog, maxByteCount: Int = 1 << 20) throws -> [Damage] {
        var walk = log.beginScrub()
        var found: [Damage] = []
        while let step = log.nextScrubStep(&walk, maxByteCount: maxByteCount) {
            #expect(log.isBusy && log.nextScrubStep(&walk, maxByteCount: 1) == nil)
            found += try log.finish(step.perform(), &walk)
        }
        #expect(walk.isFinished && walk.progress == 1)
        #expect(walk.damageCount == found.count)
        return found
    }

    @Test(
        "finds nothing in a sound log, in steps of any size, and reads every byte once",
        arguments: [1, 100, 700, 1 << 20]
    )
    func sound(maxByteCount: Int) throws {
        let fixture = try ShippingTests.makeLeader()
        try fixture.checkpoint()
        var walk = fixture.log.beginScrub()
        var stepCount = 0
        var last = 0.0
        while let step = fixture.log.nextScrubStep(&walk, maxByteCount: maxByteCount) {
            let result = step.perform()
            #expect(result.byteCount > 0)
            #expect(result.byteCount < maxByteCount + 700, "one entry more at most, and a state")
            #expect(try fixture.log.finish(result, &walk).isEmpty)
            #expect(walk.progress > last)
            last = walk.progress
            stepCount += 1
        }
        #expect(walk.isFinished && fixture.log.damage.isEmpty)
        #expect(stepCount == (maxByteCount == 1 ? 20 : maxByteCount == 1 << 20 ? 4 : stepCount))
        let content = fixture.paths("").filter { !$0.hasSuffix(".state") }.reduce(0) {
            $0 + fixture.disk.contents($1).readableBytes
        }
        #expect(walk.byteCount >= content)
    }

    @Test("finds every changed byte of every file, though the rows were verified before")
    func everyByte() throws {
        let fixture = try ShippingTests.makeLeader()
        try fixture.checkpoint()
        _ = try fixture.readAll(from: .zero)
        for path in fixture.paths("") {
            for position in 0..<fixture.disk.contents(path).readableBytes {
                let disk = fixture.disk.copy()
                let next = LogFixture(disk: disk, tailByteCount: 0)
                try next.reopen(
                    JournalSuffix(
                        commitIndex: fixture.log.lastIndex,
                        lastIndex: fixture.log.lastIndex
                    )
                )
                if position % 16 == 0 { _ = try next.readAll(from: .zero) }
                disk.flip(path, at: Int64(position), mask: 1 << UInt8(position % 8))
                let found = try Self.scrub(next.log, maxByteCount: position % 2 == 0 ? 1 : 5_000)
                #expect(found.count == 1, "\(path) byte \(position): \(found)")
                #expect(next.log.damage == found)
                #expect(try Self.scrub(next.log).isEmpty, "what is known is not new")
                if let lost = found.first?.offsets, !lost.isEmpty {
                    #expect(throws: StorageError.self) { try next.read(from: lost.lowerBound) }
                } else if found.first?.indexes == nil {
                    #expect(try next.readAll(from: .zero) == fixture.expectedBytes(from: .zero))
                }
            }
        }
    }

    @Test("tells the place and the offsets of what it found")
    func places() throws {
        let fixture = try ShippingTests.makeLeader()
        let frames = try #require(fixture.paths(".frames").dropFirst().first)
        let log = try #require(fixture.paths(".log").dropFirst().first)
        fixture.disk.flip(frames, at: 64 + 64 + 50)
        fixture.disk.flip(frames, at: 64 + 64 * 2 + 50)
        fixture.disk.flip(log, at: Int64(fixture.disk.contents(log).readableBytes) - 1)
        let found = try Self.scrub(fixture.log)
        #expect(found.map(\.reason) == [.row, .payload])
        #expect(
            found.map(\.indexes) == [LogIndex(7)...LogIndex(8), LogIndex(10)...LogIndex(10)]
        )
        let last = fixture.entries[9].frame
        #expect(found[1].offsets == last.baseOffset..<last.endOffset)
        #expect(found[1].file == log)
        #expect(found[0].file == frames && found[0].position == 128)
    }

    @Test("tells of files that are gone, and goes on")
    func goneFiles() throws {
        let whole = try ShippingTests.makeLeader()
        for path in whole.paths("") where !path.hasSuffix(".state") {
            let disk = whole.disk.copy()
            let fixture = LogFixture(disk: disk, tailByteCount: 0)
            try fixture.reopen(JournalSuffix(lastIndex: whole.log.lastIndex))
            try disk.remove(path)
            let found = try Self.scrub(fixture.log)
            #expect(found.count == 1 && found[0].reason == .missing && found[0].file == path)
            let first = try #require(found.first?.indexes?.lowerBound.rawValue)
            #expect(found[0].indexes == LogIndex(first)...LogIndex(first + 4))
        }
    }

    @Test("goes on where retention left the log, and looks only at what is durable")
    func moving() throws {
        let fixture = try ShippingTests.makeLeader()
        var walk = fixture.log.beginScrub()
        let step = try #require(fixture.log.nextScrubStep(&walk, maxByteCount: 1))
        _ = try fixture.log.finish(step.perform(), &walk)
        let old = try #require(fixture.log.nextScrubStep(&walk, maxByteCount: 1))
        try fixture.moveStart(to: fixture.entries[15].frame.baseOffset)
        try fixture.write()
        try fixture.sync()
        for _ in 0..<3 { fixture.append { $0.data() } }
        try fixture.commit()
        try fixture.write()
        try #require(fixture.log.nextRemoval(keepingFrom: fixture.log.lastIndex)).perform()
            .get()
        #expect(try fixture.log.finish(old.perform(), &walk).isEmpty, "removed is not damaged")
        while let step = fixture.log.nextScrubStep(&walk, maxByteCount: 1) {
            #expect(try fixture.log.finish(step.perform(), &walk).isEmpty)
        }
        #expect(walk.isFinished && walk.lastIndex == LogIndex(20))
        #expect(try Self.scrub(fixture.log).isEmpty)
        #expect(fixture.log.damage.isEmpty)
    }

    @Test("that cannot read says so and may go on later")
    func failing() throws {
        let fixture = try ShippingTests.makeLeader()
        var walk = fixture.log.beginScrub()
        fixture.disk.fault = { operation in
            if case .read = operation {
                .failed(operation: "read", path: "", errno: 5)
            } else {
                nil
            }
        }
        let step = try #require(fixture.log.nextScrubStep(&walk, maxByteCount: 1))
        let result = step.perform()
        #expect(throws: StorageError.self) { try fixture.log.finish(result, &walk) }
        #expect(walk.progress == 0 && fixture.log.damage.isEmpty)
        fixture.disk.fault = nil
        while let step = fixture.log.nextScrubStep(&walk, maxByteCount: 500) {
            #expect(try fixture.log.finish(step.perform(), &walk).isEmpty)
        }
        #expect(walk.isFinished)
    }
}
