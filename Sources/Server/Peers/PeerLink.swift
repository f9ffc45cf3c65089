import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import Logging
import NIOCore

/// One outgoing connection: a peer, a lane, and the dialling that keeps it up.
///
/// Used on its shard's loop only.
final class PeerLink {
    private enum State {
        /// Until the next dial.
        case waiting(Scheduled<Void>?)
        /// A dial is under way.
        case dialling
        /// Connected, and the hello is not answered.
        case greeting(PeerDialHandler)
        case up(PeerDialHandler, BrokerIncarnation, since: NIODeadline)
        case finished
    }

    /// What all links of a shard share.
    struct Surroundings {
        let eventLoop: any EventLoop
        let settings: PeerSettings
        let logger: Logger
        let hello: (PeerLane) -> PeerHello
        /// The lane went up or down.
        let changed: (PeerLink, BrokerIncarnation, _ isUp: Bool) -> Void
        /// A number for the next wait.
        let backoff: (_ failures: Int) -> TimeAmount
        /// Sockets of the shard, from their making until they are closed.
        let sockets: PeerSockets
    }

    let peer: PeerAddress
    let lane: PeerLane
    private let surroundings: Surroundings
    private let windowByteCount: Int
    private var state = State.waiting(nil)
    private var failures = 0
    private var lastRefusal: String?

    private var queued: [ByteBuffer] = []
    private var queuedByteCount = 0
    /// What waited in the channel when last looked at: an upper bound, for it only shrinks until
    /// the next flush.
    private var waitingByteCount = 0

    init(_ peer: PeerAddress, _ lane: PeerLane, _ surroundings: Surroundings) {
        self.peer = peer
        self.lane = lane
        self.surroundings = surroundings
        windowByteCount = surroundings.settings.windowByteCount(lane)
    }

    // MARK: Sending

    var isUp: Bool {
        if case .up = state { true } else { false }
    }

    /// Whether a flush has something to do.
    var hasQueued: Bool {
        !queued.isEmpty
    }

    /// Queues a frame, unless the lane is down or its window is full; an empty lane takes any
    /// frame.
    func send(_ parts: [ByteBuffer]) -> Bool {
        guard case .up(let handler, _, _) = state else { return false }
        let byteCount = parts.reduce(0) { $0 + $1.readableBytes }
        assert(hasItsLength(parts, byteCount), "a frame begins with the length of the rest")
        guard byteCount - 4 <= surroundings.settings.maximumFrameByteCount else {
            surroundings.logger.error(
                "frame is larger than a peer takes; it is dropped",
                metadata: .of([.peer: peer.broker, .lane: lane, .bytes: byteCount])
            )
            return false
        }
        if exceedsWindow(byteCount) {
            waitingByteCount = handler.waitingByteCount
            if exceedsWindow(byteCount) { return false }
        }
        queued.append(contentsOf: parts)
        queuedByteCount += byteCount
        return true
    }

    private func exceedsWindow(_ byteCount: Int) -> Bool {
        let held = queuedByteCount + waitingByteCount
        return held > 0 && held + byteCount > windowByteCount
    }

    private func hasItsLength(_ parts: [ByteBuffer], _ byteCount: Int) -> Bool {
        guard let first = parts.first,
            let length = first.getInteger(
                at: first.readerIndex,
                endianness: .little,
                as: UInt32.self
            )
        else { return false }
        return Int(length) == byteCount - 4
    }

    func flush() {
        guard case .up(let handler, _, _) = state, !queued.isEmpty else { return }
        for part in queued where part.readableBytes > 0 { handler.write(part) }
        queued.removeAll(keepingCapacity: queued.capacity <= 4096)
        queuedByteCount = 0
        handler.flush()
        // The flush may have found the connection broken.
        waitingByteCount = isUp ? handler.waitingByteCount : 0
    }

    /// Bytes taken that have not left.
    var heldByteCount: Int {
        guard case .up(let handler, _, _) = state else { return 0 }
        if waitingByteCount > 0 {
            waitingByteCount = handler.waitingByteCount
        }
        return queuedByteCount + waitingByteCount
    }

    // MARK: Dialling

    /// Dials now, if the link waits for its time to do so.
    func dialNow() {
        guard case .waiting(let timer) = state else { return }
        timer?.cancel()
        dial()
    }

    private func waited() {
        // A timer that is cancelled in the turn in which it is due still fires.
        guard case .waiting = state else { return }
        dial()
    }

    private func dial() {
        state = .dialling
        let this = NIOLoopBound(self, eventLoop: surroundings.eventLoop)
        let sockets = NIOLoopBound(surroundings.sockets, eventLoop: surroundings.eventLoop)
        surroundings.sockets.dialBegan()
        PeerDialler.dial(peer.address, surroundings.settings, on: surroundings.eventLoop) {
            channel in
            guard case .dialling = this.value.state else {
                throw PeerLinkError.hungUp(this.value.peer.address)
            }
            sockets.value.add(channel)
        }
        .assumeIsolated().whenComplete { result in
            self.dialled(result)
            self.surroundings.sockets.dialEnded()
        }
    }

    private func dialled(_ result: Result<any Channel, any Error>) {
        guard case .dialling = state else {
            if case .success(let channel) = result { channel.close(promise: nil) }
            return
        }
        switch result {
        case .failure(let error):
            failed(PeerLinkError(dialling: peer.address, error))
        case .success(let channel):
            let handler = PeerDialHandler(
                surroundings.hello(lane),
                to: peer.address,
                helloTimeout: surroundings.settings.helloTimeout,
                answered: { self.answered($0) },
                ended: { self.failed($0) }
            )
            state = .greeting(handler)
            handler.begin(on: channel)
        }
    }

    private func answered(_ answer: PeerHelloAnswer) {
        guard case .greeting(let handler) = state else { return }
        switch answer.verdict {
        case .refused(let sentence):
            handler.hangUp(.refused(peer.address, sentence: sentence))
        case .notYet(let sentence):
            handler.hangUp(.notYet(peer.address, sentence: sentence))
        case .accepted where answer.broker != peer.broker:
            handler.hangUp(
                .anotherBroker(
                    peer.address,
                    wanted: peer.broker.rawValue,
                    found: answer.broker.rawValue
                )
            )
        case .accepted:
            state = .up(handler, answer.incarnation, since: .now())
            lastRefusal = nil
            surroundings.logger.debug(
                "peer link is up",
                metadata: .of([.peer: peer.broker, .lane: lane, .address: peer.address])
            )
            surroundings.changed(self, answer.incarnation, true)
        }
    }

    /// The dial failed, or the connection ended.
    private func failed(_ error: PeerLinkError) {
        let ended = state
        dropQueue()
        if case .up(_, _, let since) = ended,
            since + .init(surroundings.settings.longestBackoff) <= .now()
        {
            failures = 0
        }
        let delay: TimeAmount
        if case .notYet = error {
            // It is there, and will be ready soon.
            delay = surroundings.backoff(1)
        } else {
            failures += 1
            delay = surroundings.backoff(failures)
        }
        if case .finished = ended {
            return
        }
        report(error)
        state = .waiting(
            surroundings.eventLoop.assumeIsolated().scheduleTask(in: delay) { self.waited() }
        )
        if case .up(_, let incarnation, _) = ended {
            surroundings.changed(self, incarnation, false)
        }
    }

    /// A peer that is down is everyday; one that refuses wants a person, once per reason.
    private func report(_ error: PeerLinkError) {
        switch error {
        case .refused, .anotherBroker, .unintelligible, .noAnswer:
            let description = error.description
            guard description != lastRefusal else { return }
            lastRefusal = description
            surroundings.logger.warning(
                "peer does not take the connection; it will be tried again",
                metadata: .of([.peer: peer.broker, .lane: lane, .error: description])
            )
        case .unreachable, .notYet, .closed, .broken, .hungUp:
            surroundings.logger.debug(
                "peer link is down",
                metadata: .of([.peer: peer.broker, .lane: lane, .error: error])
            )
        }
    }

    private func dropQueue() {
        queued = []
        queuedByteCount = 0
        waitingByteCount = 0
    }

    // MARK: End

    /// Hangs up for good.
    func finish() {
        let ended = state
        state = .finished
        dropQueue()
        switch ended {
        case .waiting(let timer):
            timer?.cancel()
        case .dialling, .finished:
            break
        case .greeting(let handler):
            handler.hangUp(.hungUp(peer.address))
        case .up(let handler, let incarnation, _):
            handler.hangUp(.hungUp(peer.address))
            surroundings.changed(self, incarnation, false)
        }
    }
}
