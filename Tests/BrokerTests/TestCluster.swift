@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaSimulation
import struct NIOCore.ByteBuffer

/// What one shard of a broker in a test sends to other brokers; the cluster carries it.
final class TestPeerLinks: PeerLinks {
    struct Sent {
        var target: BrokerID
        var frame: ByteBuffer
        var lane: PeerLane
    }

    private(set) var addresses: [PeerAddress] = []
    /// The brokers that were to be dialled at once.
    private(set) var dialled: [BrokerID] = []
    private var queued: [Sent] = []
    private(set) var outbox: [Sent] = []
    /// The brokers that cannot be reached.
    var unreachable: Set<BrokerID> = []

    func setPeers(_ peers: [PeerAddress]) { addresses = peers }

    func dialNow(_ broker: BrokerID) { dialled.append(broker) }

    func send(_ parts: [ByteBuffer], to broker: BrokerID, on lane: PeerLane) -> Bool {
        guard isUp(broker, lane) else { return false }
        var frame = ByteBuffer()
        for part in parts { frame.writeImmutableBuffer(part) }
        frame.moveReaderIndex(forwardBy: 4)
        queued.append(Sent(target: broker, frame: frame.slice(), lane: lane))
        return true
    }

    func flush() {
        outbox += queued
        queued.removeAll()
    }

    func isUp(_ broker: BrokerID, _ lane: PeerLane) -> Bool {
        addresses.contains { $0.broker == broker } && !unreachable.contains(broker)
    }

    func queuedByteCount(_ broker: BrokerID, _ lane: PeerLane) -> Int { 0 }

    /// Takes the oldest frame that has left the shard; the live lane overtakes the bulk lane.
    func takeOne() -> Sent? {
        guard let place = outbox.firstIndex(where: { $0.lane == .live }) ?? outbox.indices.first
        else { return nil }
        return outbox.remove(at: place)
    }

    /// Loses everything that is on its way to a broker.
    func drop(to broker: BrokerID) {
        outbox.removeAll { $0.target == broker }
        queued.removeAll { $0.target == broker }
    }
}

/// Several whole brokers on one thread with one clock, and a network between them that the test can cut.
final class TestCluster {
    let clock = VirtualClock()
    private(set) var brokers: [TestBroker] = []
    /// The brokers that run.
    private var alive: Set<Int> = []
    /// Looks at the cluster after each step.
    var onStep: (() -> Void)?
    private var lanes: Set<[Int]> = []
    private let founders: [BrokerID]
    private let shardCount: Int
    private let configs: [ConfigEntry]
    private let adjust: (inout ShardSettings) -> Void

    /// Starts `count` brokers that found a cluster together, and waits until each knows the metadata.
    ///
    /// `racks`: where they say that they stand, in their order.
    init(
        _ count: Int = 3,
        shardCount: Int = 2,
        racks: [String] = [],
        configs: [ConfigEntry] = [],
        adjust: @escaping (inout ShardSettings) -> Void = { _ in }
    ) throws {
        let ids = (1...count).map { BrokerID(Int32($0)) }
        founders = ids
        self.shardCount = shardCount
        self.configs = configs
        self.adjust = adjust
        for id in ids {
            brokers.append(
                try TestBroker(
                    id: id,
                    founders: ids,
                    clock: clock,
                    shardCount: shardCount,
                    rack: racks.isEmpty ? nil : racks[Int(id.rawValue) - 1],
                    configs: configs,
                    adjust: adjust
                )
            )
        }
        alive = Set(brokers.indices)
        connectAll()
        advance(by: .seconds(3))
    }

    // MARK: Comers

    /// Adds a broker on an empty disk, which a broker of the cluster registers; returns its place.
    @discardableResult
    func join(through seed: Int = 0) throws -> Int {
        let id = BrokerID(Int32(brokers.count + 1))
        brokers.append(try newcomer(id, life: 1, through: seed))
        alive.insert(brokers.count - 1)
        connectAll()
        run()
        return brokers.count - 1
    }

    /// Puts an empty disk in the place of a killed broker's, and starts it as somebody who joins anew.
    func wipe(_ place: Int, through seed: Int) throws {
        let life = brokers[place].incarnation.low + 1
        brokers[place] = try newcomer(brokers[place].id, life: life, through: seed)
        alive.insert(place)
        connectAll()
        run()
    }

    /// Takes the journal of a killed broker away, and starts it in a new life over what segments it has.
    func loseJournal(_ place: Int, through seed: Int) throws {
        let life = brokers[place].incarnation.low + 1
        let disk = brokers[place].disk
        try TestBroker.loseJournal(on: disk, life: life)
        brokers[place] = try newcomer(brokers[place].id, life: life, through: seed, on: disk)
        alive.insert(place)
        connectAll()
        run()
    }

    /// Starts a killed broker on a disk as it was at some time before.
    func rollBack(_ place: Int, to disk: MemoryDisk) throws {
        brokers[place] = try TestBroker(
            id: brokers[place].id,
            founders: founders,
            life: brokers[place].incarnation.low,
            clock: clock,
            shardCount: shardCount,
            configs: configs,
            disk: disk,
            adjust: adjust
        )
        alive.insert(place)
        connectAll()
        run()
    }

    private func newcomer(
        _ id: BrokerID,
        life: UInt64,
        through seed: Int,
        on disk: MemoryDisk = MemoryDisk()
    ) throws -> TestBroker {
        let registration = TestBroker.registration(
            id,
            TestBroker.incarnation(of: id, life: life)
        )
        let reply = try command(.registerBroker(registration), at: seed)
        guard case .registered(let outcome) = reply else {
            throw TestFailure("registration: \(reply)")
        }
        return try TestBroker(
            id: id,
            founders: founders,
            member: outcome.metadataMember,
            life: life,
            clock: clock,
            shardCount: shardCount,
            configs: configs,
            disk: disk,
            adjust: adjust
        )
    }

    /// Has a command decided that no client can give, by way of a broker.
    func command(_ command: MetadataCommand, at place: Int) throws -> MetadataReply {
        var answer: MetadataReply?
        brokers[place].shards[0].ask(0, .metadata(command)) { reply in
            if case .metadata(let reply) = reply { answer = reply }
        }
        run()
        for _ in 0..<100 where answer == nil { advance(by: .milliseconds(100)) }
        guard let answer else { throw TestFailure("no answer to \(command)") }
        return answer
    }

    /// The metadata as a broker knows it.
    func image(at place: Int = 0) -> MetadataImage { brokers[place].shards[0].image }

    /// A broker's replica of a partition, if it is open.
    func partition(_ topic: TopicID, _ number: Int32 = 0, at place: Int) -> Partition? {
        let id = TopicPartition(topic: topic, partition: number)
        return brokers[place].shards.lazy.compactMap { $0.partition(id) }.first
    }

    /// The places of the brokers that lead a partition by their own account.
    func leaders(_ topic: TopicID, _ number: Int32 = 0) -> [Int] {
        alive.sorted().filter { partition(topic, number, at: $0)?.replica.isServing == true }
    }

    /// The place of the broker that decides about the metadata.
    var controller: Int? {
        alive.sorted().first { brokers[$0].shards[0].metadata?.isTaking == true }
    }

    /// Lets time pass until something holds, at most `limit`.
    func wait(_ limit: Duration = .seconds(20), until condition: () throws -> Bool) rethrows -> Bool
    {
        let end = clock.now + limit
        run()
        while clock.now < end {
            if try condition() { return true }
            advance(by: .milliseconds(100))
        }
        return try condition()
    }

    // MARK: Faults

    /// Ends a broker as a kill does: what it had not synced is gone.
    func kill(_ place: Int) {
        alive.remove(place)
        disconnect(place)
        run()
    }

    /// Stops a broker as an operator would have it.
    func stop(_ place: Int) throws {
        try brokers[place].stopCleanly()
        kill(place)
    }

    /// Starts a killed broker again from its disk.
    func restart(_ place: Int, after fate: MemoryDisk.CrashFate = .dropUnsynced) throws {
        try brokers[place].restart(after: fate)
        alive.insert(place)
        connectAll()
        run()
    }

    /// Cuts a broker off from the others.
    func isolate(_ place: Int) {
        disconnect(place)
        isolated.insert(place)
        run()
    }

    /// Lets a broker that was cut off talk again.
    func heal(_ place: Int) {
        isolated.remove(place)
        connectAll()
        run()
    }

    /// A broker that receives nothing of the metadata's group, and sends nothing of it.
    var cutOffFromMetadata: Int?

    /// Asked of every frame on its way from the broker at a place: whether it is lost.
    var loses: ((TestPeerLinks.Sent, _ from: Int) -> Bool)?

    /// What the network loses of what the groups of partitions say: the message, and the places it goes from and to.
    var losesRaft: ((RaftEnvelope, Int, Int) -> Bool)?

    private func isLost(_ sent: TestPeerLinks.Sent, _ place: Int) -> Bool {
        if let loses, loses(sent, place) { return true }
        if let losesRaft, let target = brokers.firstIndex(where: { $0.id == sent.target }),
            case .raft(let envelope) = try? PeerMessage(decoding: sent.frame),
            losesRaft(envelope, place, target)
        {
            return true
        }
        guard let cutOff = cutOffFromMetadata else { return false }
        return PeerMessage.destination(of: sent.frame) == .clusterMetadata
            && (place == cutOff || sent.target == brokers[cutOff].id)
    }

    private var isolated: Set<Int> = []

    private func isConnected(_ place: Int) -> Bool {
        alive.contains(place) && !isolated.contains(place)
    }

    /// Connections that are not made yet, each from one place to another.
    var lateLanes: Set<[Int]> = []

    /// Makes the connections that were late.
    func connectLate() {
        lateLanes.removeAll()
        connectAll()
        run()
    }

    private func connectAll() {
        for from in brokers.indices where isConnected(from) {
            for to in brokers.indices
            where to != from && isConnected(to) && !lateLanes.contains([from, to]) {
                guard lanes.insert([from, to]).inserted else { continue }
                setLink(from, to, isUp: true)
            }
        }
    }

    private func disconnect(_ place: Int) {
        for other in brokers.indices where other != place {
            for (from, to) in [(place, other), (other, place)]
            where lanes.remove([from, to]) != nil {
                setLink(from, to, isUp: false)
            }
        }
    }

    /// A connection carries one direction; both ends learn of its beginning and end.
    private func setLink(_ from: Int, _ to: Int, isUp: Bool) {
        for environment in brokers[from].environments {
            if isUp {
                environment.links.unreachable.remove(brokers[to].id)
            } else {
                environment.links.unreachable.insert(brokers[to].id)
                environment.links.drop(to: brokers[to].id)
            }
        }
        for (end, other) in [(from, to), (to, from)] where alive.contains(end) {
            brokers[end].shards[0].linkChanged(
                brokers[other].id,
                incarnation: brokers[other].incarnation,
                lane: .live,
                isUp: isUp
            )
        }
    }

    // MARK: Clients

    /// A client of one broker; time passes while it waits for an answer.
    func connect(to place: Int) -> TestClient {
        let wire = brokers[place].wire()
        return TestClient(wire: wire) {
            self.run()
            for _ in 0..<100 where wire.sink.output.readableBytes == 0 {
                self.advance(by: .milliseconds(100))
            }
        }
    }

    // MARK: Time

    /// Lets everything happen that needs no time.
    func run() {
        var steps = 0
        while step() {
            steps += 1
            onStep?()
            precondition(steps < 5_000_000, "a cluster comes to rest")
        }
    }

    private func step() -> Bool {
        for place in brokers.indices where alive.contains(place) {
            if brokers[place].step() { return true }
        }
        for place in brokers.indices where alive.contains(place) {
            for environment in brokers[place].environments {
                guard let sent = environment.links.takeOne() else { continue }
                deliver(sent, from: place, shard: environment.index)
                return true
            }
        }
        for place in brokers.indices where alive.contains(place) {
            guard let deadline = brokers[place].nextDeadline, deadline <= clock.now else {
                continue
            }
            brokers[place].runTimers()
            return true
        }
        return false
    }

    /// Frames that were sent from broker to broker.
    private(set) var sentCount = 0

    private func deliver(_ sent: TestPeerLinks.Sent, from place: Int, shard: Int) {
        sentCount += 1
        guard let target = brokers.firstIndex(where: { $0.id == sent.target }),
            lanes.contains([place, target]), !isLost(sent, place)
        else { return }
        let shards = brokers[target].shards
        do {
            try shards[shard % shards.count].received(sent.frame, from: brokers[place].id)
        } catch {
            preconditionFailure("a broker's own frames can be read: \(error)")
        }
    }

    /// Moves the clock, and does at each point of time what is due on each broker.
    func advance(by delay: Duration) {
        run()
        let end = clock.now + delay
        while let next = alive.sorted().compactMap({ brokers[$0].nextDeadline }).min(), next <= end
        {
            clock.now = max(clock.now, next)
            for place in alive.sorted() { brokers[place].runTimers() }
            run()
        }
        clock.now = end
        run()
    }
}
