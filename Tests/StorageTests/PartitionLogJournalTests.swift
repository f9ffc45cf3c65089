import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import FlotillaSimulation
import Testing

@testable import FlotillaStorage

@Suite("A log and its journal")
struct PartitionLogJournalTests {
    /// A log whose entries go through a real journal on the same disk.
    private final class Pair {
        let fixture = LogFixture(tailByteCount: 300_000)
        private var journal: Journal
        private let configuration = JournalConfiguration(
            fileByteCount: 1 << 20,
            liveByteLimit: 64 << 20
        )
        private static let directories = JournalDirectories(journal: "data/journal", data: "data")
        private(set) var restartCount = 0

        init() throws {
            (journal, _) = try Self.open(fixture.disk, configuration)
        }

        private static func open(
            _ disk: MemoryDisk,
            _ configuration: JournalConfiguration
        ) throws -> (Journal, JournalRecovery) {
            try Journal.open(
                directories,
                disk: disk,
                configuration: configuration,
                newIdentity: { DirectoryID(high: 1, low: 2) },
                pastPageCache: false
            )
        }

        func append(_ entries: [LogEntry]) throws {
            fixture.append(entries)
            try submit([.entries(entries)])
        }

        func submit(_ records: [JournalRecord]) throws {
            let submission = JournalSubmission(
                shard: 0,
                group: LogFixture.group,
                ticket: 1,
                records: records
            )
            let result = try journal.perform([submission])
            #expect(result.completions.count == 1)
            while let demand = journal.nextDemand() {
                for item in demand.items { try answer(item) }
            }
        }

        private func answer(_ item: JournalDemand.Item) throws {
            switch item.remedy {
            case .checkpoint:
                try fixture.write()
                try sync()
            case .copyForward:
                guard let suffix = fixture.log.journalSuffix() else {
                    try sync()
                    return
                }
                guard !suffix.isEmpty else { return }
                try submit([.entries(suffix)])
            }
        }

        func sync() throws {
            try fixture.sync()
            journal.release(LogFixture.group, upTo: fixture.log.syncedIndex)
        }

        func restart(_ fate: MemoryDisk.CrashFate) throws {
            fixture.disk.crash(fate)
            let recovery: JournalRecovery
            (journal, recovery) = try Self.open(fixture.disk, configuration)
            let state = recovery.groups.first { $0.group == LogFixture.group }?.state
            try fixture.reopen(state.map { JournalSuffix($0) } ?? JournalSuffix())
            restartCount += 1
            #expect(fixture.isEndKnown)
            #expect(fixture.log.damage.isEmpty)
            #expect(recovery.damage.isEmpty)
            #expect(state?.isSuspect != true)
        }
    }

    @Test(
        "together lose nothing through crashes, while files are recycled",
        arguments: UInt64(0)..<10
    )
    func crashes(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let pair = try Pair()
        let fixture = pair.fixture
        for _ in 0..<250 {
            let flags: FrameFlags =
                Int.random(in: 0..<20, using: &random) == 0 ? .firstOfSegment : []
            let size = [10, 500, 30_000].randomElement(using: &random) ?? 1
            try pair.append([
                fixture.maker.data(valueByteCount: size, flags: flags),
                fixture.maker.data(valueByteCount: size),
            ])
            switch Int.random(in: 0..<8, using: &random) {
            case 0: try fixture.commit()
            case 1: try fixture.write(minimumByteCount: 10_000)
            case 2: try pair.sync()
            case 3: try pair.submit([.commit(fixture.log.commitIndex)])
            case 4 where Int.random(in: 0..<4, using: &random) == 0:
                let fate: MemoryDisk.CrashFate =
                    Bool.random(using: &random)
                    ? .dropUnsynced : .tear(seed: random.next(), grain: 512)
                try pair.restart(fate)
            default: break
            }
            #expect(fixture.log.lastIndex == fixture.entries.last?.frame.index)
        }
        try fixture.commit()
        #expect(try fixture.readAll(from: .zero) == fixture.expectedBytes(from: .zero))
        try fixture.checkpoint()
        try pair.sync()
        try pair.restart(.dropUnsynced)
        #expect(fixture.log.commitIndex == fixture.log.lastIndex)
        #expect(try fixture.readAll(from: .zero) == fixture.expectedBytes(from: .zero))
    }

    @Test("a gap that damage left in the journal is bridged where segments have the entries")
    func gap() throws {
        let fixture = LogFixture(tailByteCount: 0)
        for _ in 0..<8 { fixture.append { $0.data() } }
        try fixture.commit(upTo: LogIndex(6))
        try fixture.write()
        var group = RecoveredGroup()
        group.entries = fixture.entries.filter { $0.frame.index != LogIndex(4) }
        group.tail = LogTail(
            position: fixture.entries[7].frame.position,
            checksum: fixture.entries[7].frame.checksum
        )
        fixture.disk.crash(.keepUnsynced)
        try fixture.reopen(JournalSuffix(group))
        #expect(fixture.isEndKnown)
        #expect(fixture.log.lastIndex == LogIndex(8))
        #expect(fixture.log.commitIndex >= LogIndex(6))
        group.entries = fixture.entries.filter { $0.frame.index != LogIndex(7) }
        try fixture.reopen(JournalSuffix(group))
        #expect(!fixture.isEndKnown, "entry 7 is nowhere, so the log's end is not what it was")
        #expect(fixture.log.lastIndex == LogIndex(6))
    }
}
