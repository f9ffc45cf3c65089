import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import FlotillaStorage
import FlotillaSimulation
import Testing

import struct NIOCore.ByteBuffer

@Suite("What was in segments when the log opened")
struct SegmentVerificationTests {
    /// Two segments of ten batches, synced, with a checkpoint at the end, and no entry in memory.
    private func makeFixture(isClean: Bool = true) throws -> LogFixture {
        let fixture = LogFixture(tailByteCount: 0)
        for number in 0..<20 {
            fixture.append {
                $0.data(
                    valueByteCount: 100,
                    timestamp: Timestamp(Int64(number)),
                    flags: number % 10 == 0 ? .firstOfSegment : []
                )
            }
        }
        try fixture.commit()
        if isClean {
            try fixture.checkpoint()
        } else {
            try fixture.write()
            try fixture.sync()
            fixture.releaseJournal()
        }
        return fixture
    }

    private func suffix(_ fixture: LogFixture) -> JournalSuffix {
        JournalSuffix(commitIndex: fixture.log.lastIndex, lastIndex: fixture.log.lastIndex)
    }

    /// Changes a byte behind the head of a batch, where the frame's checksum does not reach.
    private func damage(_ number: Int, of fixture: LogFixture) -> (path: String, position: Int64) {
        let path = fixture.paths(".log")[number / 10]
        let before = fixture.entries[number / 10 * 10..<number]
        let position = before.reduce(0) { $0 + $1.payloadByteCount }
        fixture.disk.flip(path, at: Int64(position) + 100)
        return (path, Int64(position))
    }

    private func isReady(_ log: PartitionLog, from offset: Int64, byteCount: Int) throws -> Bool {
        let read = try log.read(
            from: Offset(offset),
            upTo: log.logEndOffset,
            maxByteCount: byteCount,
            allowOversizedFirst: true
        )
        if case .ready = read { return true }
        return false
    }

    @Test(
        "is compared with its checksums: one batch is refused by name, all around it are served",
        arguments: [0, 4, 9, 10, 13, 19],
        [1, 400, 1 << 20]
    )
    func refused(number: Int, maxByteCount: Int) throws {
        let fixture = try makeFixture()
        let place = damage(number, of: fixture)
        try fixture.reopen(suffix(fixture))
        #expect(fixture.log.damage.isEmpty)
        let lost = Offset(Int64(number))
        let expected = Damage(
            indexes: LogIndex(UInt64(number) + 1)...LogIndex(UInt64(number) + 1),
            offsets: lost..<lost + 1,
            file: place.path,
            position: place.position,
            reason: .payload
        )
        var offset = Offset.zero
        var refused: [Offset] = []
        while offset < fixture.log.logEndOffset {
            do {
                let slice = try fixture.read(from: offset, maxByteCount: maxByteCount)
                #expect(slice.firstOffset == offset && slice.endOffset > offset)
                let served = fixture.entries[Int(offset.rawValue)..<Int(slice.endOffset.rawValue)]
                var bytes = ByteBuffer()
                served.forEach { bytes.writeBytes($0.payload.readableBytesSpan) }
                #expect(slice.joined() == bytes)
                offset = slice.endOffset
            } catch StorageError.damaged(let damage) {
                #expect(damage == expected)
                refused.append(offset)
                offset = offset + 1
            }
        }
        #expect(refused == [lost])
        #expect(fixture.log.damage == [expected])
        #expect(throws: StorageError.damaged(expected)) { try fixture.read(from: lost) }
        #expect(fixture.log.damage == [expected], "damage is told once")
    }

    @Test("is verified once: what was read is read again without a worker, what was not, is not")
    func once() throws {
        let fixture = LogFixture(tailByteCount: 0)
        for _ in 0..<4 { fixture.append { $0.data(valueByteCount: 700 << 10) } }
        try fixture.commit()
        try fixture.checkpoint()
        try fixture.reopen(suffix(fixture))
        #expect(try !isReady(fixture.log, from: 1, byteCount: 1))
        _ = try fixture.read(from: Offset(1), maxByteCount: 1)
        #expect(try isReady(fixture.log, from: 1, byteCount: 1))
        #expect(try !isReady(fixture.log, from: 0, byteCount: 1))
        #expect(try !isReady(fixture.log, from: 3, byteCount: 1))
        _ = try fixture.readAll(from: .zero)
        for offset: Int64 in 0..<4 {
            #expect(try isReady(fixture.log, from: offset, byteCount: 1 << 20))
        }
        fixture.append { $0.data(valueByteCount: 10) }
        try fixture.commit()
        try fixture.write()
        _ = try fixture.read(from: Offset(4))
        #expect(try isReady(fixture.log, from: 0, byteCount: 8 << 20), "a wider view knows it too")
    }

    @Test("is told apart from what this process wrote, which is served without another look")
    func ownBytes() throws {
        let fixture = try makeFixture()
        try fixture.reopen(suffix(fixture))
        for _ in 0..<4 { fixture.append { $0.data(valueByteCount: 700 << 10) } }
        try fixture.commit()
        try fixture.write()
        _ = try fixture.read(from: Offset(20), maxByteCount: 1)
        #expect(try isReady(fixture.log, from: 23, byteCount: 1))
        #expect(try !isReady(fixture.log, from: 19, byteCount: 1))
        #expect(try fixture.readAll(from: .zero) == fixture.expectedBytes(from: .zero))
    }

    @Test("is served up to where a file was cut short, and refused from there", arguments: 0..<10)
    func cutShort(rowCount: Int) throws {
        for ending in [".frames", ".log"] {
            let fixture = try makeFixture()
            let path = try #require(fixture.paths(ending).last)
            let logByteCount = fixture.entries[10..<10 + rowCount].reduce(0) {
                $0 + $1.payloadByteCount
            }
            let left = ending == ".frames" ? 64 + 64 * rowCount : logByteCount
            var content = fixture.disk.contents(path)
            content.moveWriterIndex(to: content.readerIndex + left)
            fixture.disk.put(path, content)
            try fixture.reopen(suffix(fixture))
            for _ in 0..<2 {
                var offset = Offset(8)
                while offset < Offset(Int64(10 + rowCount)) {
                    let slice = try fixture.read(from: offset)
                    #expect(slice.endOffset > offset)
                    offset = slice.endOffset
                }
                #expect(offset == Offset(Int64(10 + rowCount)))
                for lost in offset.rawValue..<20 {
                    #expect(throws: StorageError.self) { try fixture.read(from: Offset(lost)) }
                }
            }
            #expect(!fixture.log.damage.isEmpty)
        }
    }

    @Test("is verified for followers and state machines as well")
    func entries() throws {
        for number in [0, 4, 10, 19] {
            let fixture = try makeFixture(isClean: false)
            _ = damage(number, of: fixture)
            try fixture.reopen(suffix(fixture))
            let index = LogIndex(UInt64(number) + 1)
            var read: [LogIndex] = []
            var next = LogIndex(1)
            while next <= fixture.log.lastIndex {
                do {
                    for entry in try fixture.readEntries(from: next) {
                        #expect(
                            areEqual(entry, fixture.entries[Int(entry.frame.index.rawValue) - 1])
                        )
                        read.append(entry.frame.index)
                        next = entry.frame.index.next
                    }
                } catch StorageError.damaged(let damage) {
                    #expect(damage.indexes == index...index && damage.reason == .payload)
                    #expect(next == index)
                    next = next.next
                }
            }
            #expect(read == fixture.entries.map(\.frame.index).filter { $0 != index })
            #expect(fixture.log.damage.map(\.indexes) == [index...index])
        }
    }

    @Test("is verified before a search by time looks into a batch")
    func search() throws {
        let fixture = try makeFixture()
        _ = damage(14, of: fixture)
        try fixture.reopen(suffix(fixture))
        func candidate(_ timestamp: Int64) throws -> ByteBuffer? {
            try fixture.ready { isAfterLoad in
                try fixture.log.firstBatch(
                    atOrAfter: Timestamp(timestamp),
                    from: .zero,
                    upTo: fixture.log.logEndOffset,
                    afterLoad: isAfterLoad
                )
            }?.bytes
        }
        #expect(try candidate(13) == fixture.entries[13].payload)
        #expect(try candidate(15) == fixture.entries[15].payload)
        #expect(throws: StorageError.self) { try candidate(14) }
        #expect(fixture.log.damage.map(\.offsets) == [Offset(14)..<Offset(15)])
    }

    @Test("is remembered by runs of rows that equal a plain set", arguments: UInt64(0)..<20)
    func runs(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var rows = VerifiedRows(recoveredCount: 60)
        var model = Set<Int>(60..<80)
        while model.count < 80 {
            let first = Int.random(in: 0..<70, using: &random)
            let end = first + Int.random(in: 0..<8, using: &random)
            rows.insert(first..<end)
            model.formUnion(first..<end)
            for row in 0..<80 {
                var expected: Int? = row
                while let end = expected, end < 80, model.contains(end) { expected = end + 1 }
                if expected == row { expected = nil }
                if expected == 80 { expected = .max }
                #expect(rows.end(from: row) == expected)
            }
        }
        #expect(rows.trustedStart == 0)
    }

    @Test("is remembered in bounded memory, whatever order it is read in")
    func bounded() {
        let count = VerifiedRows.maximumRunCount
        var rows = VerifiedRows(recoveredCount: 4 * count)
        for number in 0..<count { rows.insert(2 * number..<2 * number + 1) }
        rows.insert(3 * count..<3 * count + 1)
        #expect(rows.end(from: 2 * count - 2) == 2 * count - 1)
        #expect(rows.end(from: 3 * count) == nil, "there is no room for another run")
        rows.insert(1..<2)
        #expect(rows.end(from: 0) == 3, "a run that grows needs none")
        rows.insert(0..<4 * count)
        #expect(rows.trustedStart == 0)
    }
}
