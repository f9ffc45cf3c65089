import DequeModule
import FlotillaBroker
import FlotillaEnvironment
import FlotillaModel
import struct NIOCore.ByteBuffer

/// The connections between brokers: ordered, with delays, and broken by whoever plans faults.
///
/// As over TCP, a connection loses nothing before its end, and nothing overtakes within it. When it is reset, what was on its way
/// arrives up to some point; the two ends learn of it at different times.
final class SimulatedNetwork {
    /// One direction between two brokers' shards on one lane.
    struct Link {
        let source: ShardPlace
        let target: Int
        let lane: PeerLane
        /// Counts the connections.
        var generation = 0
        var isUp = false
        /// The target's life when it was connected.
        var targetLife = 0
        var queued: [ByteBuffer] = []
        var frames: Deque<(time: Instant, frame: ByteBuffer)> = []
        var byteCount = 0
        var lastArrival = Instant.start
        /// Frames that a reset connection still delivers before its end is noticed.
        var isEnding = false
        /// Counts the dials that were planned; of several only the last is made.
        var dialCount = 0
        var arrivedCount = 0
    }

    private unowned let world: World
    private(set) var links: [Link] = []
    private var places: [Key: Int] = [:]
    /// The directions in which nothing gets through.
    private(set) var blocked: Set<Direction> = []
    /// What slows a broker's connections down.
    var slowness: [Int: Duration] = [:]

    private struct Key: Hashable {
        var source: ShardPlace
        var target: Int
        var lane: PeerLane
    }

    /// From one broker to another.
    struct Direction: Hashable, Comparable {
        var source: Int
        var target: Int

        static func < (left: Direction, right: Direction) -> Bool {
            (left.source, left.target) < (right.source, right.target)
        }
    }

    /// The most bytes that wait in a connection.
    private static let windowByteCount = 8 << 20

    init(world: World) {
        self.world = world
    }

    // MARK: The shards' side

    /// Makes the connections of a shard to these brokers.
    func connect(_ source: ShardPlace, to targets: [Int]) {
        for target in targets {
            for lane in PeerLane.allCases {
                let key = Key(source: source, target: target, lane: lane)
                guard places[key] == nil else { continue }
                places[key] = links.count
                links.append(Link(source: source, target: target, lane: lane))
                dial(links.count - 1, after: world.random.draw(.milliseconds(0), .milliseconds(3)))
            }
        }
    }

    /// Makes what waits for its next dial try now.
    func dialNow(_ source: ShardPlace, _ target: Int) {
        for lane in PeerLane.allCases {
            guard let number = link(source, target, lane), !links[number].isUp else { continue }
            dial(number, after: world.random.draw(.milliseconds(0), .milliseconds(3)))
        }
    }

    func isUp(_ source: ShardPlace, _ target: Int, _ lane: PeerLane) -> Bool {
        link(source, target, lane).map { links[$0].isUp } ?? false
    }

    func queuedByteCount(_ source: ShardPlace, _ target: Int, _ lane: PeerLane) -> Int {
        link(source, target, lane).map { links[$0].byteCount } ?? 0
    }

    func send(_ parts: [ByteBuffer], _ source: ShardPlace, _ target: Int, _ lane: PeerLane) -> Bool
    {
        guard let number = link(source, target, lane), links[number].isUp,
            links[number].byteCount < Self.windowByteCount
        else { return false }
        var frame = ByteBuffer()
        for part in parts { frame.writeImmutableBuffer(part) }
        links[number].byteCount += frame.readableBytes
        frame.moveReaderIndex(forwardBy: 4)
        links[number].queued.append(frame.slice())
        return true
    }

    func flush(_ source: ShardPlace) {
        for target in world.brokers.indices where target != source.broker {
            for lane in PeerLane.allCases {
                guard let number = link(source, target, lane), links[number].isUp else { continue }
                let frames = links[number].queued
                guard !frames.isEmpty else { continue }
                links[number].queued.removeAll()
                for frame in frames { depart(frame, on: number) }
            }
        }
    }

    private func depart(_ frame: ByteBuffer, on number: Int) {
        let link = links[number]
        var delay = world.networkDelay()
        for broker in [link.source.broker, link.target] {
            if let slowness = slowness[broker] { delay = delay + slowness }
        }
        let arrival = max(link.lastArrival, world.now + delay + lateness(at: link))
        links[number].lastArrival = arrival
        links[number].frames.append((arrival, frame))
        world.schedule(.frame(link: number, generation: link.generation), at: arrival)
    }

    /// How late the shard at the far end takes a frame.
    private func lateness(at link: Link) -> Duration {
        let environments = world.brokers[link.target].environments
        guard !environments.isEmpty else { return .zero }
        return environments[link.source.shard % environments.count].lateness()
    }

    private func link(_ source: ShardPlace, _ target: Int, _ lane: PeerLane) -> Int? {
        places[Key(source: source, target: target, lane: lane)]
    }

    // MARK: What happens

    private func dial(_ number: Int, after delay: Duration) {
        links[number].dialCount += 1
        world.schedule(.dial(link: number, count: links[number].dialCount), after: delay)
    }

    /// Tries to connect; who cannot tries again later.
    func dialed(_ number: Int, count: Int) {
        let link = links[number]
        guard world.isAlive(link.source), !link.isUp, link.dialCount == count else { return }
        let target = world.brokers[link.target]
        let directions = [
            Direction(source: link.source.broker, target: link.target),
            Direction(source: link.target, target: link.source.broker),
        ]
        guard target.isUp, !target.isPaused, !link.isEnding,
            directions.allSatisfy({ !blocked.contains($0) })
        else {
            return dial(number, after: world.random.draw(.milliseconds(50), .milliseconds(500)))
        }
        links[number].generation += 1
        links[number].isUp = true
        links[number].targetLife = target.life
        links[number].byteCount = 0
        notice(links[number], isUp: true, at: [true, false])
    }

    /// Tells the two ends.
    private func notice(_ link: Link, isUp: Bool, at ends: [Bool]) {
        let source = world.brokers[link.source.broker]
        let target = world.brokers[link.target]
        for isSource in ends {
            let here = isSource ? source : target
            let other = isSource ? target : source
            let life = isSource ? link.source.life : link.targetLife
            guard here.isUp, here.life == life else { continue }
            let shard = link.source.shard % here.shards.count
            let (id, incarnation) = (other.id, other.incarnation)
            here.run("link changes") { broker in
                broker.shards[shard].linkChanged(
                    id,
                    incarnation: incarnation,
                    lane: link.lane,
                    isUp: isUp
                )
            }
        }
    }

    /// The next frame of a connection is due.
    func frameArrives(_ number: Int, generation: Int) {
        let link = links[number]
        guard link.generation == generation, link.isUp || link.isEnding,
            let first = link.frames.first, first.time <= world.now
        else { return }
        let target = world.brokers[link.target]
        guard target.isUp, target.life == link.targetLife else { return }
        let direction = Direction(source: link.source.broker, target: link.target)
        // What stands still goes on when the way is free again.
        guard !blocked.contains(direction) else { return }
        links[number].frames.removeFirst()
        links[number].arrivedCount += 1
        links[number].byteCount -= min(links[number].byteCount, first.frame.readableBytes + 4)
        let source = world.brokers[link.source.broker].id
        let shard = link.source.shard % target.shards.count
        do {
            try target.shards[shard].received(first.frame, from: source)
            world.looked(at: target.environments[shard].place)
        } catch  where world.plan.damagesDisks {
            // Entries whose bits changed under their sender are refused, and the connection with them.
            reset(number)
        } catch {
            world.violate("a broker's own frame cannot be read: \(error)")
        }
    }

    /// Ends a connection: the source knows at once, the target a little later.
    func reset(_ number: Int) {
        let link = links[number]
        guard link.isUp else { return }
        links[number].isUp = false
        links[number].isEnding = true
        links[number].queued.removeAll()
        links[number].byteCount = 0
        notice(link, isUp: false, at: [true])
        let delay = world.random.draw(.milliseconds(0), .milliseconds(20))
        world.schedule(.hangUp(link: number, generation: link.generation), after: delay)
    }

    /// The target of a connection learns of its end; what has not arrived is lost.
    func hungUp(_ number: Int, generation: Int) {
        let link = links[number]
        guard link.generation == generation, link.isEnding else { return }
        links[number].isEnding = false
        links[number].frames.removeAll()
        links[number].lastArrival = world.now
        notice(link, isUp: false, at: [false])
        if world.isAlive(link.source) {
            dial(number, after: world.random.draw(.milliseconds(5), .milliseconds(300)))
        }
    }

    /// Every connection of a broker ends, because its process did.
    func resetAll(of broker: Int) {
        for number in links.indices
        where links[number].source.broker == broker || links[number].target == broker {
            reset(number)
        }
    }

    /// Resets one connection in so many.
    func resetSome(percent: Int) {
        for number in links.indices where links[number].isUp && world.random.chance(percent) {
            reset(number)
        }
    }

    /// The connections of living shards that are not as they should be without faults, in words.
    var report: [String] {
        links.filter { world.isAlive($0.source) && !isAtRest($0) }.map { link in
            "connection from \(link.source) to broker \(link.target + 1), \(link.lane): "
                + "\(link.isUp ? "up" : "down")\(link.isEnding ? ", ending" : ""), "
                + "\(link.frames.count) frames on their way, \(link.queued.count) queued, \(link.byteCount) bytes, "
                + "\(link.arrivedCount) arrived, the last one due at \(link.lastArrival.seconds)"
        }
    }

    /// Whether a connection is up, with nothing that waits to leave or that is late.
    private func isAtRest(_ link: Link) -> Bool {
        let isLate = link.frames.first.map { $0.time < world.now } ?? false
        return link.isUp && !link.isEnding && link.queued.isEmpty && !isLate
    }

    // MARK: Cuts

    /// Nothing gets through in these directions; what is on its way stands still, until the systems give the connections up.
    func block(_ directions: [Direction]) {
        blocked.formUnion(directions)
        for direction in directions.sorted() {
            let delay = world.random.draw(.milliseconds(500), .seconds(4))
            world.act(
                "connections from \(direction.source + 1) to \(direction.target + 1) time out",
                after: delay
            ) {
                [unowned self] in
                guard self.blocked.contains(direction) else { return }
                for number in self.links.indices
                where self.links[number].source.broker == direction.source
                    && self.links[number].target == direction.target
                {
                    self.reset(number)
                }
            }
        }
    }

    /// These directions are free again.
    func unblock(_ directions: [Direction]) {
        blocked.subtract(directions)
        for number in links.indices where links[number].isUp {
            wakeFrames(number)
        }
    }

    /// Frames that stood still arrive one after the other.
    func wakeFrames(_ number: Int) {
        for _ in links[number].frames where !links[number].frames.isEmpty {
            world.schedule(
                .frame(link: number, generation: links[number].generation),
                at: max(world.now, links[number].lastArrival)
            )
        }
    }
}

/// One shard's connections to the other brokers.
final class SimulatedPeerLinks: PeerLinks {
    private let place: ShardPlace
    private let network: SimulatedNetwork
    private var addresses: [PeerAddress] = []

    init(_ place: ShardPlace, network: SimulatedNetwork) {
        self.place = place
        self.network = network
    }

    /// The place of a broker in the world; ids count from 1.
    private func number(of broker: BrokerID) -> Int { Int(broker.rawValue) - 1 }

    func setPeers(_ peers: [PeerAddress]) {
        addresses = peers
        network.connect(place, to: peers.map { number(of: $0.broker) }.sorted())
    }

    func dialNow(_ broker: BrokerID) { network.dialNow(place, number(of: broker)) }

    func send(_ parts: [ByteBuffer], to broker: BrokerID, on lane: PeerLane) -> Bool {
        network.send(parts, place, number(of: broker), lane)
    }

    func flush() { network.flush(place) }

    func isUp(_ broker: BrokerID, _ lane: PeerLane) -> Bool {
        network.isUp(place, number(of: broker), lane)
    }

    func queuedByteCount(_ broker: BrokerID, _ lane: PeerLane) -> Int {
        network.queuedByteCount(place, number(of: broker), lane)
    }
}
