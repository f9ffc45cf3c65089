import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaStorage
import FlotillaSimulation
import Testing

/// A journal that finds no room, or no descriptor, for a while: an answer each time, never the end.
@Suite("A journal without room")
struct JournalRoomTests {
    @Test(
        "a round that broke off is written again in its place, and is whole after a crash",
        arguments: [0, 100, 4096, 9000, 20_000]
    )
    func brokenRound(writtenByteCount: Int) throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var log = TestLog(.test(1))
        _ = try journal.perform([JournalSubmission(log.group, [.entries(log.append([700]))])])
        let submission = JournalSubmission(
            log.group,
            [.hardState(.test(4, vote: 2)), .entries(log.append([9000, 9000]))]
        )
        harness.disk.isRecording = true
        harness.disk.breakOff = { _ in writtenByteCount }
        for _ in 0..<3 {
            let result = try journal.perform([submission])
            #expect(result.remainder == 1 && result.completions.isEmpty && result.obstacle != nil)
            #expect(try !journal.sealIfNeeded(), "the round before stays unsealed")
            #expect(journal.isSealDue && journal.isHoldingBack)
        }
        harness.disk.breakOff = nil
        #expect(try journal.perform([submission]).completions.count == 1)
        #expect(!journal.isHoldingBack)
        let positions = harness.disk.operations.compactMap { operation in
            if case .write(_, let position, let count) = operation, count > 4096 {
                position
            } else {
                nil
            }
        }
        #expect(positions.count == 4 && Set(positions).count == 1)
        harness.disk.crash(.dropUnsynced)
        let recovery = try harness.open().1
        #expect(recovery[log.group]?.entries.checksums == log.entries.checksums)
        #expect(recovery[log.group]?.hardState == .test(4, vote: 2))
        #expect(recovery.damage.isEmpty && recovery.tornTail == nil)
    }

    @Test("a round that broke off before the process ended is a torn tail")
    func brokenRoundAtTheEnd() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var log = TestLog(.test(1))
        _ = try journal.perform([JournalSubmission(log.group, [.entries(log.append([700]))])])
        harness.disk.breakOff = { _ in 5000 }
        _ = try journal.perform([JournalSubmission(log.group, [.entries(log.append([9000]))])])
        harness.disk.breakOff = nil
        harness.disk.crash(.keepUnsynced)
        let recovery = try harness.open().1
        #expect(recovery[log.group]?.entries.checksums == Array(log.entries.checksums.prefix(1)))
        #expect(recovery.damage.isEmpty && recovery.tornTail != nil)
    }

    @Test("what was acknowledged outlives rounds that broke off and a crash", arguments: 0..<60)
    func acknowledgedSurvives(seed: Int) throws {
        let harness = JournalHarness()
        var random = SeededRandom(seed: UInt64(seed))
        let (journal, _) = try harness.open()
        var logs = (1...3).map { TestLog(.test($0)) }
        var acknowledged = logs.map { _ in 0 }
        var backlog: [(place: Int, count: Int, submission: JournalSubmission)] = []
        for step in 0..<80 {
            let place = Int.random(in: 0..<3, using: &random)
            let sizes = (0..<Int.random(in: 1...3, using: &random)).map { _ in
                Int.random(in: 1...9000, using: &random)
            }
            var records = [JournalRecord.entries(logs[place].append(sizes))]
            if Bool.random(using: &random) {
                records.insert(.hardState(.test(UInt32(step + 1), vote: 1)), at: 0)
            }
            let submission = JournalSubmission(logs[place].group, records)
            backlog.append((place, logs[place].entries.count, submission))
            let fault = Int.random(in: 0..<4, using: &random)
            let limit = Int.random(in: 0...20_000, using: &random)
            harness.disk.breakOff = { operation in
                guard fault == 0, case .write(_, _, let count) = operation else { return nil }
                return min(count - 1, limit)
            }
            harness.disk.fault = { operation in
                switch operation {
                case .open(let path) where fault == 1: .tooManyOpenFiles(path: path)
                case .syncDirectory(let path) where fault == 1: .tooManyOpenFiles(path: path)
                default: nil
                }
            }
            let result = try journal.perform(backlog.map(\.submission))
            for done in backlog.prefix(backlog.count - result.remainder) {
                acknowledged[done.place] = done.count
            }
            backlog.removeFirst(backlog.count - result.remainder)
            _ = try journal.sealIfNeeded()
            try journal.prepareAhead()
        }
        harness.disk.breakOff = nil
        harness.disk.fault = nil
        harness.disk.crash(.tear(seed: UInt64(seed), grain: 4096))
        let recovery = try harness.open().1
        #expect(recovery.damage.isEmpty)
        for (log, count) in zip(logs, acknowledged) {
            let found = recovery[log.group]?.entries.checksums ?? []
            #expect(
                found.count >= count && found == Array(log.entries.checksums.prefix(found.count))
            )
        }
        #expect(acknowledged.reduce(0, +) > 20, "the disk answers most of the time")
    }

    @Test("a file that cannot be opened is an answer", arguments: [true, false])
    func tooManyOpenFiles(failsAtDirectory: Bool) throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        harness.disk.fault = { operation in
            switch operation {
            case .open(let path) where !failsAtDirectory: .tooManyOpenFiles(path: path)
            case .syncDirectory(let path) where failsAtDirectory: .tooManyOpenFiles(path: path)
            default: nil
            }
        }
        var log = TestLog(.test(1))
        var refused: JournalSubmission?
        for _ in 0..<12 where refused == nil {
            let submission = JournalSubmission(log.group, [.entries(log.append([8000]))])
            let result = try journal.perform([submission])
            guard let obstacle = result.obstacle else { continue }
            guard case .disk(.tooManyOpenFiles) = obstacle else {
                Issue.record("\(obstacle)")
                return
            }
            refused = submission
        }
        let submission = try #require(refused)
        _ = try journal.sealIfNeeded()
        while try journal.prepareSpare() {}
        harness.disk.fault = nil
        #expect(try journal.perform([submission]).completions.count == 1)
        harness.disk.crash(.dropUnsynced)
        let recovery = try harness.open().1
        #expect(recovery[log.group]?.entries.checksums == log.entries.checksums)
        #expect(recovery.damage.isEmpty)
    }

    @Test("a clean stop without room leaves what a kill leaves")
    func closeWithoutRoom() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var log = TestLog(.test(1))
        _ = try journal.perform([JournalSubmission(log.group, [.entries(log.append([700]))])])
        harness.disk.breakOff = { _ in 10 }
        try journal.close()
        #expect(journal.lastObstacle != nil)
        #expect(throws: StorageError.self) { try journal.sealIfNeeded() }
        harness.disk.breakOff = nil
        harness.disk.crash(.dropUnsynced)
        let recovery = try harness.open().1
        #expect(recovery[log.group]?.entries.checksums == log.entries.checksums)
        #expect(!recovery.wasClean && recovery.damage.isEmpty)
    }

    @Test("a write that fails for another reason is final")
    func failedWrite() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        harness.disk.fault = { operation in
            guard case .write(let path, _, _) = operation else { return nil }
            return .failed(operation: "pwritev", path: path, errno: 5)
        }
        var log = TestLog(.test(1))
        let submission = JournalSubmission(log.group, [.entries(log.append([700]))])
        #expect(throws: StorageError.self) { try journal.perform([submission]) }
        harness.disk.fault = nil
        #expect(throws: StorageError.self) { try journal.perform([submission]) }
    }

    @Test("the next file is filled ahead of rounds that follow each other without a pause")
    func filledAhead() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        while try journal.prepareSpare() {}
        let waited = journal.statistics.waitedForFileCount
        var log = TestLog(.test(1))
        harness.disk.isRecording = true
        for _ in 0..<40 {
            _ = try journal.perform([JournalSubmission(log.group, [.entries(log.append([3000]))])])
            let before = harness.disk.operations.count
            try journal.prepareAhead()
            let zeros = harness.disk.operations[before...].reduce(0) { sum, operation in
                if case .write(_, let position, let count) = operation,
                    position >= 8192 || count > 8192
                {
                    sum + count
                } else {
                    sum
                }
            }
            #expect(zeros <= harness.configuration.stepByteCount)
        }
        #expect(journal.statistics.createdFileCount >= 4)
        #expect(journal.statistics.waitedForFileCount == waited)
        #expect(harness.disk.operations.count { isSync($0) } <= 40 + 3 * 5)
        harness.disk.crash(.dropUnsynced)
        let recovery = try harness.open().1
        #expect(recovery[log.group]?.entries.checksums == log.entries.checksums)
    }

    private func isSync(_ operation: DiskOperation) -> Bool {
        if case .sync = operation { true } else { false }
    }
}
