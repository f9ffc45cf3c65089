import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import Testing

/// The log's view in runs against an array of terms, which is slow and obvious.
@Suite("The log as runs of terms")
struct RaftLogTests {
    @Test("Runs answer like an array of terms", arguments: 1...50 as ClosedRange<UInt64>)
    func agreesWithArray(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let baseIndex = Int.random(in: 0...3, using: &random)
        let baseTerm = UInt32(baseIndex == 0 ? 0 : 1)
        var terms: [UInt32] = []
        for _ in 0..<Int.random(in: 0...30, using: &random) {
            let last = terms.last ?? max(baseTerm, 1)
            terms.append(
                last
                    + (Int.random(in: 0...3, using: &random) == 0
                        ? UInt32.random(in: 1...3, using: &random) : 0)
            )
        }
        var disk = DiskImage(baseMembership: .empty)
        disk.base = LogPosition(term: Term(baseTerm), index: LogIndex(UInt64(baseIndex)))
        disk.entries = terms.map {
            TestEntry(term: Term($0), kind: .data, byteCount: 1, payload: 0)
        }
        disk.hardState.term = Term(terms.last ?? baseTerm)
        let raft = Raft(
            self: ClusterHarness.id(1),
            restored: disk.restored(commitIndex: disk.base.index, isElectable: true),
            seed: seed
        )
        for index in 0..<40 as Range<UInt64> {
            #expect(raft.log.term(at: LogIndex(index)) == disk.term(at: LogIndex(index)))
        }
        for _ in 0..<50 {
            let position = LogPosition(
                term: Term(UInt32.random(in: 0...40, using: &random)),
                index: LogIndex(UInt64.random(in: 0...40, using: &random))
            )
            let expected = slowLast(notAbove: position, in: disk)
            #expect(raft.log.lastPosition(notAbove: position) == expected)
        }
    }

    private func slowLast(notAbove position: LogPosition, in disk: DiskImage) -> LogPosition {
        var best = disk.base
        for (offset, entry) in disk.entries.enumerated() {
            let index = disk.base.index + UInt64(offset) + 1
            if index <= position.index, entry.term <= position.term {
                best = LogPosition(term: entry.term, index: index)
            }
        }
        return best
    }
}
