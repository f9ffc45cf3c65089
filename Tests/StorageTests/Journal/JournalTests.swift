import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaStorage
import FlotillaSimulation
import Testing

import struct NIOCore.ByteBuffer

@Suite("The journal")
struct JournalTests {
    @Test("a new journal is empty and new, and the next start finds it neither torn nor damaged")
    func startsEmpty() throws {
        let harness = JournalHarness()
        let (journal, first) = try harness.open()
        #expect(first.isNew && first.groups.isEmpty)
        try journal.close()
        let (_, second) = try harness.open()
        #expect(!second.isNew && second.wasClean && second.damage.isEmpty && second.tornTail == nil)
    }

    @Test("everything that was performed comes back")
    func remembers() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var log = TestLog(.test(1))
        let members = Membership(voters: [GroupMember(broker: BrokerID(1), epoch: CreationEpoch(1))]
        )
        let membership = IndexedMembership(index: LogIndex(1), membership: members)
        let entries = log.append([10, 0, 9000])
        let result = try journal.perform([
            JournalSubmission(
                log.group,
                [
                    .hardState(.test(3, vote: 1)), .entries(entries), .commit(LogIndex(2)),
                    .membership(membership),
                ],
                ticket: 17
            ),
            JournalSubmission(.test(2), [.hardState(.test(9, vote: nil))], ticket: 18),
        ])
        #expect(result.completions.map(\.ticket) == [17, 18])
        #expect(result.roundCount == 1 && result.remainder == 0 && result.obstacle == nil)
        harness.disk.crash(.dropUnsynced)
        let (_, recovery) = try harness.open()
        #expect(recovery.groups.map(\.group) == [.test(1), .test(2)])
        #expect(!recovery.wasClean && recovery.damage.isEmpty && recovery.tornTail == nil)
        let group = try #require(recovery[.test(1)])
        #expect(group.hardState == .test(3, vote: 1))
        #expect(group.commitIndex == LogIndex(2))
        #expect(group.membership == membership)
        #expect(group.entries.checksums == entries.checksums)
        #expect(group.entries.map(\.payload) == entries.map(\.payload))
        #expect(!group.isSuspect && !group.isHardStateLost)
        #expect(recovery[.test(2)]?.hardState == .test(9, vote: nil))
    }

    @Test("a log that is trusted up to an earlier entry knows no membership of a later one")
    func trustedMembership() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var log = TestLog(.test(1))
        let member = GroupMember(broker: BrokerID(1), epoch: CreationEpoch(1))
        let lost = IndexedMembership(index: LogIndex(9), membership: Membership(voters: [member]))
        let entries = log.append([10, 20])
        let last = try #require(entries.last?.frame)
        _ = try journal.perform([
            JournalSubmission(log.group, [.entries(entries), .membership(lost)]),
            JournalSubmission(log.group, [.trusted(last.position, checksum: last.checksum)]),
        ])
        harness.disk.crash(.dropUnsynced)
        let (_, recovery) = try harness.open()
        #expect(try #require(recovery[log.group]).membership == nil)
    }

    @Test("an append at or below the last index replaces the suffix")
    func replaces() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var log = TestLog(.test(1))
        _ = try journal.perform([
            JournalSubmission(log.group, [.entries(log.append([1, 2, 3, 4]))])
        ])
        log.cut(from: LogIndex(3))
        log.term = Term(2)
        _ = try journal.perform([JournalSubmission(log.group, [.entries(log.append([50]))])])
        harness.disk.crash(.dropUnsynced)
        let (_, recovery) = try harness.open()
        #expect(recovery[log.group]?.entries.checksums == log.entries.checksums)
        #expect(recovery[log.group]?.lastPosition == LogPosition(term: Term(2), index: LogIndex(3)))
    }

    @Test("a reset takes the place of the log, and a removed group is forgotten")
    func resetsAndRemoves() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var log = TestLog(.test(1))
        var gone = TestLog(.test(2))
        _ = try journal.perform([
            JournalSubmission(
                log.group,
                [.hardState(.test(2, vote: 2)), .entries(log.append([1, 2, 3]))]
            ),
            JournalSubmission(
                gone.group,
                [.hardState(.test(5, vote: 2)), .entries(gone.append([1, 2, 3]))]
            ),
        ])
        let position = LogPosition(term: Term(4), index: LogIndex(90))
        var later = TestLog(.test(1))
        later.base = position
        later.baseChecksum = 77
        _ = try journal.perform([
            JournalSubmission(log.group, [.reset(position, checksum: 77)]),
            JournalSubmission(gone.group, [.remove]),
            JournalSubmission(log.group, [.entries(later.append([8]))]),
        ])
        #expect(journal.knownGroups == [log.group])
        harness.disk.crash(.dropUnsynced)
        let (_, recovery) = try harness.open()
        #expect(recovery.groups.map(\.group) == [log.group])
        let group = try #require(recovery[log.group])
        #expect(group.hardState == .test(2, vote: 2))
        #expect(
            group.continuation(after: LogIndex(90), checksum: 77).entries.checksums
                == later.entries.checksums
        )
        #expect(group.continuation(after: LogIndex(90), checksum: 77).isSuspect == false)
    }

    @Test("a round is one write and one sync")
    func writesOnce() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var logs = (0..<5).map { TestLog(.test($0)) }
        harness.disk.isRecording = true
        let submissions = logs.indices.map { place in
            JournalSubmission(logs[place].group, [.entries(logs[place].append([100, 6000]))])
        }
        let result = try journal.perform(submissions)
        #expect(result.completions.count == 5)
        #expect(harness.disk.operations.count == 2 * result.roundCount)
        for (place, operation) in harness.disk.operations.enumerated() {
            switch operation {
            case .write(_, let position, let count):
                #expect(place % 2 == 0 && position % 4096 == 0 && count % 4096 == 0)
            case .sync:
                #expect(place % 2 == 1)
            default:
                Issue.record("a round does nothing else: \(operation)")
            }
        }
    }

    @Test("an idle journal writes one sealing round")
    func sealsOnce() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        #expect(try !journal.sealIfNeeded())
        _ = try journal.perform([JournalSubmission(.test(1), [.commit(LogIndex(0))])])
        #expect(try journal.sealIfNeeded())
        #expect(try !journal.sealIfNeeded())
        #expect(journal.statistics.sealCount == 2)
    }

    @Test("files are recycled strictly oldest first, once released, and none before")
    func recyclesInOrder() throws {
        var harness = JournalHarness()
        harness.configuration.liveByteLimit = 4 * harness.configuration.fileByteCount
        let (journal, _) = try harness.open()
        var log = TestLog(.test(1))
        var quiet = TestLog(.test(2))
        _ = try journal.perform([JournalSubmission(quiet.group, [.entries(quiet.append([64]))])])
        while !journal.isAtCap {
            _ = try journal.perform([JournalSubmission(log.group, [.entries(log.append([8000]))])])
        }
        let grown = journal.statistics.createdFileCount
        #expect(grown >= 4 && journal.statistics.recycledFileCount == 0)
        journal.release(log.group, upTo: log.lastIndex)
        #expect(
            journal.isAtCap,
            "the quiet group still holds the oldest file, and with it the others"
        )
        let demand = try #require(journal.nextDemand())
        #expect(demand.items.map(\.group).contains(quiet.group))
        #expect(demand.items.first { $0.group == quiet.group }?.remedy == .copyForward)
        _ = try journal.perform([JournalSubmission(quiet.group, [.entries(quiet.entries)])])
        #expect(!journal.isAtCap)
        _ = try journal.sealIfNeeded()
        for _ in 0..<60 {
            _ = try journal.perform([JournalSubmission(log.group, [.entries(log.append([8000]))])])
            journal.release(log.group, upTo: log.lastIndex)
            while journal.nextDemand() != nil {
                _ = try journal.perform([JournalSubmission(quiet.group, [.entries(quiet.entries)])])
            }
            while try journal.prepareSpare() {}
        }
        #expect(journal.statistics.createdFileCount == grown)
        #expect(journal.statistics.recycledFileCount > 3)
        harness.disk.crash(.dropUnsynced)
        let (_, recovery) = try harness.open()
        #expect(recovery.damage.isEmpty && recovery.tornTail == nil)
        let found = try #require(recovery[quiet.group])
        #expect(found.entries.checksums == quiet.entries.checksums)
    }

    @Test("with a spare ready no round waits for a file, and surplus files are given back")
    func preparesSpares() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        while try journal.prepareSpare() {}
        let waited = journal.statistics.waitedForFileCount
        var log = TestLog(.test(1))
        for _ in 0..<60 {
            _ = try journal.perform([JournalSubmission(log.group, [.entries(log.append([8000]))])])
            while try journal.prepareSpare() {}
        }
        #expect(journal.statistics.waitedForFileCount == waited)
        let peak = harness.disk.usedByteCount
        journal.release(log.group, upTo: log.lastIndex)
        _ = try journal.sealIfNeeded()
        while try journal.prepareSpare() {}
        #expect(harness.disk.usedByteCount < 5 * 65536 && harness.disk.usedByteCount < peak)
        harness.disk.crash(.dropUnsynced)
        #expect(try harness.open().1.damage.isEmpty)
    }

    @Test("a group is demanded out of the oldest file once, for a checkpoint when it has much")
    func demands() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var log = TestLog(.test(1))
        #expect(journal.nextDemand() == nil)
        for _ in 0..<25 {
            _ = try journal.perform([JournalSubmission(log.group, [.entries(log.append([8000]))])])
        }
        let demand = try #require(journal.nextDemand())
        #expect(demand.items.count == 1 && demand.items[0].remedy == .checkpoint)
        #expect(demand.items[0].upTo < log.lastIndex)
        while let next = journal.nextDemand() {
            #expect(next.items[0].upTo > demand.items[0].upTo)
        }
        let before = journal.liveByteCount
        journal.release(log.group, upTo: demand.items[0].upTo)
        #expect(journal.liveByteCount < before)
    }

    @Test("a submission larger than a file gets a file that is large enough")
    func oversize() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var log = TestLog(.test(1))
        for _ in 0..<3 {
            _ = try journal.perform([
                JournalSubmission(log.group, [.entries(log.append([200_000]))])
            ])
            _ = try journal.perform([JournalSubmission(log.group, [.entries(log.append([10]))])])
        }
        harness.disk.crash(.dropUnsynced)
        let (reopened, recovery) = try harness.open()
        #expect(recovery[log.group]?.entries.checksums == log.entries.checksums)
        #expect(recovery.damage.isEmpty)
        reopened.release(log.group, upTo: log.lastIndex)
        for _ in 0..<30 {
            _ = try reopened.perform([JournalSubmission(log.group, [.entries(log.append([8000]))])])
            reopened.release(log.group, upTo: log.lastIndex)
            while try reopened.prepareSpare() {}
        }
        #expect(
            harness.disk.usedByteCount <= 5 * 65536,
            "large files shrink when they are recycled"
        )
    }

    @Test("a full disk is an answer, and what was refused can be made again")
    func fullDisk() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        harness.disk.capacity = harness.disk.usedByteCount
        var log = TestLog(.test(1))
        var refused: [JournalSubmission] = []
        for _ in 0..<12 where refused.isEmpty {
            let submission = JournalSubmission(log.group, [.entries(log.append([8000]))])
            let result = try journal.perform([submission])
            if result.remainder > 0 {
                guard case .volumeFull(_, let needed, let free) = try #require(result.obstacle)
                else {
                    Issue.record("a full disk is named")
                    return
                }
                #expect(needed > free && result.completions.isEmpty)
                refused = [submission]
            }
        }
        #expect(!refused.isEmpty)
        while try journal.prepareSpare() {}
        #expect(journal.lastObstacle != nil)
        harness.disk.capacity = .max
        #expect(try journal.perform(refused).completions.count == 1)
        harness.disk.crash(.dropUnsynced)
        #expect(try harness.open().1[log.group]?.entries.checksums == log.entries.checksums)
    }

    @Test("a full disk recycles instead of growing, once the oldest file is released")
    func fullDiskRecycles() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var log = TestLog(.test(1))
        for _ in 0..<9 {
            _ = try journal.perform([JournalSubmission(log.group, [.entries(log.append([8000]))])])
        }
        harness.disk.capacity = harness.disk.usedByteCount
        for _ in 0..<40 {
            let result = try journal.perform([
                JournalSubmission(log.group, [.entries(log.append([8000]))])
            ])
            #expect(result.obstacle == nil)
            journal.release(log.group, upTo: log.lastIndex)
        }
    }

    @Test("the start of a journal on a full disk finds what it held")
    func opensOnFullDisk() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var log = TestLog(.test(1))
        harness.disk.capacity = harness.disk.usedByteCount
        while true {
            let result = try journal.perform([
                JournalSubmission(log.group, [.entries(log.append([500]))])
            ])
            if result.remainder > 0 {
                log.cut(from: log.lastIndex)
                break
            }
        }
        for _ in 0..<3 {
            harness.disk.crash(.dropUnsynced)
            let (_, recovery) = try harness.open()
            #expect(recovery[log.group]?.entries.checksums == log.entries.checksums)
        }
    }

    @Test("a failed sync is final")
    func failedSync() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        let error = DiskError.failed(operation: "fdatasync", path: "x", errno: 5)
        harness.disk.fault = { operation in
            guard case .sync = operation else {
                return nil
            }
            return error
        }
        let submission = JournalSubmission(.test(1), [.hardState(.test(1, vote: 1))])
        #expect(throws: StorageError.syncFailed(error)) { try journal.perform([submission]) }
        harness.disk.fault = nil
        let unusable = StorageError.journalUnusable(directory: "/data/journal")
        #expect(throws: unusable) { try journal.perform([submission]) }
        #expect(throws: unusable) { try journal.close() }
        #expect(throws: unusable) { try journal.sealIfNeeded() }
    }

    @Test("after a failed sync the next start believes the medium, not the page cache")
    func readsPastPageCache() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var log = TestLog(.test(1))
        let durable = log.append([100])
        _ = try journal.perform([JournalSubmission(log.group, [.entries(durable)])])
        harness.disk.fault = { operation in
            guard case .sync = operation else {
                return nil
            }
            return .failed(operation: "fdatasync", path: "x", errno: 5)
        }
        #expect(throws: StorageError.self) {
            try journal.perform([JournalSubmission(log.group, [.entries(log.append([100]))])])
        }
        harness.disk.fault = nil
        harness.disk.crash(.keepUnsynced)
        let cached = try harness.recover()
        #expect(cached[log.group]?.entries.count == 2)
        let (_, recovery) = try harness.open(pastPageCache: true)
        #expect(recovery[log.group]?.entries.checksums == durable.checksums)
    }

    @Test("what a start could not sync takes nothing away from what the next one reads")
    func failedStartAfterFailedSync() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var log = TestLog(.test(1))
        _ = try journal.perform([JournalSubmission(log.group, [.entries(log.append([100]))])])
        var syncsLeft = 0
        harness.disk.fault = { operation in
            guard case .sync = operation else { return nil }
            syncsLeft -= 1
            return syncsLeft < 0 ? .failed(operation: "fdatasync", path: "x", errno: 5) : nil
        }
        #expect(throws: StorageError.self) {
            try journal.perform([JournalSubmission(log.group, [.entries(log.append([100]))])])
        }
        harness.disk.crash(.keepUnsynced)
        // It does not see the second round, makes it durable all the same, and writes over it.
        syncsLeft = 1
        #expect(throws: StorageError.self) { try harness.open(pastPageCache: true) }
        harness.disk.crash(.keepUnsynced)
        harness.disk.fault = nil
        let (_, recovery) = try harness.open(pastPageCache: true)
        #expect(recovery[log.group]?.entries.count == 2)
        harness.disk.crash(.keepUnsynced)
        let later = try harness.recover()
        #expect(later.damage == [])
        #expect(later[log.group]?.entries.count == 2)
    }

    @Test("round numbers grow and are never used twice, over files, crashes and starts")
    func roundNumbers() throws {
        let harness = JournalHarness()
        var random = SeededRandom(seed: 5)
        var seen: [UInt64] = []
        var log = TestLog(.test(1))
        func collect() {
            for case .write(let path, let position, _) in harness.disk.operations
            where position >= 8192 {
                if harness.number(path, at: Int(position), as: UInt64.self) == 0x0A64_6E52_746F_6C46
                {
                    seen.append(harness.number(path, at: Int(position) + 40, as: UInt64.self))
                }
            }
            harness.disk.forgetOperations()
        }
        harness.disk.isRecording = true
        for life in 0..<6 {
            let (journal, recovery) = try harness.open()
            collect()
            log.cut(from: (recovery[log.group]?.lastPosition?.index ?? .zero).next)
            for _ in 0..<20 {
                _ = try journal.perform([
                    JournalSubmission(log.group, [.entries(log.append([5000]))])
                ])
                collect()
                journal.release(log.group, upTo: log.lastIndex)
            }
            let isCut = life % 2 == 0
            harness.disk.fault = { operation in
                guard case .sync = operation, isCut else {
                    return nil
                }
                return .failed(operation: "power", path: "", errno: 5)
            }
            _ = try? journal.perform([JournalSubmission(log.group, [.entries(log.append([5000]))])])
            harness.disk.fault = nil
            collect()
            harness.disk.crash(.tear(seed: random.next(), grain: 512))
        }
        #expect(seen.count >= 120)
        #expect(zip(seen, seen.dropFirst()).allSatisfy { $0 < $1 })
    }
}
