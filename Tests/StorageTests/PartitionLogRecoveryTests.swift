import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaStorage
import FlotillaSimulation
import Testing

import struct NIOCore.ByteBuffer

@Suite("A log after a restart")
struct PartitionLogRecoveryTests {
    private func makeFixture(count: Int = 40) throws -> LogFixture {
        let fixture = LogFixture(tailByteCount: 0)
        PartitionLogTests.mixed(fixture, count: count)
        try fixture.commit()
        return fixture
    }

    /// The reopened log equals the model, and its state machine what it was.
    private func expectWhole(_ fixture: LogFixture, _ machine: DigestMachine) throws {
        let log = fixture.log
        #expect(log.damage.isEmpty)
        #expect(log.lastIndex == fixture.entries.last?.frame.index)
        #expect(log.lastFrameChecksum == fixture.entries.last?.frame.checksum)
        try fixture.commit()
        #expect(fixture.machine == machine)
        #expect(try fixture.readAll(from: .zero) == fixture.expectedBytes(from: .zero))
        try fixture.write()
        #expect(try fixture.readAll(from: .zero) == fixture.expectedBytes(from: .zero))
    }

    @Test("after a clean stop only heads and last rows are read, whatever the journal still has")
    func cleanStop() throws {
        let fixture = LogFixture(tailByteCount: 0)
        for number in 0..<400 {
            fixture.append {
                $0.data(valueByteCount: 50, flags: number == 200 ? .firstOfSegment : [])
            }
        }
        try fixture.commit()
        try fixture.checkpoint()
        let machine = fixture.machine
        for suffix in [fixture.suffix, JournalSuffix(commitIndex: fixture.log.commitIndex)] {
            fixture.disk.isRecording = true
            fixture.disk.forgetOperations()
            try fixture.reopen(suffix)
            fixture.disk.isRecording = false
            let readCount = fixture.disk.operations.reduce(0) { sum, operation in
                if case .read = operation { sum + 1 } else { sum }
            }
            #expect(
                readCount <= 6,
                "the checkpoint, two heads, and the last row and batch of the sealed segment"
            )
            #expect(!fixture.disk.operations.contains { if case .map = $0 { true } else { false } })
            #expect(fixture.log.recoveredState.mark.index == fixture.log.lastIndex)
            #expect(fixture.machine == machine)
            #expect(fixture.log.commitIndex == fixture.log.lastIndex)
            #expect(fixture.log.syncedIndex == fixture.log.lastIndex)
            try expectWhole(fixture, machine)
        }
    }

    @Test(
        "what was written and not synced is rewritten from the journal, byte for byte",
        arguments: UInt64(0)..<40
    )
    func tornWrites(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let fixture = try makeFixture()
        let half = LogIndex(UInt64.random(in: 1...40, using: &random))
        let reference = try makeFixture()
        try reference.write()
        for step in 0..<2 {
            if step == 1 || Bool.random(using: &random) { try fixture.write() }
            if Bool.random(using: &random) {
                try fixture.sync()
                fixture.releaseJournal(upTo: half)
            }
            fixture.disk.crash(.tear(seed: seed, grain: 512))
            let machine = fixture.machine
            try fixture.reopen(fixture.suffix)
            try expectWhole(fixture, machine)
        }
        for path in reference.paths("") {
            #expect(fixture.disk.contents(path) == reference.disk.contents(path), "\(path)")
        }
    }

    @Test("entries that were not committed stay in memory, and the hint of the journal counts")
    func uncommitted() throws {
        let fixture = LogFixture()
        for _ in 0..<10 { fixture.append { $0.data() } }
        try fixture.commit(upTo: LogIndex(4))
        try fixture.write()
        fixture.disk.crash(.dropUnsynced)
        try fixture.reopen(JournalSuffix(entries: fixture.journal, commitIndex: LogIndex(3)))
        #expect(fixture.log.commitIndex == LogIndex(3))
        #expect(fixture.log.lastIndex == LogIndex(10))
        try fixture.commit(upTo: LogIndex(6))
        try fixture.write()
        fixture.disk.crash(.keepUnsynced)
        try fixture.reopen(JournalSuffix(entries: fixture.journal, commitIndex: LogIndex(3)))
        #expect(fixture.log.commitIndex == LogIndex(6), "what segments have was committed")
        fixture.truncate(from: LogIndex(8))
        #expect(fixture.log.lastIndex == LogIndex(7))
    }

    @Test("memberships come back from the checkpoint, the segments and the journal")
    func memberships() throws {
        let fixture = LogFixture()
        func member(_ id: Int32) -> Membership {
            Membership(voters: [GroupMember(broker: BrokerID(id), epoch: CreationEpoch(1))])
        }
        for id: Int32 in 1...4 {
            fixture.append { $0.control(.membership, payload: member(id).payload) }
            if id == 2 { fixture.append { $0.data(flags: .firstOfSegment) } }
            if id == 3 {
                try fixture.commit()
                try fixture.write()
                try fixture.sync()
                fixture.releaseJournal()
            }
        }
        fixture.disk.crash(.dropUnsynced)
        try fixture.reopen(fixture.suffix)
        #expect(
            fixture.log.recoveredState.membership
                == IndexedMembership(index: LogIndex(2), membership: member(2))
        )
        #expect(fixture.log.memberships.map(\.membership) == [member(3), member(4)])
    }

    @Test("a committed membership whose entry is damaged counts, since the journal remembers it")
    func damagedMembership() throws {
        let fixture = LogFixture()
        func member(_ id: Int32) -> Membership {
            Membership(voters: [GroupMember(broker: BrokerID(id), epoch: CreationEpoch(1))])
        }
        fixture.append { $0.control(.membership, payload: member(1).payload) }
        fixture.append { $0.control(.membership, payload: member(2).payload) }
        for _ in 0..<3 { fixture.append { $0.data() } }
        try fixture.commit()
        try fixture.write()
        try fixture.sync()
        let known = IndexedMembership(index: LogIndex(2), membership: member(2))
        let journal = JournalSuffix(membership: known, lastIndex: LogIndex(5))
        let whole = fixture.disk.copy()
        for (ending, position) in [(".frames", 64 + 64 + 20), (".control", 30)] {
            let path = try #require(fixture.paths(ending).first)
            var bytes = whole.contents(path)
            let byte = try #require(bytes.getInteger(at: position, as: UInt8.self))
            bytes.setInteger(byte ^ 1, at: position)
            fixture.disk.put(path, bytes)
            try fixture.reopen(journal)
            #expect(fixture.log.memberships == [known], "\(ending)")
            fixture.disk.put(path, whole.contents(path))
        }
        // Installed files may have had it counted from their end on.
        let later = IndexedMembership(index: LogIndex(4), membership: member(2))
        try fixture.reopen(JournalSuffix(membership: later, lastIndex: LogIndex(5)))
        #expect(fixture.log.memberships == [known])
        // The log's end went with it: the newest membership counts from the end that is left.
        let frames = try #require(fixture.paths(".frames").first)
        let cut = try #require(whole.contents(frames).getSlice(at: 0, length: 64 + 64))
        fixture.disk.put(frames, cut)
        try fixture.reopen(journal)
        #expect(!fixture.isEndKnown)
        #expect(fixture.log.memberships.map(\.membership) == [member(2)])
    }

    @Test("without a journal a torn end is cut, at whatever byte the write stopped")
    func tornWithoutJournal() throws {
        let fixture = LogFixture(tailByteCount: 0)
        for number in 0..<3 { fixture.append { $0.data(valueByteCount: 30 + number) } }
        try fixture.commit()
        try fixture.write()
        let frames = try #require(fixture.paths(".frames").first)
        let log = try #require(fixture.paths(".log").first)
        let payloadEnds = fixture.entries.indices.map { last in
            fixture.entries[...last].reduce(0) { $0 + $1.payloadByteCount }
        }
        for path in [frames, log] {
            let whole = fixture.disk.contents(path)
            for length in (path == frames ? 64 : 0)..<whole.readableBytes {
                let disk = fixture.disk.copy()
                disk.put(path, try #require(whole.getSlice(at: 0, length: length)))
                let next = LogFixture(disk: disk, tailByteCount: 0)
                try next.reopen(nil)
                let expected =
                    path == frames ? (length - 64) / 64 : payloadEnds.filter { $0 <= length }.count
                #expect(Int(next.log.lastIndex.rawValue) == expected)
                #expect(next.log.damage.isEmpty)
                next.maker.follow(
                    next.log.lastIndex == .zero
                        ? nil : fixture.entries[Int(next.log.lastIndex.rawValue) - 1]
                )
                next.append { $0.data() }
                next.log.commit(upTo: next.log.lastIndex)
                try next.write()
                try next.sync()
                let report = try LogVerification(
                    group: LogFixture.group,
                    directory: "data",
                    disk: disk
                ).perform()
                #expect(report.damage.isEmpty)
                #expect(report.lastIndex == next.log.lastIndex)
            }
        }
    }

    @Test(
        "what the journal let go must be in segments: rows that are gone are damage, and are not cut"
    )
    func lostRows() throws {
        let fixture = LogFixture(tailByteCount: 0)
        for _ in 0..<10 { fixture.append { $0.data(valueByteCount: 30) } }
        try fixture.commit()
        try fixture.write()
        try fixture.sync()
        fixture.releaseJournal(upTo: LogIndex(8))
        let frames = try #require(fixture.paths(".frames").first)
        let whole = fixture.disk.contents(frames)
        fixture.disk.put(frames, try #require(whole.getSlice(at: 0, length: 64 + 6 * 64 + 10)))
        try fixture.reopen(fixture.suffix)
        #expect(fixture.log.damage.map(\.indexes) == [LogIndex(7)...LogIndex(8)])
        #expect(fixture.log.damage.map(\.offsets) == [Offset(6)..<Offset(8)])
        #expect(fixture.log.damage.map(\.reason) == [.missing])
        #expect(fixture.log.lastIndex == LogIndex(10))
        fixture.log.commit(upTo: LogIndex(10))
        try fixture.write()
        #expect(try fixture.read(from: .zero).endOffset == Offset(6))
        #expect(throws: StorageError.self) { try fixture.read(from: Offset(6)) }
        #expect(try fixture.read(from: Offset(8)).endOffset == Offset(10))
        #expect(
            fixture.disk.contents(fixture.paths(".log")[0]) == fixture.expectedBytes(from: .zero)
        )
    }

    @Test("a log that lost its committed end knows that it does not know its end")
    func lostEnd() throws {
        let fixture = LogFixture(tailByteCount: 0)
        for _ in 0..<5 { fixture.append { $0.data(valueByteCount: 30) } }
        try fixture.commit()
        try fixture.write()
        try fixture.sync()
        let frames = try #require(fixture.paths(".frames").first)
        let whole = fixture.disk.contents(frames)
        func recover(_ journal: JournalSuffix?) throws -> RecoveredLog {
            try LogRecovery(
                group: LogFixture.group,
                directory: "data",
                disk: fixture.disk,
                journal: journal
            ).perform()
        }
        #expect(
            try recover(JournalSuffix(commitIndex: LogIndex(5), lastIndex: LogIndex(5))).isEndKnown
        )
        #expect(
            try !recover(JournalSuffix(commitIndex: LogIndex(5), lastIndex: LogIndex(6))).isEndKnown
        )
        fixture.disk.put(frames, try #require(whole.getSlice(at: 0, length: 64 + 4 * 64)))
        let recovered = try recover(JournalSuffix(commitIndex: LogIndex(5)))
        #expect(!recovered.isEndKnown)
        #expect(recovered.damage.map(\.indexes) == [LogIndex(5)...LogIndex(5)])
    }

    @Test(
        "an end that is lost across segments is written again, in the places that it had",
        arguments: [false, true]
    )
    func lostEndAcrossSegments(isCut: Bool) throws {
        let fixture = try ShippingTests.makeLeader()
        let whole = fixture.disk.copy()
        let entries = fixture.entries
        let frames = fixture.paths(".frames")
        fixture.disk.flip(try #require(fixture.paths(".state").last), at: 100)
        for (path, rows) in [(frames[2], 3..<5), (frames[3], 0..<5)] {
            if isCut {
                let rest = whole.contents(path).getSlice(at: 0, length: 64 + rows.lowerBound * 64)
                fixture.disk.put(path, try #require(rest))
                continue
            }
            for position in rows.lowerBound * 64..<rows.upperBound * 64 {
                fixture.disk.flip(path, at: Int64(64 + position))
            }
        }
        try fixture.reopen(JournalSuffix(commitIndex: LogIndex(20), lastIndex: LogIndex(20)))
        #expect(!fixture.isEndKnown)
        #expect(fixture.log.lastIndex == LogIndex(13))
        try fixture.apply()
        try fixture.follow(Array(entries[13...]))
        #expect(fixture.log.writtenIndex == LogIndex(20) && fixture.log.pendingByteCount == 0)
        #expect(fixture.log.damage.allSatisfy { $0.indexes == nil })
        for path in frames { #expect(fixture.disk.contents(path) == whole.contents(path)) }
        #expect(try fixture.readAll(from: .zero) == fixture.expectedBytes(from: .zero))
    }

    @Test("a full disk leaves the log as it was; the write is offered again and then succeeds")
    func fullDisk() throws {
        let fixture = try makeFixture()
        let reference = try makeFixture()
        try reference.write()
        let needed = reference.disk.usedByteCount
        var refusalCount = 0
        fixture.disk.capacity = 0
        while fixture.log.writtenIndex < fixture.log.commitIndex {
            let write = try #require(fixture.log.nextWrite(minimumByteCount: 1))
            do {
                try fixture.log.finish(write.perform())
            } catch {
                guard case .volumeFull = error else { throw error }
                refusalCount += 1
                fixture.disk.capacity += 5_000
                #expect(try fixture.readAll(from: .zero) == fixture.expectedBytes(from: .zero))
            }
        }
        #expect(refusalCount > 5 && fixture.disk.capacity < needed + 20_000)
        for path in reference.paths("") where !path.hasSuffix(".new") {
            #expect(fixture.disk.contents(path) == reference.disk.contents(path))
        }
    }

    @Test("a directory that cannot be opened to sync it is no failed sync, and is tried again")
    func tooManyOpenFiles() throws {
        let fixture = try makeFixture()
        var refusals = 0
        while fixture.log.writtenIndex < fixture.log.commitIndex {
            fixture.disk.fault = { operation in
                guard case .syncDirectory(let path) = operation, refusals % 3 != 2 else {
                    return nil
                }
                return .tooManyOpenFiles(path: path)
            }
            let write = try #require(fixture.log.nextWrite(minimumByteCount: 1))
            do {
                try fixture.log.finish(write.perform())
            } catch {
                guard case .disk(.tooManyOpenFiles) = error else { throw error }
            }
            refusals += 1
        }
        fixture.disk.fault = nil
        #expect(refusals > 3)
        #expect(try fixture.readAll(from: .zero) == fixture.expectedBytes(from: .zero))
    }

    @Test("a sync that fails is told as such, for a segment, its end and a checkpoint")
    func failedSync() throws {
        let fixture = try makeFixture(count: 12)
        fixture.disk.fault = { operation in
            if case .sync = operation {
                .failed(operation: "fdatasync", path: "", errno: 5)
            } else {
                nil
            }
        }
        let first = try #require(fixture.log.nextWrite(minimumByteCount: 1))
        try fixture.log.finish(first.perform())
        #expect(
            throws: StorageError.syncFailed(.failed(operation: "fdatasync", path: "", errno: 5))
        ) { try fixture.write() }
        #expect(
            throws: StorageError.syncFailed(.failed(operation: "fdatasync", path: "", errno: 5))
        ) { try fixture.sync() }
        #expect(fixture.log.syncedIndex == .zero)
    }

    @Test(
        "after a failed sync what never reached the medium is read from the journal, not from the page cache"
    )
    func pastPageCache() throws {
        let fixture = try makeFixture()
        try fixture.write()
        fixture.disk.crash(.keepUnsynced)
        let recovered = try LogRecovery(
            group: LogFixture.group,
            directory: "data",
            disk: fixture.disk,
            journal: fixture.suffix,
            verification: .pastPageCache
        ).perform()
        #expect(recovered.isEndKnown && recovered.damage.isEmpty)
        #expect(recovered.endMark.index == fixture.entries.last?.frame.index)
    }

    @Test("files of another version are refused, files of another partition too")
    func foreignFiles() throws {
        let fixture = try makeFixture(count: 12)
        try fixture.write()
        try fixture.checkpoint()
        let other = GroupID(
            partition: TopicPartition(topic: TopicID(high: 7, low: 9), partition: 4),
            epoch: CreationEpoch(1)
        )
        for path in fixture.paths("") {
            let moved = path.replacing("-3.1/", with: "-4.1/")
            fixture.disk.put(moved, fixture.disk.contents(path))
        }
        #expect(throws: StorageError.self) {
            try LogRecovery(group: other, directory: "data", disk: fixture.disk, journal: nil)
                .perform()
        }
        for ending in [".frames", ".state"] {
            let disk = fixture.disk.copy()
            let path = try #require(fixture.paths(ending).last)
            var bytes = disk.contents(path)
            bytes.setInteger(UInt32(2), at: 8, endianness: .little)
            var checksum = CRC32C()
            let covered =
                ending == ".frames" ? try #require(bytes.getSlice(at: 0, length: 64)) : bytes
            checksum.update(covered.readableBytesSpan.extracting(first: 12))
            checksum.update(covered.readableBytesSpan.extracting(droppingFirst: 16))
            bytes.setInteger(checksum.value, at: 12, endianness: .little)
            disk.put(path, bytes)
            #expect(throws: StorageError.unsupportedVersion(file: path, found: 2, supported: 1)) {
                try LogRecovery(
                    group: LogFixture.group,
                    directory: "data",
                    disk: disk,
                    journal: JournalSuffix()
                ).perform()
            }
        }
    }

    @Test("checkpoints of a running log shorten the replay, and older ones go")
    func runningCheckpoints() throws {
        let fixture = LogFixture(tailByteCount: 0)
        for round in 0..<5 {
            for _ in 0..<10 { fixture.append { $0.data() } }
            try fixture.commit()
            try fixture.checkpoint()
            #expect(fixture.log.syncedIndex == LogIndex(UInt64(round + 1) * 10))
        }
        fixture.append { $0.data() }
        try fixture.commit()
        #expect(fixture.paths(".state").count == 1)
        fixture.disk.crash(.dropUnsynced)
        let machine = fixture.machine
        try fixture.reopen(fixture.suffix)
        #expect(fixture.log.recoveredState.mark.index == LogIndex(50))
        try expectWhole(fixture, machine)
    }
}
