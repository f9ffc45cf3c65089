import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage
import FlotillaSimulation
import struct NIOCore.ByteBuffer

/// Brokers with one replica each of one partition, on virtual time and a network that does what it is told.
///
/// Time counts in hundredths of a second; ten of them are a tick of Raft's.
final class ReplicaCluster {
    static let partition = TopicPartition(topic: TopicID(high: 7, low: 7), partition: 0)
    static let tickLength = 10

    /// What the network and the disks do to whoever uses them.
    struct Faults {
        var lossPerMille = 0
        var duplicatePerMille = 0
        /// The longest time a message travels; short ones overtake long ones.
        var longestDelay = 1
        /// The longest time the journal takes for a round.
        var longestFlush = 1
        /// The longest time a worker takes for a job.
        var longestJob = 1
        /// The longest time until the shard hears of it.
        var longestCompletion = 0

        func flushDelay(using random: inout SeededRandom) -> Int {
            longestFlush > 1 ? Int.random(in: 1...longestFlush, using: &random) : longestFlush
        }

        func jobDelay(using random: inout SeededRandom) -> Int {
            longestJob > 1 ? Int.random(in: 1...longestJob, using: &random) : longestJob
        }

        func completionDelay(using random: inout SeededRandom) -> Int {
            longestCompletion > 0 ? Int.random(in: 0...longestCompletion, using: &random) : 0
        }
    }

    var settings = Settings()
    var faults = Faults()
    var random: SeededRandom
    let ledger = ClusterLedger()
    private(set) var time = 0
    private(set) var nodes: [ClusterNode] = []
    /// What happened since it was last asked for.
    private var notes: [String] = []
    /// Brokers that hear nobody and are heard by nobody.
    private var isolated: Set<Int> = []
    /// Names of batches, for people.
    private var names: [UInt32: String] = [:]
    private var events = EventQueue<() -> Void>()
    private var allWorkers: [NodeWorkers] = []
    private var founders = Membership.empty

    static func member(_ number: Int) -> GroupMember {
        GroupMember(broker: BrokerID(Int32(number)), epoch: CreationEpoch(UInt64(number)))
    }

    init(seed: UInt64) {
        random = SeededRandom(seed: seed)
    }

    /// Makes the brokers; the first `voterCount` of them found the group and start.
    func found(voterCount: Int, spareCount: Int = 0) {
        founders = Membership(voters: (1...voterCount).map(Self.member), learners: [])
        nodes = (1...voterCount + spareCount).map { ClusterNode(number: $0, cluster: self) }
        allWorkers = nodes.map(NodeWorkers.init)
        for node in nodes.prefix(voterCount) { node.start(founders) }
    }

    func node(_ number: Int) -> ClusterNode { nodes[number - 1] }

    func workers(of node: ClusterNode) -> NodeWorkers { allWorkers[node.number - 1] }

    /// Starts a broker; one that is no founder begins without members.
    func start(_ number: Int, isSuspect: Bool = false, forgets: Bool = false) {
        let isFounder = founders.isVoter(Self.member(number))
        node(number).start(
            isFounder ? founders : .empty,
            isSuspect: isSuspect,
            forgets: forgets
        )
    }

    func note(_ text: String) { notes.append(text) }

    func takeNotes() -> [String] {
        defer { notes.removeAll() }
        return notes
    }

    // MARK: Time

    func schedule(after delay: Int, _ action: @escaping () -> Void) {
        events.add(action, at: time + delay)
    }

    /// Lets everything that is planned up to a time happen.
    func run(until end: Int) {
        while let next = events.nextTime, next <= end, let (time, action) = events.next() {
            self.time = time
            action()
        }
        time = end
    }

    /// Lets everything happen that is planned.
    func settle() {
        while let (time, action) = events.next() {
            self.time = time
            action()
        }
    }

    // MARK: The network

    func isolate(_ number: Int, _ isIsolated: Bool) {
        if isIsolated { isolated.insert(number) } else { isolated.remove(number) }
    }

    func isIsolated(_ number: Int) -> Bool { isolated.contains(number) }

    func send(_ envelope: RaftEnvelope, from sender: Int, to target: Int) {
        guard isUp(sender, target), !happens(faults.lossPerMille) else { return }
        let count = happens(faults.duplicatePerMille) ? 2 : 1
        for _ in 0..<count {
            let delay =
                faults.longestDelay > 1
                ? Int.random(in: 1...faults.longestDelay, using: &random) : 1
            schedule(after: delay) { [unowned self] in
                guard self.isUp(sender, target) else { return }
                self.node(target).turn { replica in
                    replica.receive(envelope, from: BrokerID(Int32(sender)))
                }
            }
        }
    }

    private func isUp(_ sender: Int, _ target: Int) -> Bool {
        !isolated.contains(sender) && !isolated.contains(target)
    }

    func happens(_ perMille: Int) -> Bool {
        perMille > 0 && Int.random(in: 0..<1000, using: &random) < perMille
    }

    /// Tells the others that a broker is lost or back, as their beats would.
    func tellOthers(of number: Int, isLost: Bool) {
        let broker = BrokerID(Int32(number))
        for other in nodes where other.number != number {
            other.turn { isLost ? $0.peerLost(broker) : $0.peerBack(broker) }
        }
        guard isIsolated(number) || !isLost else { return }
        node(number).turn { replica in
            for other in nodes where other.number != number {
                let broker = BrokerID(Int32(other.number))
                if isLost { replica.peerLost(broker) } else { replica.peerBack(broker) }
            }
        }
    }

    // MARK: Clients

    /// Proposes a batch of one record at a broker.
    ///
    /// `completion`: told what became of it.
    func propose(
        _ value: String,
        at number: Int,
        durability: Proposal.Durability = .quorum,
        then completion: @escaping (Result<PlacedEntry, ReplicationError>) -> Void
    ) {
        var builder = RecordBatchBuilder()
        builder.append(
            key: nil,
            value: ByteBuffer(string: value),
            timestamp: Timestamp(1_700_000_000_000)
        )
        let batch = builder.build(using: Compressor())
        let checksum = batch.header.checksum
        names[checksum] = String(value.prefix(20))
        node(number).turn { replica in
            replica.propose(
                Proposal(.batch(batch), durability: durability) { [unowned self] result in
                    if case .success(let placed) = result, durability == .quorum {
                        self.ledger.acknowledged(placed, batch: checksum)
                    }
                    completion(result)
                }
            )
        }
    }

    /// An entry as people read it.
    func describe(_ entry: LogEntry) -> String {
        let frame = entry.frame
        let name: String? =
            if frame.kind == .data, let header = try? entry.batchHeader() {
                names[header.checksum]
            } else {
                nil
            }
        return "\(frame.term):\(name ?? "\(frame.kind)")"
    }
}

/// Events in the order of their time, and of their coming within one time: a binary heap.
struct EventQueue<Event> {
    private struct Item {
        var time: Int
        var number: Int
        var event: Event

        func isBefore(_ other: Item) -> Bool { (time, number) < (other.time, other.number) }
    }

    private var items: [Item] = []
    private var nextNumber = 0

    var nextTime: Int? { items.first?.time }

    mutating func add(_ event: Event, at time: Int) {
        items.append(Item(time: time, number: nextNumber, event: event))
        nextNumber += 1
        var child = items.count - 1
        while child > 0, items[child].isBefore(items[(child - 1) / 2]) {
            items.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func next() -> (time: Int, event: Event)? {
        guard let first = items.first else { return nil }
        items[0] = items[items.count - 1]
        items.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < items.count && items[child].isBefore(items[least]) {
                least = child
            }
            guard least != parent else { break }
            items.swapAt(parent, least)
            parent = least
        }
        return (first.time, first.event)
    }
}
