import FlotillaModel
import FlotillaRaft
import Testing

/// Rules that a well-behaved group never puts to the test: what a member does with messages and
/// completions that come late, twice, or from nowhere.
@Suite("One member's rules")
struct RaftRulesTests {
    private let me = ClusterHarness.id(1)
    private let other = ClusterHarness.id(2)
    private let third = ClusterHarness.id(3)

    private func member(log terms: [UInt32] = [], commit: UInt64 = 0) -> Raft {
        var disk = DiskImage(baseMembership: Membership(voters: [me, other, third]))
        disk.entries = terms.map {
            TestEntry(term: Term($0), kind: .data, byteCount: 10, payload: 0)
        }
        disk.hardState = HardState(term: Term(terms.last ?? 0), votedFor: nil)
        let restored = disk.restored(commitIndex: LogIndex(commit), isElectable: true)
        return Raft(self: me, restored: restored, seed: 1)
    }

    private func append(
        term: UInt32,
        previous: (term: UInt32, index: UInt64),
        entries: [UInt32] = [],
        commit: UInt64 = 0
    ) -> Message {
        .appendRequest(
            AppendRequest(
                term: Term(term),
                sequence: 1,
                previous: LogPosition(term: Term(previous.term), index: LogIndex(previous.index)),
                entries: entries.map {
                    EntryDescriptor(term: Term($0), kind: .data, byteCount: 10)
                },
                commitIndex: LogIndex(commit),
                lastIndex: LogIndex(previous.index + UInt64(entries.count))
            )
        )
    }

    @Test("A heartbeat commits nothing that was not verified against its sender, whatever it says")
    func heartbeatIsBounded() {
        var raft = member(log: [1, 1, 1], commit: 1)
        let heartbeat = HeartbeatRequest(
            term: Term(2),
            round: 1,
            commitIndex: LogIndex(3),
            goesQuiet: false
        )
        _ = raft.step(.receive(.heartbeatRequest(heartbeat), from: other, to: me))
        #expect(raft.commitIndex == LogIndex(1))
        // A probe at entry 2 verifies as far as that, although the log is longer.
        _ = raft.step(
            .receive(append(term: 2, previous: (1, 2), commit: 3), from: other, to: me)
        )
        #expect(raft.commitIndex == LogIndex(2))
        raft.checkInvariants()
    }

    @Test("A request that begins below the commit index leaves what is committed alone")
    func committedEntriesStay() {
        var raft = member(log: [1, 1, 1], commit: 2)
        let effects = raft.step(
            .receive(append(term: 1, previous: (0, 0), entries: [1]), from: other, to: me)
        )
        #expect(!effects.contains { if case .truncate = $0 { true } else { false } })
        #expect(raft.lastIndex == LogIndex(3))
        let answer = AppendResponse(term: Term(1), sequence: 1, outcome: .matched(LogIndex(2)))
        #expect(effects.contains(.send(.appendResponse(answer), to: other, after: nil)))
    }

    @Test("A member that is not sure of its log's terms gives no vote and asks for none")
    func uncertainTerms() {
        var disk = DiskImage(baseMembership: Membership(voters: [me, other, third]))
        disk.entries = [1, 1, 3].map {
            TestEntry(term: Term($0), kind: .data, byteCount: 10, payload: 0)
        }
        disk.hardState = HardState(term: Term(3), votedFor: nil)
        var restored = disk.restored(commitIndex: LogIndex(3), isElectable: true)
        let runs = restored.termRuns
        restored.termRuns[1].firstIndex = LogIndex(2)
        restored.areTermsKnown = false
        var raft = Raft(self: me, restored: restored, seed: 1)
        for _ in 0..<40 { _ = raft.step(.tick) }
        #expect(raft.role == .follower)
        let request = PreVoteRequest(
            term: Term(4),
            lastEntry: LogPosition(term: Term(3), index: LogIndex(3))
        )
        func isGranted(_ effects: [Effect]) -> Bool {
            effects.contains {
                if case .send(.preVoteResponse(let answer), _, _) = $0 {
                    answer.isGranted
                } else {
                    false
                }
            }
        }
        #expect(!isGranted(raft.step(.receive(.preVoteRequest(request), from: other, to: me))))
        #expect(raft.step(.termsLearned(runs)) == [.electableChanged(true)])
        #expect(raft.log.runs == runs)
        #expect(isGranted(raft.step(.receive(.preVoteRequest(request), from: other, to: me))))
        raft.checkInvariants()
    }

    @Test("A message for another creation of the member is dropped")
    func otherCreation() {
        var raft = member(log: [1])
        let old = GroupMember(broker: me.broker, epoch: CreationEpoch(0))
        let effects = raft.step(
            .receive(append(term: 9, previous: (1, 1)), from: other, to: old)
        )
        #expect(effects.isEmpty)
        #expect(raft.term == Term(1))
    }

    @Test("An answer rests on the write of its entries and of its term, whichever is later")
    func answersRestOnTickets() {
        var raft = member(log: [1])
        let first = raft.step(
            .receive(append(term: 2, previous: (1, 1), entries: [2]), from: other, to: me)
        )
        #expect(answerTicket(first)?.number == 2)
        // The term is durable, the entry is not.
        _ = raft.step(.persisted(ticket(1)))
        let second = raft.step(
            .receive(append(term: 2, previous: (1, 1), entries: [2]), from: other, to: me)
        )
        #expect(answerTicket(second)?.number == 2)
        _ = raft.step(.persisted(ticket(2)))
        #expect(raft.flushedIndex == LogIndex(2))
        let third = raft.step(
            .receive(append(term: 2, previous: (1, 1), entries: [2]), from: other, to: me)
        )
        #expect(answerTicket(third) == nil)
    }

    @Test("A late completion of a replaced suffix makes nothing durable")
    func lateCompletion() {
        var raft = member(log: [1])
        _ = raft.step(
            .receive(append(term: 1, previous: (1, 1), entries: [1, 1]), from: other, to: me)
        )
        let effects = raft.step(
            .receive(append(term: 2, previous: (1, 1), entries: [2, 2]), from: third, to: me)
        )
        #expect(effects.contains(.truncate(from: LogIndex(2))))
        // Ticket 1 is the old suffix; 2 is the new term, 3 the new suffix.
        _ = raft.step(.persisted(ticket(1)))
        #expect(raft.flushedIndex == LogIndex(1))
        _ = raft.step(.persisted(ticket(3)))
        #expect(raft.flushedIndex == LogIndex(3))
        // Completions that come late, after one that covers them, change nothing.
        _ = raft.step(.persisted(ticket(2)))
        #expect(raft.flushedIndex == LogIndex(3))
        raft.checkInvariants()
    }

    @Test("A term and the vote in it are one write")
    func voteIsOneWrite() {
        var raft = member(log: [1])
        let request = VoteRequest(
            term: Term(5),
            lastEntry: LogPosition(term: Term(1), index: LogIndex(1)),
            isTransfer: false
        )
        let effects = raft.step(.receive(.voteRequest(request), from: other, to: me))
        let writes = effects.filter { if case .persistHardState = $0 { true } else { false } }
        #expect(writes.count == 1)
        #expect(raft.hardState == HardState(term: Term(5), votedFor: other))
        // The same question again gets the same answer; another candidate gets none.
        let again = raft.step(.receive(.voteRequest(request), from: other, to: me))
        let yes = VoteResponse(term: Term(5), isGranted: true)
        #expect(
            again.contains {
                if case .send(.voteResponse(yes), other, _) = $0 { true } else { false }
            }
        )
        let late = raft.step(.receive(.voteRequest(request), from: third, to: me))
        let no = VoteResponse(term: Term(5), isGranted: false)
        #expect(late == [.send(.voteResponse(no), to: third, after: nil)])
    }

    @Test("Equal inputs give equal effects")
    func determinism() {
        func run() -> [Effect] {
            var raft = member(log: [1, 1])
            return (0..<200).flatMap { _ in raft.step(.tick) }
        }
        #expect(run() == run())
    }

    private func ticket(_ number: UInt64) -> Ticket {
        Ticket(number: number, term: .zero, generation: 0)
    }

    private func answerTicket(_ effects: [Effect]) -> Ticket? {
        for case .send(.appendResponse, _, let ticket) in effects {
            return ticket
        }
        return nil
    }
}
