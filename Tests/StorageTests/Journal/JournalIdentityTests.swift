import FlotillaEnvironment
import FlotillaRecords
import FlotillaStorage
import FlotillaSimulation
import Testing

import struct NIOCore.ByteBuffer

@Suite("A journal and its data directory")
struct JournalIdentityTests {
    private let journalFile = "/data/journal/journal.id"
    private let dataFile = "/data/journal.id"

    private func made() throws -> JournalHarness {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        _ = try journal.perform([JournalSubmission(.test(1), [.hardState(.test(4, vote: 2))])])
        try journal.close()
        return harness
    }

    @Test("a journal that is gone is missed")
    func missing() throws {
        let harness = try made()
        for path in harness.disk.paths where path.hasPrefix("/data/journal/") {
            try harness.disk.remove(path)
        }
        guard
            case .journalMissing = try #require(
                throws: StorageError.self,
                performing: { try harness.open() }
            )
        else {
            Issue.record("a missing journal is named")
            return
        }
    }

    @Test(
        "a journal of another data directory is refused, with or without a name in the data directory"
    )
    func foreign() throws {
        let harness = try made()
        let other = try made()
        let bytes = other.disk.contents(journalFile)
        var changed = ByteBuffer()
        changed.writeImmutableBuffer(bytes.getSlice(at: 0, length: 16) ?? ByteBuffer())
        changed.writeRepeatingByte(9, count: 32)
        changed.writeRepeatingByte(0, count: 12)
        changed.writeInteger(CRC32C.checksum(changed), endianness: .little)
        for path in [journalFile, dataFile] {
            let copy = harness.disk.copy()
            copy.put(path, changed)
            var tampered = harness
            tampered.disk = copy
            guard
                case .journalForeign = try #require(
                    throws: StorageError.self,
                    performing: { try tampered.open() }
                )
            else {
                Issue.record("a foreign journal is named")
                return
            }
        }
        try harness.disk.remove(dataFile)
        guard
            case .journalForeign = try #require(
                throws: StorageError.self,
                performing: { try harness.open() }
            )
        else {
            Issue.record("a journal without its data directory is foreign")
            return
        }
    }

    @Test("another journal's file among ours is refused")
    func foreignFile() throws {
        let harness = try made()
        let path = JournalHarness.path(slot: 0)
        var content = harness.disk.contents(path)
        for start in [0, 4096] {
            content.setInteger(UInt64(1), at: start + 16)
            let sum = CRC32C.checksum(content.getSlice(at: start, length: 124) ?? ByteBuffer())
            content.setInteger(sum, at: start + 124, endianness: .little)
        }
        harness.disk.put(path, content)
        guard
            case .journalForeign = try #require(
                throws: StorageError.self,
                performing: { try harness.open() }
            )
        else {
            Issue.record("a foreign file is named")
            return
        }
    }

    @Test("any one flipped byte in either name is repaired from the other", arguments: 0..<64)
    func repaired(position: Int) throws {
        let harness = try made()
        for path in [journalFile, dataFile] {
            let copy = harness.disk.copy()
            copy.flip(path, at: Int64(position), mask: 0x80)
            var tampered = harness
            tampered.disk = copy
            #expect(try tampered.open().1[.test(1)]?.hardState == .test(4, vote: 2))
            #expect(copy.contents(path) == harness.disk.contents(path))
        }
    }

    @Test("two damaged names are refused")
    func bothDamaged() throws {
        let harness = try made()
        harness.disk.flip(journalFile, at: 20)
        harness.disk.flip(dataFile, at: 20)
        #expect(throws: StorageError.identityDamaged(file: journalFile)) { try harness.open() }
    }

    @Test("a crash between the two names leaves a new journal")
    func crashBetween() throws {
        let harness = JournalHarness()
        harness.disk.fault = { operation in
            operation == .open(path: "/data/journal.id.new")
                ? .failed(operation: "open", path: "", errno: 5) : nil
        }
        #expect(throws: StorageError.self) { try harness.open() }
        harness.disk.fault = nil
        harness.disk.crash(.dropUnsynced)
        #expect(try harness.open().1.isNew)
    }

    @Test("a new incarnation starts empty and keeps the old files aside")
    func newIncarnation() throws {
        let harness = try made()
        try harness.disk.remove(journalFile)
        #expect(throws: StorageError.self) { try harness.open() }
        let old = harness.disk.contents(JournalHarness.path(slot: 0))
        var random = SeededRandom(seed: 1)
        try Journal.beginIncarnation(JournalHarness.directories, disk: harness.disk) {
            DirectoryID(high: random.next(), low: random.next())
        }
        #expect(try harness.open().1.isNew)
        let aside = harness.disk.paths.filter { $0.contains("/set-aside-") }
        #expect(aside.count == 1 && harness.disk.contents(aside[0]) == old)
    }

    @Test("another version is refused in the name, in a file's head and in a round's head")
    func otherVersion() throws {
        let harness = try made()
        func refuse(_ path: String, at starts: [Int], byteCount: Int) throws {
            var content = harness.disk.contents(path)
            for start in starts {
                content.setInteger(UInt16(2), at: start + 8, endianness: .little)
                let sum = CRC32C.checksum(
                    content.getSlice(at: start, length: byteCount - 4) ?? ByteBuffer()
                )
                content.setInteger(sum, at: start + byteCount - 4, endianness: .little)
            }
            let expected = StorageError.unsupportedVersion(file: path, found: 2, supported: 1)
            #expect(throws: expected) { try harness.recover { $0.put(path, content) } }
        }
        let file = JournalHarness.path(slot: 0)
        try refuse(journalFile, at: [0], byteCount: 64)
        try refuse(file, at: [0, 4096], byteCount: 128)
        try refuse(file, at: [8192], byteCount: 128)
    }
}
