import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaStorage
import FlotillaSimulation
import Testing

import struct NIOCore.ByteBuffer

@Suite("The repair of a damaged range")
struct RepairTests {
    /// Opens a copy of a log's disk after a clean stop.
    private func reopened(_ whole: LogFixture, on disk: MemoryDisk) throws -> LogFixture {
        let fixture = LogFixture(disk: disk, tailByteCount: 0)
        try fixture.reopen(
            JournalSuffix(commitIndex: whole.log.lastIndex, lastIndex: whole.log.lastIndex)
        )
        try fixture.commit()
        return fixture
    }

    private func makeWhole() throws -> LogFixture {
        let fixture = try ShippingTests.makeLeader()
        try fixture.checkpoint()
        return fixture
    }

    /// Heals as a replica does: from what is left, then with a peer's entries; how many it took.
    @discardableResult
    private func heal(_ fixture: LogFixture, from twin: LogFixture) throws -> Int {
        var peerCount = 0
        for damage in fixture.log.damage where damage.reason != .state {
            guard let local = fixture.log.nextRepair(of: damage) else { continue }
            #expect(fixture.log.isBusy && fixture.log.nextRepair(of: damage) == nil)
            let report = try fixture.log.finish(local.perform())
            for indexes in report.wanted {
                let entries = twin.entries.filter { indexes.contains($0.frame.index) }
                peerCount += entries.count
                let repair = try #require(fixture.log.nextRepair(of: damage, with: entries))
                let report = try fixture.log.finish(repair.perform())
                #expect(report.healedCount >= entries.count)
            }
        }
        for damage in fixture.log.damage where damage.reason == .state {
            try healState(damage, of: fixture, from: twin)
        }
        return peerCount
    }

    private func healState(_ damage: Damage, of fixture: LogFixture, from twin: LogFixture) throws {
        if let repair = fixture.log.nextStateRepair() {
            try fixture.log.finish(repair.perform())
        } else if let repair = fixture.log.stateRepair(
            of: damage,
            from: twin.disk.contents(damage.file)
        ) {
            try fixture.log.finish(repair.perform())
        } else {
            // A checkpoint: another one takes its place.
            fixture.append { $0.data() }
            try fixture.commit()
            try fixture.checkpoint()
        }
    }

    private func expectSame(_ fixture: LogFixture, _ twin: LogFixture, _ note: String) throws {
        #expect(fixture.log.damage.isEmpty, "\(note): \(fixture.log.damage)")
        for path in twin.paths("") where fixture.log.lastIndex == twin.log.lastIndex {
            #expect(fixture.disk.contents(path) == twin.disk.contents(path), "\(note): \(path)")
        }
        #expect(!fixture.disk.paths.contains { $0.hasSuffix(".new") })
        #expect(try ScrubTests.scrub(fixture.log).isEmpty, "\(note)")
        let end = twin.log.logEndOffset
        var bytes = ByteBuffer()
        var offset = Offset.zero
        while offset < end {
            let slice = try fixture.read(from: offset, upTo: end)
            var joined = slice.joined()
            bytes.writeBuffer(&joined)
            offset = slice.endOffset
        }
        #expect(bytes == twin.expectedBytes(from: .zero), "\(note)")
    }

    @Test("heals every changed byte of every file, in sealed and active segments, by a twin's help")
    func everyByte() throws {
        let whole = try makeWhole()
        var peerCounts: [String: Int] = [:]
        for path in whole.paths("") {
            for position in 0..<whole.disk.contents(path).readableBytes {
                let note = "\(path) byte \(position)"
                let disk = whole.disk.copy()
                if position % 2 == 0 {
                    // Found by a scrub of an open log.
                    let fixture = try reopened(whole, on: disk)
                    fixture.maker = whole.maker
                    disk.flip(path, at: Int64(position), mask: 1 << UInt8(position % 8))
                    #expect(try ScrubTests.scrub(fixture.log).count == 1, "\(note)")
                    let count = try heal(fixture, from: whole)
                    peerCounts[String(path.suffix(6)), default: 0] += count
                    try expectSame(fixture, whole, note)
                } else {
                    disk.flip(path, at: Int64(position), mask: 1 << UInt8(position % 8))
                    let fixture = try reopened(whole, on: disk)
                    fixture.maker = whole.maker
                    _ = try ScrubTests.scrub(fixture.log)
                    try heal(fixture, from: whole)
                    try expectSame(fixture, whole, note)
                }
            }
        }
        #expect(peerCounts[".state"] == 0, "states need no entries")
        #expect((peerCounts["frames"] ?? 0) > 0, "what stands once is lost: an append time")
    }

    @Test("needs no peer for a row, a header, or the head of a batch")
    func local() throws {
        let whole = try makeWhole()
        let frames = whole.paths(".frames")[1]
        let log = whole.paths(".log")[1]
        // The header; of a data row all but the append time, which stands nowhere else; the head.
        let row = 64 + 64
        let places =
            (0..<64).map { (frames, $0) } + (row..<row + 40).map { (frames, $0) }
            + (row + 48..<row + 64).map { (frames, $0) } + (0..<21).map { (log, $0) }
        for (path, position) in places {
            let disk = whole.disk.copy()
            let fixture = try reopened(whole, on: disk)
            disk.flip(path, at: Int64(position))
            _ = try ScrubTests.scrub(fixture.log)
            #expect(try heal(fixture, from: whole) == 0, "\(path) byte \(position)")
            try expectSame(fixture, whole, "\(path) byte \(position)")
        }
    }

    @Test("heals several entries side by side, whole files, and files that are gone")
    func ranges() throws {
        let whole = try makeWhole()
        for path in whole.paths("") where !path.hasSuffix(".state") {
            let byteCount = whole.disk.contents(path).readableBytes
            guard byteCount > 0 else { continue }
            for manner in 0..<4 {
                let disk = whole.disk.copy()
                let fixture = try reopened(whole, on: disk)
                switch manner {
                case 0:
                    for position in stride(from: 0, to: byteCount, by: 20) {
                        disk.flip(path, at: Int64(position))
                    }
                case 1: disk.put(path, ByteBuffer(repeating: 0, count: byteCount))
                case 2:
                    let part = try #require(
                        whole.disk.contents(path).getSlice(at: 0, length: byteCount / 2)
                    )
                    disk.put(path, part)
                default: try disk.remove(path)
                }
                #expect(try !ScrubTests.scrub(fixture.log).isEmpty)
                try heal(fixture, from: whole)
                try expectSame(fixture, whole, "\(path) manner \(manner)")
            }
        }
    }

    @Test("a term that begins among damaged entries is uncertain until they are healed")
    func uncertainTerms() throws {
        let whole = try ShippingTests.makeLeader()
        let disk = whole.disk.copy()
        for state in whole.paths(".state").dropFirst() { disk.flip(state, at: 100) }
        let frames = whole.paths(".frames")[1]
        for position in 0..<128 { disk.flip(frames, at: Int64(64 + 2 * 64 + position)) }
        let fixture = LogFixture(disk: disk, tailByteCount: 0)
        try fixture.reopen(JournalSuffix(commitIndex: LogIndex(20), lastIndex: LogIndex(20)))
        func restored() -> RestoredState {
            fixture.log.restoredState(
                hardState: HardState(term: Term(3), votedFor: nil),
                initialMembership: .empty,
                isElectable: true
            )
        }
        #expect(!fixture.log.areTermsKnown && !restored().areTermsKnown)
        #expect(fixture.log.termTable != whole.log.termTable)
        #expect(try heal(fixture, from: whole) == 2)
        #expect(fixture.log.areTermsKnown && restored().areTermsKnown)
        #expect(fixture.log.termTable == whole.log.termTable)
        #expect(fixture.log.termRuns == whole.log.termRuns)
    }

    @Test("takes entries a few at a time where the rows still name them")
    func piecemeal() throws {
        let whole = try makeWhole()
        let disk = whole.disk.copy()
        let log = whole.paths(".log")[2]
        let fixture = try reopened(whole, on: disk)
        disk.put(log, ByteBuffer())
        var damage = try #require(try ScrubTests.scrub(fixture.log).first)
        var stepCount = 0
        while let first = damage.indexes?.lowerBound {
            let entry = whole.entries[Int(first.rawValue) - 1]
            let repair = try #require(fixture.log.nextRepair(of: damage, with: [entry]))
            let report = try fixture.log.finish(repair.perform())
            #expect(report.healedCount == 1)
            stepCount += 1
            guard let rest = report.remaining.first else { break }
            damage = rest
        }
        #expect(stepCount == 5)
        try expectSame(fixture, whole, "piecemeal")
    }

    /// Whether a repair was refused; one that was not healed nothing.
    private func isRefused(_ log: PartitionLog, _ result: SegmentRepairResult) throws -> Bool {
        do {
            let healedCount = try log.finish(result).healedCount
            #expect(healedCount == 0)
            return false
        } catch {
            guard case .repairRefused = error else { throw error }
            return true
        }
    }

    @Test("refuses entries that do not belong there, and changes nothing")
    func lies() throws {
        let whole = try makeWhole()
        let frames = whole.paths(".frames")[1]
        for row in 0..<5 {
            let disk = whole.disk.copy()
            let fixture = try reopened(whole, on: disk)
            // Too much of the row is gone to know what it was.
            for position in 0..<64 { disk.flip(frames, at: Int64(64 + row * 64 + position)) }
            let damage = try #require(try ScrubTests.scrub(fixture.log).first)
            let index = 5 + row
            let right = whole.entries[index]
            var maker = EntryMaker()
            maker.follow(whole.entries[index - 1])
            maker.term = right.frame.term
            maker.time = right.frame.appendTime
            let forged = maker.data(
                recordCount: max(1, Int(right.frame.offsetSpan)),
                valueByteCount: 9,
                flags: right.frame.flags
            )
            maker.follow(nil)
            let stranger = maker.data(flags: right.frame.flags)
            for lie in [[forged], [stranger], [whole.entries[index], stranger]] {
                let before = disk.paths.map { disk.contents($0) }
                let repair = try #require(fixture.log.nextRepair(of: damage, with: lie))
                let result = repair.perform()
                let isRefused = try isRefused(fixture.log, result)
                // One that is not for this place is not looked at.
                #expect(isRefused == (lie[0].frame.index == right.frame.index))
                #expect(disk.paths.map { disk.contents($0) } == before)
                #expect(!fixture.log.damage.isEmpty && !fixture.log.isBusy)
            }
            try heal(fixture, from: whole)
            try expectSame(fixture, whole, "row \(row)")
        }
    }

    @Test("refuses a state that says something else than the log")
    func lyingState() throws {
        let whole = try makeWhole()
        let other = try ShippingTests.makeFollower()
        let path = whole.paths(".state")[1]
        let disk = whole.disk.copy()
        let fixture = try reopened(whole, on: disk)
        disk.flip(path, at: 20)
        let damage = try #require(try ScrubTests.scrub(fixture.log).first)
        let lies =
            [disk.contents(path), whole.disk.contents(whole.paths(".state")[0])]
            + other.disk.paths.filter { $0.hasSuffix(".state") }.map { other.disk.contents($0) }
        for lie in lies {
            let repair = try #require(fixture.log.stateRepair(of: damage, from: lie))
            let result = repair.perform()
            #expect(throws: StorageError.self) { try fixture.log.finish(result) }
            #expect(fixture.log.damage == [damage])
        }
        try heal(fixture, from: whole)
        try expectSame(fixture, whole, "state")
    }

    @Test("makes a state again as the replay after a start comes by")
    func replayedState() throws {
        let fixture = try ShippingTests.makeLeader()
        let path = try #require(fixture.paths(".state").last)
        let whole = fixture.disk.copy()
        fixture.disk.flip(path, at: 100)
        fixture.releaseJournal()
        try fixture.reopen(JournalSuffix(lastIndex: fixture.log.lastIndex))
        #expect(fixture.log.damage.map(\.reason) == [.state])
        #expect(fixture.log.nextStateRepair() == nil, "the replay is still to come")
        try fixture.commit()
        let repair = try #require(fixture.log.nextStateRepair())
        try fixture.log.finish(repair.perform())
        #expect(fixture.log.damage.isEmpty && fixture.log.nextStateRepair() == nil)
        #expect(fixture.disk.contents(path) == whole.contents(path))
    }

    @Test("waits for writes and syncs of the active segment, and they for it")
    func exclusive() throws {
        let fixture = try makeWhole()
        let frames = try #require(fixture.paths(".frames").last)
        fixture.disk.flip(frames, at: 64 + 50)
        let damage = try #require(try ScrubTests.scrub(fixture.log).first)
        for _ in 0..<3 { fixture.append { $0.data() } }
        try fixture.commit()
        let write = try #require(fixture.log.nextWrite(minimumByteCount: 1))
        #expect(fixture.log.nextRepair(of: damage) == nil)
        try fixture.log.finish(write.perform())
        let sync = try #require(fixture.log.nextSync())
        #expect(fixture.log.nextRepair(of: damage) == nil)
        try fixture.log.finish(sync.perform())
        for _ in 0..<3 { fixture.append { $0.data() } }
        try fixture.commit()
        try fixture.write()
        let repair = try #require(fixture.log.nextRepair(of: damage))
        for _ in 0..<3 { fixture.append { $0.data() } }
        try fixture.commit()
        #expect(fixture.log.nextWrite(minimumByteCount: 1) == nil && fixture.log.nextSync() == nil)
        var walk = fixture.log.beginScrub()
        #expect(fixture.log.nextScrubStep(&walk, maxByteCount: 1) == nil)
        let report = try fixture.log.finish(repair.perform())
        #expect(report.healedCount == 1 && report.remaining.isEmpty)
        try fixture.write()
        try fixture.sync()
        #expect(try ScrubTests.scrub(fixture.log).isEmpty)
        fixture.disk.crash(.dropUnsynced)
        fixture.releaseJournal()
        try fixture.reopen(JournalSuffix(lastIndex: LogIndex(29)))
        #expect(fixture.isEndKnown && fixture.log.damage.isEmpty)
        try fixture.commit()
        #expect(try fixture.readAll(from: .zero) == fixture.expectedBytes(from: .zero))
    }

    @Test("is not undone by a load that began before it")
    func staleLoad() throws {
        let whole = try makeWhole()
        let disk = whole.disk.copy()
        let log = whole.paths(".log")[1]
        disk.flip(log, at: 40)
        let fixture = try reopened(whole, on: disk)
        let offset = whole.entries[5].frame.baseOffset
        func ask(_ isAfterLoad: Bool) throws -> LogRead<FetchSlice> {
            try fixture.log.read(
                from: offset,
                upTo: offset + 1,
                maxByteCount: 1,
                allowOversizedFirst: true,
                afterLoad: isAfterLoad
            )
        }
        fixture.log.close()
        guard case .load(let load) = try ask(false) else {
            Issue.record("nothing is open yet")
            return
        }
        let stale = load.perform()
        _ = try ScrubTests.scrub(fixture.log)
        try heal(fixture, from: whole)
        try fixture.log.finish(stale)
        #expect(fixture.log.damage.isEmpty)
        try expectSame(fixture, whole, "stale load")
    }

    @Test("cut off at any disk operation loses nothing, and can be made again")
    func crashes() throws {
        let whole = try makeWhole()
        let frames = whole.paths(".frames")[1]
        let log = whole.paths(".log")[1]
        let entries = Array(whole.entries[5..<10])
        var outcomes: Set<Bool> = []
        for fate in 0..<5 {
            var cut = 0
            var isDone = false
            while !isDone {
                let disk = whole.disk.copy()
                disk.flip(frames, at: 64 + 64 * 2 + 45)
                disk.flip(log, at: 40)
                disk.flip(log, at: 200)
                let fixture = try reopened(whole, on: disk)
                let damage = try #require(try ScrubTests.scrub(fixture.log).first)
                let repair = try #require(fixture.log.nextRepair(of: damage, with: entries))
                var count = 0
                disk.fault = { _ in
                    count += 1
                    return count > cut ? .failed(operation: "cut", path: "", errno: 5) : nil
                }
                let result = repair.perform()
                disk.fault = nil
                isDone = (try? fixture.log.finish(result)) != nil
                cut += 1
                switch fate {
                case 0: disk.crash(.keepUnsynced)
                case 1: disk.crash(.dropUnsynced)
                default: disk.crash(.tear(seed: UInt64(cut * 5 + fate), grain: 512))
                }
                let next = try reopened(whole, on: disk)
                let found = try ScrubTests.scrub(next.log)
                outcomes.insert(found.isEmpty)
                #expect(!isDone || found.isEmpty)
                for entry in whole.entries
                where !found.contains(where: {
                    $0.indexes?.contains(entry.frame.index) ?? false
                }) {
                    let read = try next.readEntries(from: entry.frame.index, maxCount: 1)
                    #expect(areEqual(read[0], entry))
                }
                #expect(
                    found.allSatisfy { ($0.indexes?.lowerBound ?? .zero) >= LogIndex(6) }
                        && found.allSatisfy { ($0.indexes?.upperBound ?? .zero) <= LogIndex(10) }
                )
                try heal(next, from: whole)
                try expectSame(next, whole, "cut \(cut) fate \(fate)")
            }
            #expect(cut > 20)
        }
        #expect(outcomes == [true, false])
    }

    private func failure(_ log: PartitionLog, _ result: SegmentRepairResult) -> StorageError? {
        do {
            _ = try log.finish(result)
            return nil
        } catch {
            return error
        }
    }

    @Test("that failed half way does not lose what is written after it")
    func failedHalfWay() throws {
        let whole = try makeWhole()
        var cut = 0
        var isDone = false
        while !isDone {
            let disk = whole.disk.copy()
            let fixture = try reopened(whole, on: disk)
            fixture.maker = whole.maker
            fixture.append { $0.data(valueByteCount: 30) }
            try fixture.commit()
            try fixture.write()
            disk.flip(try #require(whole.paths(".frames").last), at: 64 + 45)
            disk.flip(try #require(whole.paths(".log").last), at: 40)
            let damage = try #require(try ScrubTests.scrub(fixture.log).first)
            let entries = Array(whole.entries[15..<20])
            let repair = try #require(fixture.log.nextRepair(of: damage, with: entries))
            var count = 0
            disk.fault = { _ in
                count += 1
                return count == cut + 1 ? .failed(operation: "cut", path: "", errno: 5) : nil
            }
            let result = repair.perform()
            disk.fault = nil
            let error = failure(fixture.log, result)
            isDone = count <= cut
            cut += 1
            #expect(error == nil || !isDone)
            // The process would stop.
            if case .syncFailed = error { continue }
            fixture.append { $0.data(valueByteCount: 40) }
            try fixture.commit()
            try fixture.write()
            try fixture.sync()
            let last = fixture.entries
            disk.crash(.dropUnsynced)
            try fixture.reopen(JournalSuffix(lastIndex: LogIndex(22)))
            #expect(fixture.isEndKnown && fixture.log.lastIndex == LogIndex(22), "cut \(cut)")
            for entry in last {
                let read = try fixture.readEntries(from: entry.frame.index, maxCount: 1)
                #expect(areEqual(read[0], entry), "cut \(cut)")
            }
        }
        #expect(cut > 20)
    }

    @Test("that finds the disk full leaves the segment as it is")
    func fullDisk() throws {
        let whole = try makeWhole()
        let disk = whole.disk.copy()
        let log = whole.paths(".log")[1]
        disk.flip(log, at: 40)
        let fixture = try reopened(whole, on: disk)
        let damage = try #require(try ScrubTests.scrub(fixture.log).first)
        disk.capacity = disk.usedByteCount + 10
        let paths = disk.paths
        let repair = try #require(
            fixture.log.nextRepair(of: damage, with: [whole.entries[5]])
        )
        let result = repair.perform()
        let error = #expect(throws: StorageError.self) { try fixture.log.finish(result) }
        #expect(error.map { if case .volumeFull = $0 { true } else { false } } ?? false)
        #expect(disk.paths == paths && fixture.log.damage == [damage])
        disk.capacity = .max
        try heal(fixture, from: whole)
        try expectSame(fixture, whole, "full disk")
    }
}
