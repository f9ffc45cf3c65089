import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import FlotillaStorage
import FlotillaSimulation
import Testing

@Suite("A log against a list of entries")
struct PartitionLogModelTests {
    /// One random life of a log; after each step it equals the model.
    private struct Life {
        var random: SeededRandom
        let fixture: LogFixture

        init(seed: UInt64) {
            random = SeededRandom(seed: seed)
            let tail = [0, 2_000, 600_000][Int.random(in: 0..<3, using: &random)]
            fixture = LogFixture(
                tailByteCount: tail,
                maximumOpenCount: Int.random(in: 1...4, using: &random)
            )
        }

        mutating func step() throws {
            switch Int.random(in: 0..<16, using: &random) {
            case 0...4: append()
            case 5, 6:
                try fixture.commit(
                    upTo: randomIndex(fixture.log.commitIndex...fixture.log.lastIndex)
                )
            case 7, 8:
                if let write = fixture.log.nextWrite(
                    minimumByteCount: [1, 500, 50_000].randomElement(using: &random) ?? 1
                ) {
                    try fixture.log.finish(write.perform())
                }
            case 9: try fixture.sync()
            case 10: fixture.releaseJournal(upTo: randomIndex(.zero...fixture.log.syncedIndex))
            case 11: truncate()
            case 12: try retain()
            case 13: checkpoint()
            case 14: try restart()
            default: break
            }
        }

        private mutating func append() {
            fixture.maker.time = Timestamp(
                fixture.maker.time.rawValue + Int64.random(in: 0...20, using: &random)
            )
            for _ in 0..<Int.random(in: 1...5, using: &random) {
                let flags: FrameFlags =
                    Int.random(in: 0..<12, using: &random) == 0 ? .firstOfSegment : []
                let size = [1, 100, 1_000, 17_000].randomElement(using: &random) ?? 1
                let recordCount = Int.random(in: 1...3, using: &random)
                let time = Timestamp(Int64.random(in: 0...500, using: &random))
                if Int.random(in: 0..<6, using: &random) == 0 {
                    fixture.append { $0.control(.termStart, flags: flags) }
                } else {
                    fixture.append {
                        $0.data(
                            recordCount: recordCount,
                            valueByteCount: size,
                            timestamp: time,
                            flags: flags
                        )
                    }
                }
            }
        }

        private mutating func truncate() {
            guard fixture.log.commitIndex < fixture.log.lastIndex else { return }
            fixture.truncate(
                from: randomIndex(fixture.log.commitIndex.next...fixture.log.lastIndex)
            )
            fixture.maker.term = fixture.maker.term.next
        }

        private mutating func retain() throws {
            guard fixture.log.commitIndex == fixture.log.lastIndex else { return }
            let policy = RetentionPolicy(byteCount: Int64.random(in: 0...60_000, using: &random))
            let now = fixture.maker.time
            if let start = fixture.log.retentionStart(
                policy: policy,
                now: now,
                notPast: fixture.log.logEndOffset
            ) {
                try fixture.moveStart(to: start)
            }
            if let removal = fixture.log.nextRemoval(keepingFrom: fixture.machine.appliedIndex) {
                try removal.perform().get()
            }
        }

        private func checkpoint() {
            fixture.log.provideState(
                before: fixture.machine.appliedIndex.next,
                stateMachine: fixture.machine.snapshot
            )
        }

        private mutating func restart() throws {
            let committed = fixture.log.commitIndex
            let machine = fixture.machine
            let start = fixture.log.logStartOffset
            let seed = random.next()
            fixture.disk.crash(
                [.dropUnsynced, .keepUnsynced, .tear(seed: seed, grain: 512)][Int(seed % 3)]
            )
            let hint = randomIndex(.zero...committed)
            try fixture.reopen(JournalSuffix(entries: fixture.journal, commitIndex: hint))
            #expect(fixture.log.commitIndex <= committed)
            #expect(fixture.log.commitIndex >= min(hint, fixture.log.lastIndex))
            try fixture.commit(upTo: committed)
            #expect(fixture.machine == machine)
            #expect(fixture.log.logStartOffset == start)
        }

        private mutating func randomIndex(_ range: ClosedRange<LogIndex>) -> LogIndex {
            LogIndex(
                UInt64.random(
                    in: range.lowerBound.rawValue...range.upperBound.rawValue,
                    using: &random
                )
            )
        }

        mutating func check() throws {
            let log = fixture.log
            #expect(log.damage.isEmpty)
            #expect(log.lastIndex.rawValue == UInt64(fixture.entries.count))
            #expect(log.logEndOffset == fixture.entries.last?.frame.endOffset ?? .zero)
            #expect(log.syncedIndex <= log.writtenIndex && log.writtenIndex <= log.commitIndex)
            let unwritten = fixture.entries.dropFirst(Int(log.writtenIndex.rawValue))
            #expect(log.unsegmentedByteCount == unwritten.reduce(0) { $0 + $1.byteCount })
            let pending = unwritten.prefix(
                Int(log.commitIndex.rawValue - log.writtenIndex.rawValue)
            )
            #expect(log.pendingByteCount == pending.reduce(0) { $0 + $1.byteCount })
            if let index = fixture.entries.indices.randomElement(using: &random) {
                let frame = fixture.entries[index].frame
                if frame.index >= log.firstIndex {
                    #expect(log.term(at: frame.index) == frame.term)
                    let found = try fixture.readEntries(
                        from: frame.index,
                        maxByteCount: 20_000,
                        maxCount: 5
                    )
                    #expect(
                        !found.isEmpty && zip(found, fixture.entries[index...]).allSatisfy(areEqual)
                    )
                }
            }
            let start = Offset(
                Int64.random(
                    in: log.logStartOffset.rawValue...log.logEndOffset.rawValue,
                    using: &random
                )
            )
            #expect(
                try fixture.readAll(from: start, maxByteCount: 40_000)
                    == fixture.expectedBytes(from: start)
            )
        }
    }

    @Test(
        "is equal to it after every step: appends, commits, writes, syncs, crashes, truncation, retention",
        arguments: UInt64(0)..<60
    )
    func life(seed: UInt64) throws {
        var life = Life(seed: seed)
        for _ in 0..<150 {
            try life.step()
            try life.check()
        }
        try life.fixture.commit()
        try life.fixture.checkpoint()
        let report = try LogVerification(
            group: LogFixture.group,
            directory: "data",
            disk: life.fixture.disk
        ).perform()
        #expect(report.damage.isEmpty, "\(report.damage)")
        #expect(report.lastIndex == life.fixture.log.lastIndex)
    }

    @Test(
        "files are the same to the last byte however the writing was cut",
        arguments: UInt64(0)..<20
    )
    func sameFiles(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let one = LogFixture()
        PartitionLogTests.mixed(one, count: 60)
        try one.commit()
        try one.checkpoint()
        let other = LogFixture(tailByteCount: 0)
        for entry in one.entries {
            other.append([entry])
            if Bool.random(using: &random) { try other.commit() }
            if Bool.random(using: &random) {
                try other.write(minimumByteCount: Int.random(in: 1...2_000, using: &random))
            }
            if Int.random(in: 0..<10, using: &random) == 0 {
                other.disk.crash(.tear(seed: seed, grain: 512))
                try other.reopen(other.suffix)
                try other.commit()
            }
        }
        try other.commit()
        try other.checkpoint()
        #expect(one.paths("") == other.paths(""))
        for path in one.paths("") {
            #expect(one.disk.contents(path) == other.disk.contents(path), "\(path)")
        }
    }
}
