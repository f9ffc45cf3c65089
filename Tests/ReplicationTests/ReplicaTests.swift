import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage
import FlotillaSimulation
import Testing
import struct NIOCore.ByteBuffer

/// What became of a proposal.
final class Outcome {
    private(set) var placed: PlacedEntry?
    private(set) var error: ReplicationError?

    var isSettled: Bool { placed != nil || error != nil }

    func take(_ result: Result<PlacedEntry, ReplicationError>) {
        precondition(!isSettled, "a proposal is answered once")
        switch result {
        case .success(let placed): self.placed = placed
        case .failure(let error): self.error = error
        }
    }
}

extension Replica {
    /// Proposes a batch with these values.
    func propose(
        _ values: String...,
        durability: Proposal.Durability = .quorum
    ) -> Outcome {
        var builder = RecordBatchBuilder()
        for value in values {
            builder.append(
                key: nil,
                value: ByteBuffer(string: value),
                timestamp: Timestamp(1_700_000_000_000)
            )
        }
        return propose(.batch(builder.build(using: Compressor())), durability: durability)
    }

    /// Proposes anything.
    func propose(_ content: Proposal.Content, durability: Proposal.Durability = .quorum) -> Outcome
    {
        let outcome = Outcome()
        propose(Proposal(content, durability: durability) { outcome.take($0) })
        return outcome
    }
}

@Suite("A replica of a group of one")
struct ReplicaTests {
    private let host: TestHost
    private let replica: Replica

    init() throws {
        host = TestHost()
        replica = try host.makeReplica()
        replica.start()
        host.settle(replica)
    }

    @Test("leads once its vote and its term start are durable")
    func leads() throws {
        let host = TestHost()
        let replica = try host.makeReplica()
        replica.start()
        #expect(!replica.isLeader)
        host.endTurn()
        #expect(!replica.isLeader)
        host.performRound(for: replica)
        #expect(replica.isLeader)
        #expect(!replica.isServing)
        host.endTurn()
        host.performRound(for: replica)
        #expect(replica.isServing)
        #expect(host.machine.isLeading)
        #expect(host.leadershipChanges.last == true)
        #expect(host.hardState.term == replica.term)
    }

    @Test("answers when the journal has the entry, not before", arguments: [true, false])
    func durability(waitsForQuorum: Bool) {
        let outcome = replica.propose("a", durability: waitsForQuorum ? .quorum : .leader)
        host.endTurn()
        #expect(!outcome.isSettled)
        #expect(replica.highWatermark == .zero)
        host.performRound(for: replica)
        #expect(outcome.placed?.baseOffset == .zero)
        #expect(replica.highWatermark == Offset(1))
    }

    @Test("proposals of one turn share a submission and a record of the journal")
    func oneSubmission() {
        let before = host.submissionCount
        let outcomes = (0..<100).map { replica.propose("value \($0)") }
        host.endTurn()
        #expect(host.submissionCount == before + 1)
        #expect(
            host.submissions[0].records.count { record in
                if case .entries(let entries) = record { entries.count == 100 } else { false }
            } == 1
        )
        host.performRound(for: replica)
        #expect(outcomes.map { $0.placed?.baseOffset } == (0..<100).map { Offset($0) })
    }

    @Test("offsets count records, indexes count entries")
    func positions() {
        let first = replica.propose("a", "b", "c")
        let roll = replica.propose(.roll)
        let second = replica.propose("d")
        host.settle(replica)
        #expect(first.placed?.baseOffset == Offset(0))
        #expect(roll.placed?.baseOffset == Offset(3))
        #expect(second.placed?.baseOffset == Offset(3))
        #expect(replica.highWatermark == Offset(4))
        let indexes = [first, roll, second].compactMap { $0.placed?.position.index.rawValue }
        #expect(indexes == [2, 3, 4])
        #expect(host.machine.applied.map(\.rawValue) == [1, 2, 3, 4])
    }

    @Test("the place of the next proposal is known before it is proposed")
    func nextIndex() {
        for _ in 0..<3 {
            let expected = replica.nextProposalIndex
            let outcome = replica.propose("a")
            let following = replica.nextProposalIndex
            #expect(following == expected.next)
            host.settle(replica)
            #expect(outcome.placed?.position.index == expected)
        }
    }

    @Test("append times never go back, though the clock does")
    func appendTimes() {
        let first = replica.propose("a")
        host.settle(replica)
        host.wallTime = Timestamp(host.wallTime.rawValue - 5_000)
        let second = replica.propose("b")
        host.settle(replica)
        #expect(first.placed?.appendTime == second.placed?.appendTime)
    }

    @Test("a start offset moves the log's start when it is committed")
    func startOffset() {
        _ = replica.propose("a", "b", "c")
        host.settle(replica)
        let outcome = replica.propose(.startOffset(Offset(2)))
        host.endTurn()
        #expect(replica.log.logStartOffset == .zero)
        host.performRound(for: replica)
        #expect(outcome.placed != nil)
        #expect(replica.log.logStartOffset == Offset(2))
        #expect(replica.highWatermark == Offset(3))
    }

    @Test("who does not lead yet takes nothing")
    func notLeading() throws {
        let host = TestHost()
        let replica = try host.makeReplica()
        replica.start()
        let outcome = replica.propose("a")
        host.endTurn()
        guard case .rejected = outcome.error else {
            Issue.record("\(String(describing: outcome.error))")
            return
        }
        host.settle(replica)
        #expect(replica.isServing)
        #expect(replica.highWatermark == .zero)
    }

    @Test("an entry that cannot be applied stops the replica, and whoever waits is told")
    func poison() {
        host.machine.poison = replica.nextProposalIndex
        let bad = replica.propose("a")
        let later = replica.propose("b")
        host.settle(replica)
        #expect(host.failures.count == 1)
        #expect(bad.error != nil)
        #expect(later.error != nil)
        #expect(!replica.isServing)
        let after = replica.propose("c")
        host.settle(replica)
        #expect(after.error != nil)
        #expect(host.failures.count == 1)
    }

    @Test("what the journal alone holds can be written to it once more")
    func copyForward() {
        _ = replica.propose("a")
        host.settle(replica)
        let before = host.durableEntries.count
        #expect(replica.copyForward())
        host.settle(replica)
        let copied = host.durableEntries.dropFirst(before).map(\.frame.index)
        #expect(copied == [LogIndex(1), LogIndex(2)])
        #expect(replica.highWatermark == Offset(1))
    }

    // MARK: Restart

    /// Writes what is committed to segments, makes it durable, and leaves a checkpoint.
    private func checkpoint() throws {
        replica.provideCheckpoint()
        while let write = replica.log.nextWrite(minimumByteCount: 1) {
            try replica.log.finish(write.perform())
        }
        if let sync = replica.log.nextSync() { try replica.log.finish(sync.perform()) }
    }

    private func reopen(entries: [LogEntry]) throws -> (TestHost, Replica) {
        host.disk.crash(.dropUnsynced)
        let next = TestHost(disk: host.disk)
        let recovered = try LogRecovery(
            group: TestHost.group,
            directory: "/data",
            disk: host.disk,
            journal: JournalSuffix(
                entries: entries,
                commitIndex: .zero,
                lastIndex: entries.last?.frame.index ?? .zero
            )
        ).perform()
        let log = PartitionLog(
            recovered,
            resources: next.resources,
            configuration: LogConfiguration()
        )
        let again = try next.makeReplica(log, hardState: host.hardState)
        again.start()
        next.settle(again)
        return (next, again)
    }

    @Test("the journal remembers the members that a committed entry names, before segments have it")
    func journaledMembership() throws {
        let host = TestHost()
        let log = PartitionLog.create(
            group: TestHost.group,
            directory: "/data",
            resources: host.resources,
            configuration: LogConfiguration()
        )
        let membership = Membership(voters: [TestHost.member])
        let entry = LogEntry.control(
            .membership,
            payload: membership.payload,
            index: LogIndex(1),
            term: Term(1),
            nextOffset: .zero,
            appendTime: Timestamp(1),
            previousChecksum: 0
        )
        log.append([entry])
        let hardState = HardState(term: Term(1), votedFor: nil)
        let replica = try host.makeReplica(log, hardState: hardState)
        replica.start()
        #expect(host.membership == nil)
        host.settle(replica)
        #expect(replica.isServing && log.writtenIndex == .zero)
        #expect(
            host.membership == IndexedMembership(index: LogIndex(1), membership: membership)
        )
    }

    @Test("everything in the journal is there after a crash, in a later term")
    func recoveryFromJournal() throws {
        _ = replica.propose("a", "b")
        _ = replica.propose("c")
        host.settle(replica)
        let (next, again) = try reopen(entries: host.durableEntries)
        #expect(again.highWatermark == Offset(3))
        #expect(again.term > replica.term)
        #expect(next.machine.applied.map(\.rawValue) == [1, 2, 3, 4])
        let outcome = again.propose("d")
        next.settle(again)
        #expect(outcome.placed?.baseOffset == Offset(3))
    }

    @Test("a checkpoint in the segments is where the state machine starts again")
    func recoveryFromSegments() throws {
        _ = replica.propose("a", "b")
        host.settle(replica)
        _ = replica.propose(.roll)
        host.settle(replica)
        _ = replica.propose("c")
        host.settle(replica)
        try checkpoint()
        #expect(replica.log.syncedIndex == replica.appliedIndex)
        let (next, again) = try reopen(entries: [])
        #expect(again.highWatermark == Offset(3))
        #expect(next.machine.restoredFrom.map { $0.readableBytes > 0 } == true)
        #expect(next.machine.applied.map(\.rawValue) == [1, 2, 3, 4, 5])
    }

    @Test("what never became durable is gone, and its place is taken by what comes next")
    func lostTail() throws {
        _ = replica.propose("a")
        host.settle(replica)
        let kept = host.durableEntries
        _ = replica.propose("lost")
        host.endTurn()
        let (next, again) = try reopen(entries: kept)
        #expect(again.highWatermark == Offset(1))
        let outcome = again.propose("b")
        next.settle(again)
        #expect(outcome.placed?.baseOffset == Offset(1))
    }
}
