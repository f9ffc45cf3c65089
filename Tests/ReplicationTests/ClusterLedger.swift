import FlotillaModel
import FlotillaRecords
import FlotillaReplication
import struct NIOCore.ByteBuffer

/// What all replicas of a group together have shown, and where they broke a promise.
final class ClusterLedger {
    /// A committed entry, by what identifies it.
    struct Fact: Hashable {
        var term: Term
        var checksum: UInt32
        /// The checksum of its batch; nil for entries that clients do not see.
        var batch: UInt32?
    }

    private(set) var violations: [String] = []
    /// What some replica has applied at each index, from 1 on.
    private(set) var facts: [Fact] = []
    /// What a state machine is after each index.
    private var states: [UInt64] = [0]
    /// Who was seen to lead, by term.
    private var leaders: [Term: Int] = [:]
    /// Which batches are committed, and where.
    private var places: [UInt32: LogIndex] = [:]
    /// The last index of a batch that was acknowledged by a quorum.
    private(set) var acknowledgedIndex = LogIndex.zero
    private(set) var acknowledgedCount = 0

    func violation(_ text: String) {
        if violations.count < 20 { violations.append(text) }
    }

    /// A replica applied an entry, and its state machine is now this.
    func applied(_ entry: LogEntry, state: UInt64, by node: Int) {
        let index = entry.frame.index
        let fact = Fact(
            term: entry.frame.term,
            checksum: entry.frame.checksum,
            batch: entry.frame.kind == .data ? (try? entry.batchHeader())?.checksum : nil
        )
        if index.rawValue > UInt64(facts.count) + 1 {
            return violation("\(node) applied \(index), and nobody the entry before")
        }
        if index.rawValue == UInt64(facts.count) + 1 {
            facts.append(fact)
            states.append(state)
            if let batch = fact.batch {
                if let other = places.updateValue(index, forKey: batch) {
                    violation("\(index) repeats the batch of \(other)")
                }
            }
            return
        }
        let place = Int(index.rawValue)
        if facts[place - 1] != fact {
            violation("\(node) applied \(fact) at \(index), another \(facts[place - 1])")
        }
        if states[place] != state { violation("\(node) has another state at \(index)") }
    }

    /// A state machine came back from a snapshot.
    func restored(index: LogIndex, state: UInt64, by node: Int) {
        guard index.rawValue < UInt64(states.count) else {
            return violation("\(node) restored \(index), which nobody has applied")
        }
        if states[Int(index.rawValue)] != state {
            violation("\(node) restored another state at \(index)")
        }
    }

    /// A replica leads in a term.
    func leads(_ node: Int, in term: Term) {
        if let other = leaders.updateValue(node, forKey: term), other != node {
            violation("\(node) and \(other) lead in term \(term)")
        }
    }

    /// A producer was told that a quorum has its batch.
    func acknowledged(_ placed: PlacedEntry, batch: UInt32) {
        acknowledgedCount += 1
        acknowledgedIndex = max(acknowledgedIndex, placed.position.index)
        guard let fact = fact(at: placed.position.index) else {
            return violation("\(placed.position.index) was acknowledged before it was applied")
        }
        if fact.batch != batch || fact.term != placed.position.term {
            violation("\(placed.position.index) was acknowledged, and holds something else")
        }
    }

    func fact(at index: LogIndex) -> Fact? {
        guard index > .zero, index.rawValue <= UInt64(facts.count) else { return nil }
        return facts[Int(index.rawValue) - 1]
    }
}

/// A state machine whose state is a sum over everything it has applied.
final class ClusterMachine: ReplicatedStateMachine {
    private let node: Int
    private let ledger: ClusterLedger
    private var index = LogIndex.zero
    private var sum: UInt64 = 0
    private(set) var isLeading = false

    init(node: Int, ledger: ClusterLedger) {
        self.node = node
        self.ledger = ledger
    }

    func restore(_ snapshot: ByteBuffer) throws(ReplicationError) {
        var snapshot = snapshot
        index = LogIndex(snapshot.readInteger(as: UInt64.self) ?? 0)
        sum = snapshot.readInteger(as: UInt64.self) ?? 0
        ledger.restored(index: index, state: sum, by: node)
    }

    func apply(_ entry: LogEntry) throws(ReplicationError) {
        if entry.frame.index != index.next {
            ledger.violation("\(node) applied \(entry.frame.index) after \(index)")
        }
        index = entry.frame.index
        sum = (sum &* 31 &+ UInt64(entry.frame.checksum)) ^ index.rawValue
        ledger.applied(entry, state: sum, by: node)
    }

    func snapshot() -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeInteger(index.rawValue)
        buffer.writeInteger(sum)
        return buffer
    }

    func leadershipBegan() {
        if isLeading { ledger.violation("\(node) began to lead twice") }
        isLeading = true
    }

    func leadershipEnded() {
        if !isLeading { ledger.violation("\(node) ended what had not begun") }
        isLeading = false
    }
}
