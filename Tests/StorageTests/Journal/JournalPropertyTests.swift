import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaStorage
import FlotillaSimulation
import Testing

import struct NIOCore.ByteBuffer

/// What a journal must remember, kept the obvious way.
private struct JournalModel {
    struct Group {
        var log: TestLog
        var hardState: HardState?
        var commitIndex = LogIndex.zero
        var released = LogIndex.zero
    }

    var groups: [GroupID: Group] = [:]
    /// Submissions of the call under way, each with the model after it.
    var steps: [(submission: JournalSubmission, after: [GroupID: Group])] = []
}

/// Drives a journal with seeded submissions, releases, crashes and starts, and compares it with the
/// model.
private struct JournalDrive {
    var harness = JournalHarness()
    var random: SeededRandom
    var model = JournalModel()
    var journal: Journal
    var epoch: UInt64 = 1
    var crashCount = 0
    var tornCount = 0

    init(seed: UInt64) throws {
        random = SeededRandom(seed: seed)
        journal = try harness.open().0
    }

    mutating func run(steps: Int) throws {
        for _ in 0..<steps {
            switch Int.random(in: 0..<20, using: &random) {
            case 0..<11: try submit(cutShort: false)
            case 11..<14: release()
            case 14: try answerDemands()
            case 15: _ = try journal.sealIfNeeded()
            case 16: _ = try journal.prepareSpare()
            case 17: try submit(cutShort: true)
            case 18:
                try restart(
                    .tear(seed: random.next(), grain: Bool.random(using: &random) ? 512 : 4096)
                )
            default:
                try journal.close()
                try restart(.dropUnsynced)
            }
        }
        try restart(.dropUnsynced)
    }

    // MARK: Submissions

    private mutating func submit(cutShort: Bool) throws {
        var after = model.groups
        model.steps = []
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            let submission = makeSubmission(on: &after)
            model.steps.append((submission, after))
        }
        let submissions = model.steps.map(\.submission)
        guard cutShort else {
            let result = try journal.perform(submissions)
            #expect(result.completions.count == submissions.count && result.obstacle == nil)
            model.groups = after
            model.steps = []
            return
        }
        // The power fails at one of the next syncs, before it has made anything durable.
        var remaining = Int.random(in: 0..<3, using: &random)
        harness.disk.fault = { operation in
            guard case .sync = operation else {
                return nil
            }
            remaining -= 1
            return remaining < 0 ? .failed(operation: "power", path: "", errno: 5) : nil
        }
        let result = try? journal.perform(submissions)
        harness.disk.fault = nil
        if result != nil {
            model.groups = after
            model.steps = []
        }
        let fates: [MemoryDisk.CrashFate] = [
            .dropUnsynced, .keepUnsynced, .tear(seed: random.next(), grain: 512),
            .tear(seed: random.next(), grain: 4096),
        ]
        try restart(fates[Int.random(in: 0..<fates.count, using: &random)])
    }

    private mutating func makeSubmission(on groups: inout [GroupID: JournalModel.Group])
        -> JournalSubmission
    {
        let number = Int.random(in: 0..<5, using: &random)
        let known = groups.keys.sorted().first { $0.partition.partition == Int32(number) }
        let name = known ?? .test(number, epoch: epoch)
        epoch += 1
        var group = groups[name] ?? JournalModel.Group(log: TestLog(name))
        var records: [JournalRecord] = []
        for _ in 0..<Int.random(in: 1...2, using: &random) {
            switch Int.random(in: 0..<12, using: &random) {
            case 0..<7:
                records.append(append(to: &group))
            case 7, 8:
                let term = (group.hardState?.term.rawValue ?? 0) + 1
                let state = HardState.test(term, vote: Bool.random(using: &random) ? 3 : nil)
                group.hardState = state
                records.append(.hardState(state))
            case 9, 10:
                group.commitIndex = max(group.commitIndex, group.log.lastIndex)
                records.append(.commit(group.log.lastIndex))
            default:
                groups[name] = nil
                return JournalSubmission(name, [.remove])
            }
        }
        groups[name] = group
        return JournalSubmission(name, records)
    }

    private mutating func append(to group: inout JournalModel.Group) -> JournalRecord {
        let uncommitted = group.log.entries.filter {
            $0.frame.index > max(group.commitIndex, group.released)
        }
        if !uncommitted.isEmpty, Int.random(in: 0..<4, using: &random) == 0 {
            group.log.cut(
                from: uncommitted[Int.random(in: 0..<uncommitted.count, using: &random)].frame.index
            )
            group.log.term = group.log.term.next
        }
        let sizes = (0..<Int.random(in: 1...4, using: &random)).map { _ in
            Int.random(in: 0...(Bool.random(using: &random) ? 200 : 9000), using: &random)
        }
        return .entries(group.log.append(sizes))
    }

    // MARK: Leaving the journal

    private mutating func release() {
        for name in model.groups.keys.sorted() {
            guard var group = model.groups[name], Bool.random(using: &random) else {
                continue
            }
            let last = group.log.lastIndex.rawValue
            let index = LogIndex(
                UInt64.random(
                    in: group.released.rawValue...max(last, group.released.rawValue),
                    using: &random
                )
            )
            group.released = index
            group.commitIndex = max(group.commitIndex, index)
            group.log.release(upTo: index)
            model.groups[name] = group
            journal.release(name, upTo: index)
        }
    }

    private mutating func answerDemands() throws {
        while let demand = journal.nextDemand() {
            for item in demand.items {
                guard var group = model.groups[item.group] else {
                    Issue.record("a group that is gone is not asked")
                    continue
                }
                #expect(item.upTo <= group.log.lastIndex && item.upTo > group.released)
                if item.remedy == .copyForward {
                    let copy = JournalSubmission(item.group, [.entries(group.log.entries)])
                    #expect(try journal.perform([copy]).completions.count == 1)
                } else {
                    group.released = item.upTo
                    group.commitIndex = max(group.commitIndex, item.upTo)
                    group.log.release(upTo: item.upTo)
                    model.groups[item.group] = group
                    journal.release(item.group, upTo: item.upTo)
                }
            }
        }
    }

    // MARK: Starts

    private mutating func restart(_ fate: MemoryDisk.CrashFate) throws {
        crashCount += 1
        harness.disk.crash(fate)
        let (journal, recovery) = try harness.open()
        self.journal = journal
        tornCount += recovery.tornTail == nil ? 0 : 1
        try #require(recovery.damage.isEmpty, "a crash damages nothing")
        #expect(!recovery.areUnknownGroupsSuspect)
        let candidates = [model.groups] + model.steps.map(\.after)
        let found = candidates.lastIndex { matches(recovery, $0) }
        let match = try #require(found, "the journal is as after one of the submissions")
        model.groups = candidates[match]
        for (name, state) in recovery.groups {
            if model.groups[name] == nil {
                model.groups[name] = JournalModel.Group(log: TestLog(name))
            }
            model.groups[name]?.hardState = state.hardState
        }
        model.steps = []
        for (name, group) in model.groups.sorted(by: { $0.key < $1.key }) {
            journal.release(name, upTo: group.released)
        }
    }

    private func matches(_ recovery: JournalRecovery, _ groups: [GroupID: JournalModel.Group])
        -> Bool
    {
        for (name, group) in groups {
            guard let found = recovery[name], !found.isSuspect, !found.isHardStateLost else {
                return false
            }
            let continuation = found.continuation(
                after: group.released,
                checksum: group.log.baseChecksum
            )
            guard
                !continuation.isSuspect,
                continuation.entries.checksums == group.log.entries.checksums,
                isVote(found.hardState, of: name, in: groups),
                found.commitIndex <= group.commitIndex
            else {
                return false
            }
        }
        for (name, found) in recovery.groups where groups[name] == nil {
            let isOnlyVote = found.entries.isEmpty && found.hardState != nil
            guard isOnlyVote, isVote(found.hardState, of: name, in: groups) else {
                return false
            }
        }
        return true
    }

    /// A vote is the group's own or one of a round that was cut; never an older one.
    private func isVote(
        _ state: HardState?,
        of name: GroupID,
        in groups: [GroupID: JournalModel.Group]
    ) -> Bool {
        if state == groups[name]?.hardState {
            return true
        }
        let isNewer = (state?.term ?? .zero) > groups[name]?.hardState?.term ?? .zero
        return isNewer
            && model.steps.contains { step in
                step.submission.group == name
                    && step.submission.records.contains { record in
                        if case .hardState(let submitted) = record {
                            submitted == state
                        } else {
                            false
                        }
                    }
            }
    }
}

@Suite("The journal against its model")
struct JournalPropertyTests {
    @Test(
        "after any submissions, releases and crashes the journal holds what it promised",
        arguments: 0..<100
    )
    func remembers(seed: Int) throws {
        var drive = try JournalDrive(seed: UInt64(seed))
        try drive.run(steps: 120)
        #expect(drive.journal.statistics.damageCount == 0, "seed \(seed)")
    }

    @Test("the drive reaches torn tails, recycling and replaced suffixes")
    func reaches() throws {
        var torn = 0
        var recycled = 0
        for seed in 100..<110 {
            var drive = try JournalDrive(seed: UInt64(seed))
            try drive.run(steps: 120)
            torn += drive.tornCount
            recycled += drive.harness.disk.paths.count
        }
        #expect(torn > 0)
        #expect(recycled > 10)
    }
}
