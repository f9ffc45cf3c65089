import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaStorage
import FlotillaSimulation
import Testing

import struct NIOCore.ByteBuffer

@Suite("The start of a journal")
struct JournalStartTests {
    private let marker = "/data/journal/journal.clean"
    private let group = GroupID.test(1)

    private func highestRead(_ harness: JournalHarness) -> Int64 {
        harness.disk.operations.reduce(0) { highest, operation in
            guard case .read(_, let position, let count) = operation else {
                return highest
            }
            return max(highest, position + Int64(count))
        }
    }

    @Test("after a clean stop nothing is searched behind the last round, after a crash everything")
    func search() throws {
        let harness = JournalHarness()
        var (journal, _) = try harness.open()
        _ = try journal.perform([JournalSubmission(group, [.hardState(.test(2, vote: 1))])])
        try journal.close()
        #expect(try harness.disk.exists(marker))
        harness.disk.isRecording = true
        var recovery: JournalRecovery
        (journal, recovery) = try harness.open()
        #expect(recovery.wasClean && recovery[group]?.hardState == .test(2, vote: 1))
        #expect(highestRead(harness) < 65536)
        #expect(try !harness.disk.exists(marker))
        harness.disk.forgetOperations()
        harness.disk.crash(.dropUnsynced)
        (journal, recovery) = try harness.open()
        #expect(!recovery.wasClean && recovery[group]?.hardState == .test(2, vote: 1))
        #expect(highestRead(harness) == 65536)
    }

    @Test("a clean marker of an earlier stop, or a damaged one, is not believed")
    func staleMarker() throws {
        let harness = JournalHarness()
        var (journal, _) = try harness.open()
        _ = try journal.perform([JournalSubmission(group, [.hardState(.test(2, vote: 1))])])
        try journal.close()
        let content = harness.disk.contents(marker)
        for position in 0..<64 {
            let recovery = try harness.recover { $0.flip(marker, at: Int64(position), mask: 0x40) }
            #expect(recovery[group]?.hardState == .test(2, vote: 1))
        }
        (journal, _) = try harness.open()
        _ = try journal.perform([JournalSubmission(group, [.hardState(.test(3, vote: 1))])])
        harness.disk.crash(.dropUnsynced)
        let recovery = try harness.recover { $0.put(marker, content) }
        #expect(recovery[group]?.hardState == .test(3, vote: 1))
    }

    @Test("no room for the marker is no failure of the stop")
    func markerWithoutRoom() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        harness.disk.capacity = harness.disk.usedByteCount
        try journal.close()
        #expect(journal.lastObstacle != nil)
        #expect(try harness.open().1.wasClean)
    }

    @Test(
        "votes of a torn round that a full disk keeps from being written again come with the next round"
    )
    func owedStates() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        let many = (10..<160).map { JournalSubmission(.test($0), [.hardState(.test(1, vote: 1))]) }
        _ = try journal.perform(many)
        var log = TestLog(group)
        _ = try journal.perform([JournalSubmission(group, [.entries(log.append([13_000]))])])
        failSyncs(of: harness)
        #expect(throws: StorageError.self) {
            try journal.perform([
                JournalSubmission(
                    group,
                    [.hardState(.test(8, vote: 2)), .entries(log.append([10]))]
                )
            ])
        }
        harness.disk.fault = nil
        harness.disk.crash(.keepUnsynced)
        // The second sector of the round's payloads is lost, the vote is not.
        let torn = try lastRound(of: harness)
        harness.disk.flip(JournalHarness.path(slot: 0), at: torn + 128 + 64 + 88, mask: 0xFF)
        harness.disk.capacity = harness.disk.usedByteCount
        let (second, recovery) = try harness.open()
        #expect(recovery.tornTail != nil && recovery[group]?.hardState == .test(8, vote: 2))
        #expect(second.lastObstacle != nil, "the states of 150 groups do not fit behind the tail")
        let small = JournalSubmission(.test(10), [.commit(LogIndex(1))])
        #expect(try second.perform([small]).remainder == 1)
        harness.disk.capacity = .max
        #expect(try second.perform([small]).remainder == 0)
        harness.disk.crash(.dropUnsynced)
        #expect(try harness.open().1[group]?.hardState == .test(8, vote: 2))
    }

    private func failSyncs(of harness: JournalHarness) {
        harness.disk.fault = { operation in
            guard case .sync = operation else {
                return nil
            }
            return .failed(operation: "power", path: "", errno: 5)
        }
    }

    /// Where the last round of the first file begins.
    private func lastRound(of harness: JournalHarness) throws -> Int64 {
        let path = JournalHarness.path(slot: 0)
        let positions = stride(from: 8192, to: 65536, by: 4096).filter { position in
            harness.number(path, at: position, as: UInt64.self) == 0x0A64_6E52_746F_6C46
        }
        return Int64(try #require(positions.last))
    }

    @Test("a start that was cut short at any sync is made good by the next", arguments: 0..<6)
    func interruptedStart(syncs: Int) throws {
        let harness = JournalHarness()
        var log = TestLog(group)
        let (journal, _) = try harness.open()
        _ = try journal.perform([
            JournalSubmission(
                group,
                [.hardState(.test(2, vote: 1)), .entries(log.append([1, 2]))]
            )
        ])
        for seed in 0..<8 {
            let life = JournalHarness()
            var copy = life
            copy.disk = harness.disk.copy()
            var remaining = syncs
            copy.disk.fault = { operation in
                switch operation {
                case .sync, .syncDirectory:
                    remaining -= 1
                    return remaining < 0 ? .failed(operation: "power", path: "", errno: 5) : nil
                default:
                    return nil
                }
            }
            _ = try? copy.open()
            copy.disk.fault = nil
            copy.disk.crash(.tear(seed: UInt64(seed), grain: 512))
            let (_, recovery) = try copy.open()
            #expect(recovery.damage.isEmpty)
            #expect(recovery[group]?.hardState == .test(2, vote: 1))
            #expect(recovery[group]?.entries.checksums == log.entries.checksums)
        }
    }
}
