package import FlotillaEnvironment
package import FlotillaModel
package import FlotillaReplication
package import Logging
package import NIOCore

/// The connections of one shard to the other brokers: two per broker, one for each lane.
///
/// A link that ends is dialled again, for as long as its peer is in the list. `linkChanged` is
/// reported in a turn of its own, never inside a call to the links. Made and used on the shard's
/// loop.
package final class ShardPeerLinks: PeerLinks {
    /// Hears when links come and go; the shard owns the links, so they do not own it.
    package weak var receiver: (any PeerReceiver)?

    private let eventLoop: any EventLoop
    private let sockets: PeerSockets
    private let settings: PeerSettings
    private let logger: Logger
    private let hello: (PeerLane) -> PeerHello
    private var random: SeededRandom
    /// Both links of each peer, in the order of `PeerLane`.
    private var links: [BrokerID: [PeerLink]] = [:]
    /// Links with something queued, in the order in which they got it.
    private var dirty: [PeerLink] = []
    private var isStopped = false

    /// Prepares the links of the shard on `eventLoop`; nothing is dialled before `setPeers`.
    ///
    /// - Parameters:
    ///   - eventLoop: the shard's loop, on which this is called.
    ///   - settings: windows and times.
    ///   - seed: of the waits between dials.
    ///   - logger: hears of peers that refuse.
    ///   - hello: what to say on a lane; asked for each dial anew, for a broker may join a cluster
    ///     meanwhile.
    package init(
        eventLoop: any EventLoop,
        settings: PeerSettings,
        seed: UInt64,
        logger: Logger,
        hello: @escaping (PeerLane) -> PeerHello
    ) {
        eventLoop.preconditionInEventLoop()
        self.eventLoop = eventLoop
        self.settings = settings
        self.logger = logger
        self.hello = hello
        sockets = PeerSockets(eventLoop: eventLoop)
        random = SeededRandom(seed: seed)
    }

    package func setPeers(_ peers: [PeerAddress]) {
        eventLoop.preconditionInEventLoop()
        guard !isStopped else { return }
        let wanted = Dictionary(peers.map { ($0.broker, $0) }) { _, last in last }
        for (broker, lanes) in links where lanes.first?.peer != wanted[broker] {
            links[broker] = nil
            for link in lanes { link.finish() }
        }
        for peer in peers where links[peer.broker] == nil {
            guard let peer = wanted[peer.broker] else { continue }
            let lanes = PeerLane.allCases.map { PeerLink(peer, $0, surroundings) }
            links[peer.broker] = lanes
            for link in lanes { link.dialNow() }
        }
    }

    @discardableResult
    package func send(_ parts: [ByteBuffer], to broker: BrokerID, on lane: PeerLane) -> Bool {
        guard let link = link(broker, lane) else { return false }
        let wasEmpty = !link.hasQueued
        guard link.send(parts) else { return false }
        if wasEmpty { dirty.append(link) }
        return true
    }

    package func flush() {
        guard !dirty.isEmpty else { return }
        let links = dirty
        dirty.removeAll(keepingCapacity: true)
        for link in links { link.flush() }
    }

    package func isUp(_ broker: BrokerID, _ lane: PeerLane) -> Bool {
        link(broker, lane)?.isUp ?? false
    }

    package func queuedByteCount(_ broker: BrokerID, _ lane: PeerLane) -> Int {
        link(broker, lane)?.heldByteCount ?? 0
    }

    /// Sockets that are open, and dials under way.
    package var socketCount: Int {
        sockets.count
    }

    package func dialNow(_ broker: BrokerID) {
        for link in links[broker] ?? [] { link.dialNow() }
    }

    /// Hangs up on all peers, for good.
    ///
    /// - Returns: when the last socket is closed.
    package func stop() -> EventLoopFuture<Void> {
        eventLoop.preconditionInEventLoop()
        isStopped = true
        dirty = []
        let ended = links
        links = [:]
        for lanes in ended.values {
            for link in lanes { link.finish() }
        }
        return sockets.close()
    }

    private func link(_ broker: BrokerID, _ lane: PeerLane) -> PeerLink? {
        links[broker]?[Int(lane.rawValue)]
    }

    private var surroundings: PeerLink.Surroundings {
        PeerLink.Surroundings(
            eventLoop: eventLoop,
            settings: settings,
            logger: logger,
            hello: hello,
            changed: { [weak self] link, incarnation, isUp in
                self?.report(link, incarnation, isUp)
            },
            backoff: { [weak self, settings] failures in
                guard let self else { return .init(settings.longestBackoff) }
                return settings.backoff(failures: failures, using: &self.random)
            },
            sockets: sockets
        )
    }

    private func report(_ link: PeerLink, _ incarnation: BrokerIncarnation, _ isUp: Bool) {
        let peer = link.peer.broker
        let lane = link.lane
        eventLoop.assumeIsolated().execute {
            self.receiver?.linkChanged(peer, incarnation: incarnation, lane: lane, isUp: isUp)
        }
    }
}

/// The sockets of one shard's links, so that a stop can wait for the last of them.
///
/// Used on its loop only.
final class PeerSockets {
    private let eventLoop: any EventLoop
    private var open: [ObjectIdentifier: any Channel] = [:]
    private var dialCount = 0
    private var closed: EventLoopPromise<Void>?

    init(eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
    }

    var count: Int {
        open.count + dialCount
    }

    func add(_ channel: any Channel) {
        let identity = ObjectIdentifier(channel)
        open[identity] = channel
        channel.closeFuture.assumeIsolated().whenComplete { _ in
            self.open[identity] = nil
            self.settle()
        }
    }

    func dialBegan() {
        dialCount += 1
    }

    func dialEnded() {
        dialCount -= 1
        settle()
    }

    /// Closes all, also those that are still being dialled.
    func close() -> EventLoopFuture<Void> {
        let closed = closed ?? eventLoop.makePromise(of: Void.self)
        self.closed = closed
        for channel in Array(open.values) { channel.close(promise: nil) }
        settle()
        return closed.futureResult
    }

    private func settle() {
        if open.isEmpty, dialCount == 0 { closed?.succeed() }
    }
}
