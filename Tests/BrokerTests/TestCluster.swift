import FlotillaBroker
import FlotillaEnvironment
import FlotillaModel
import FlotillaTestSupport
import struct NIOCore.ByteBuffer

/// What one shard of a broker in a test sends to other brokers; the cluster carries it.
final class TestPeerLinks: PeerLinks {
    struct Sent {
        var target: BrokerID
        var frame: ByteBuffer
    }

    private(set) var addresses: [PeerAddress] = []
    private var queued: [Sent] = []
    private(set) var outbox: [Sent] = []
    /// The brokers that cannot be reached.
    var unreachable: Set<BrokerID> = []

    func setPeers(_ peers: [PeerAddress]) { addresses = peers }

    func send(_ parts: [ByteBuffer], to broker: BrokerID, on lane: PeerLane) -> Bool {
        guard isUp(broker, lane) else { return false }
        var frame = ByteBuffer()
        for part in parts { frame.writeImmutableBuffer(part) }
        frame.moveReaderIndex(forwardBy: 4)
        queued.append(Sent(target: broker, frame: frame.slice()))
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

    /// Takes the oldest frame that has left the shard.
    func takeOne() -> Sent? {
        outbox.isEmpty ? nil : outbox.removeFirst()
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
    private var lanes: Set<[Int]> = []

    /// Starts `count` brokers that found a cluster together, and waits until each knows the metadata.
    init(_ count: Int = 3, shardCount: Int = 2) throws {
        let ids = (1...count).map { BrokerID(Int32($0)) }
        for id in ids {
            brokers.append(
                try TestBroker(id: id, founders: ids, clock: clock, shardCount: shardCount)
            )
        }
        alive = Set(brokers.indices)
        connectAll()
        advance(by: .seconds(3))
    }

    // MARK: Faults

    /// Ends a broker as a kill does: what it had not synced is gone.
    func kill(_ place: Int) {
        alive.remove(place)
        disconnect(place)
        run()
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

    private var isolated: Set<Int> = []

    private func isConnected(_ place: Int) -> Bool {
        alive.contains(place) && !isolated.contains(place)
    }

    private func connectAll() {
        for from in brokers.indices where isConnected(from) {
            for to in brokers.indices where to != from && isConnected(to) {
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
                incarnation: BrokerIncarnation(high: UInt64(brokers[other].id.rawValue), low: 1),
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
        return false
    }

    /// Frames that were sent from broker to broker.
    private(set) var sentCount = 0

    private func deliver(_ sent: TestPeerLinks.Sent, from place: Int, shard: Int) {
        sentCount += 1
        guard let target = brokers.firstIndex(where: { $0.id == sent.target }),
            lanes.contains([place, target])
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
