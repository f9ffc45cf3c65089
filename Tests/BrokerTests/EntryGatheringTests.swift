@testable import FlotillaBroker
import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import Testing
import struct NIOCore.ByteBuffer

/// The entries that a repair lacks, from peers that have a part of them each.
@Suite("Gathering entries")
struct EntryGatheringTests {
    private static func entries(_ count: Int) -> [LogEntry] {
        var entries: [LogEntry] = []
        for number in 1...count {
            entries.append(
                .control(
                    .roll,
                    payload: ByteBuffer(repeating: UInt8(number % 251), count: 10),
                    index: LogIndex(UInt64(number)),
                    term: Term(1),
                    nextOffset: .zero,
                    appendTime: Timestamp(1),
                    previousChecksum: entries.last?.frame.checksum ?? 0
                )
            )
        }
        return entries
    }

    private static func peer(_ number: Int) -> GroupMember {
        GroupMember(broker: BrokerID(Int32(number)), epoch: CreationEpoch(1))
    }

    @Test(
        "Everything that some peer has is given, in order, and nothing else",
        arguments: UInt64(0)..<200
    )
    func everything(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let entries = Self.entries(40)
        let peers = (1...3).map { Self.peer($0) }
        let had = peers.map { _ in
            (1...40).filter { _ in Int.random(in: 0..<4, using: &random) > 0 }
        }
        var gathering = EntryGathering(
            LogIndex(5)...LogIndex(36),
            from: peers,
            byteLimit: Int.random(in: 1...900, using: &random)
        )
        var given: [LogIndex] = []
        var stepCount = 0
        loop: while stepCount < 1_000 {
            stepCount += 1
            switch gathering.step() {
            case .ask(let peer, let range):
                let has = Set(had[Int(peer.broker.rawValue) - 1])
                var next = Int(range.lowerBound.rawValue)
                var found: [LogEntry] = []
                while next <= Int(range.upperBound.rawValue), has.contains(next), found.count < 3 {
                    found.append(entries[next - 1])
                    next += 1
                }
                if !found.isEmpty {
                    let isTaken = gathering.take(found)
                    #expect(isTaken)
                } else {
                    let later = has.filter { $0 > next }.min() ?? 41
                    gathering.decline(next: LogIndex(UInt64(later)))
                }
            case .give(let run):
                given += run.map(\.frame.index)
                gathering.given(isRefused: false)
            case .finished: break loop
            }
        }
        let all = Set(had.joined()).filter { (5...36).contains($0) }.sorted()
        #expect(given.map { Int($0.rawValue) } == all)
        let missing = gathering.missing.flatMap { $0.lowerBound.rawValue...$0.upperBound.rawValue }
        #expect(Set(missing.map { Int($0) }).union(all) == Set(5...36))
        #expect(!gathering.hasSilentPeer)
    }

    @Test("Who sent what does not belong there is not asked again")
    func refused() throws {
        let entries = Self.entries(4)
        var gathering = EntryGathering(
            LogIndex(1)...LogIndex(4),
            from: [Self.peer(1), Self.peer(2)],
            byteLimit: 1 << 20
        )
        guard case .ask(Self.peer(1), _) = gathering.step() else {
            throw TestFailure("another step")
        }
        let isTaken = gathering.take(entries)
        #expect(isTaken)
        guard case .give(let run) = gathering.step() else { throw TestFailure("another step") }
        #expect(run.count == 4)
        gathering.given(isRefused: true)
        guard case .ask(Self.peer(2), let range) = gathering.step() else {
            throw TestFailure("another step")
        }
        #expect(range == LogIndex(1)...LogIndex(4))
        gathering.timeOut()
        guard case .finished = gathering.step() else { throw TestFailure("another step") }
        #expect(gathering.hasSilentPeer && gathering.missing == [LogIndex(1)...LogIndex(4)])
    }

    @Test("Entries that were not asked for, or do not continue, count as none")
    func unfit() {
        let entries = Self.entries(6)
        for unfit in [[], [entries[0]], Array(entries[1...4])] {
            var gathering = EntryGathering(
                LogIndex(2)...LogIndex(4),
                from: [Self.peer(1)],
                byteLimit: 1
            )
            _ = gathering.step()
            let isTaken = gathering.take(unfit)
            #expect(!isTaken)
        }
    }

    @Test("Without peers everything is missing")
    func nobody() throws {
        var gathering = EntryGathering(LogIndex(2)...LogIndex(4), from: [], byteLimit: 1)
        guard case .finished = gathering.step() else { throw TestFailure("another step") }
        #expect(gathering.missing == [LogIndex(2)...LogIndex(4)])
    }
}
