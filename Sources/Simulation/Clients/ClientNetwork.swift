import DequeModule
import FlotillaBroker
import FlotillaEnvironment
import struct NIOCore.ByteBuffer

/// The connections between clients and brokers.
final class ClientNetwork {
    /// A client's connection; dead for good once it has ended.
    private final class Wire: FrameSink {
        let broker: Int
        let life: Int
        var connection: Connection?
        let number: Int
        /// The shard that serves it.
        let shard: Int
        unowned let network: ClientNetwork
        unowned let client: SimulatedClient
        var requests: Deque<ByteBuffer> = []
        var answers: Deque<ByteBuffer> = []
        var unflushed = ByteBuffer()
        var lastRequest = Instant.start
        var lastAnswer = Instant.start
        var isOpen = true
        var isPaused = false
        /// Whether requests stand still on their way.
        var areRequestsCut = false
        /// Whether answers stand still on their way.
        var areAnswersCut = false
        /// The bytes that the client has yet to take.
        var untakenByteCount = 0
        /// Why the connection ended, where the broker has yet to learn of it.
        var endUnknownToBroker: CloseReason?
        /// Whether the client has yet to learn that the connection ended.
        var isEndUnknownToClient = false

        init(
            _ target: SimulatedBroker,
            shard: Int,
            number: Int,
            network: ClientNetwork,
            client: SimulatedClient
        ) {
            broker = target.number
            life = target.life
            self.shard = shard
            self.number = number
            self.network = network
            self.client = client
        }

        func write(_ parts: [OutputPart]) {
            for part in parts {
                guard case .bytes(let bytes) = part else {
                    preconditionFailure("a disk in memory has no descriptors")
                }
                unflushed.writeImmutableBuffer(bytes)
            }
        }

        func flush() {
            guard unflushed.readableBytes > 0 else { return }
            answers.append(unflushed)
            untakenByteCount += unflushed.readableBytes
            unflushed = ByteBuffer()
            network.depart(self)
        }

        func close(_ reason: CloseReason) { network.end(self, reason, isFirstKnownToBroker: true) }

        func pauseReading() { isPaused = true }

        func resumeReading() {
            isPaused = false
            network.resume(self)
        }

        /// A client that takes no output has its answers wait at the broker, as a full socket has.
        var isWritable: Bool { untakenByteCount < ClientNetwork.socketByteCount }

        var peerAddress: NetworkAddress { NetworkAddress(host: "client", port: 40_000 + number) }

        var localAddress: NetworkAddress { NetworkAddress(host: "broker", port: 9092) }
    }

    /// Which clients a broker is cut off from, by name; each is drawn once.
    private struct Cut {
        /// How many of a hundred.
        var percent: Int
        var isCut: [String: Bool] = [:]
    }

    private unowned let world: World
    private var wires: [Wire] = []
    /// The brokers that some clients do not reach.
    private var cuts: [Int: Cut] = [:]
    /// What slows a broker's connections to clients down.
    var slowness: [Int: Duration] = [:]
    /// The bytes of answers from which a connection takes no more.
    fileprivate static let socketByteCount = 256 << 10

    init(world: World) {
        self.world = world
    }

    // MARK: The clients' side

    /// Connects to a broker; nil when nobody answers there.
    func connect(_ client: SimulatedClient, to broker: Int) -> Int? {
        let target = world.brokers[broker]
        guard target.isUp, !target.isPaused else { return nil }
        guard !isCut(client, from: broker) else { return nil }
        let wire = Wire(
            target,
            shard: world.random.draw(0...(target.shards.count - 1)),
            number: wires.count,
            network: self,
            client: client
        )
        wire.connection = Connection(shard: target.shards[wire.shard], sink: wire)
        wires.append(wire)
        return wire.number
    }

    /// Sends a request, without its length.
    func send(_ frame: ByteBuffer, on number: Int) {
        let wire = wires[number]
        guard wire.isOpen else { return }
        wire.requests.append(frame)
        wire.lastRequest = max(wire.lastRequest, world.now + delay(wire) + lateness(wire))
        world.schedule(.request(connection: number), at: wire.lastRequest)
    }

    /// A client gives a connection up.
    func close(_ number: Int) {
        end(wires[number], .peerClosed, isFirstKnownToBroker: false)
    }

    func broker(of number: Int) -> Int? {
        wires[number].isOpen ? wires[number].broker : nil
    }

    /// The request that arrives next, for whoever tells what happened.
    func nextRequest(_ number: Int) -> ByteBuffer? { wires[number].requests.first }

    /// The bytes that a client gets next.
    func nextAnswer(_ number: Int) -> ByteBuffer? { wires[number].answers.first }

    // MARK: What happens

    func requestArrives(_ number: Int) {
        let wire = wires[number]
        guard wire.isOpen, isAlive(wire), !wire.isPaused, !wire.areRequestsCut,
            !wire.requests.isEmpty
        else { return }
        let frame = wire.requests.removeFirst()
        wire.connection?.receive(frame: frame)
        if wire.isOpen { wire.connection?.readRoundEnded() }
    }

    func answerArrives(_ number: Int) {
        let wire = wires[number]
        guard wire.isOpen, !wire.areAnswersCut, !wire.answers.isEmpty else { return }
        let answer = wire.answers.removeFirst()
        let wasWritable = wire.isWritable
        wire.untakenByteCount -= answer.readableBytes
        if wire.isWritable, !wasWritable { becomesWritable(wire) }
        wire.client.received(answer, on: number)
    }

    private func becomesWritable(_ wire: Wire) {
        world.act("connection \(wire.number) has room", after: .zero) { [unowned self] in
            guard wire.isOpen, self.isAlive(wire) else { return }
            self.world.brokers[wire.broker].run("connection has room") { _ in
                if wire.isOpen { wire.connection?.writabilityChanged(true) }
            }
        }
    }

    private func depart(_ wire: Wire) {
        guard wire.isOpen else { return }
        wire.lastAnswer = max(wire.lastAnswer, world.now + delay(wire))
        world.schedule(.answer(connection: wire.number), at: wire.lastAnswer)
    }

    /// How long bytes are on their way.
    private func delay(_ wire: Wire) -> Duration {
        let delay = world.networkDelay()
        return slowness[wire.broker].map { delay + $0 } ?? delay
    }

    /// How late the broker's shard takes what arrives.
    private func lateness(_ wire: Wire) -> Duration {
        guard isAlive(wire) else { return .zero }
        return world.brokers[wire.broker].environments[wire.shard].lateness()
    }

    private func resume(_ wire: Wire) {
        for _ in wire.requests { world.schedule(.request(connection: wire.number), after: .zero) }
    }

    private func isAlive(_ wire: Wire) -> Bool {
        world.brokers[wire.broker].isUp && world.brokers[wire.broker].life == wire.life
    }

    /// Ends a connection; across a cut the far end learns of it only when the way is free again.
    private func end(_ wire: Wire, _ reason: CloseReason, isFirstKnownToBroker: Bool) {
        guard wire.isOpen else { return }
        wire.isOpen = false
        if wire.areRequestsCut, !isFirstKnownToBroker {
            wire.endUnknownToBroker = reason
        } else {
            tellBroker(of: wire, reason)
        }
        if wire.areAnswersCut, isFirstKnownToBroker {
            wire.isEndUnknownToClient = true
        } else {
            tellClient(of: wire)
        }
    }

    private func tellBroker(of wire: Wire, _ reason: CloseReason) {
        let connection = wire.connection
        wire.connection = nil
        wire.endUnknownToBroker = nil
        guard isAlive(wire) else { return }
        // Not in the middle of the broker's own step.
        world.act("connection \(wire.number) ends", after: .zero) { [unowned self] in
            guard self.isAlive(wire) else { return }
            self.world.brokers[wire.broker].run("connection ends") { _ in
                connection?.connectionClosed(reason)
            }
        }
    }

    private func tellClient(of wire: Wire) {
        wire.isEndUnknownToClient = false
        world.act("client learns of it", after: world.networkDelay()) {
            wire.client.disconnected(wire.number)
        }
    }

    /// A broker's process is about to end: nothing in it is to wait for clients, since who waits and what is waited for hold each other.
    func letGo(of broker: Int) {
        for wire in wires where wire.broker == broker && isAlive(wire) {
            wire.connection?.connectionClosed(.socketError)
            wire.connection = nil
        }
    }

    func brokerDied(_ broker: Int) {
        for wire in wires where wire.broker == broker {
            end(wire, .socketError, isFirstKnownToBroker: true)
        }
    }

    /// Resets one connection in so many.
    func resetSome(percent: Int) {
        for wire in wires where wire.isOpen && world.random.chance(percent) {
            end(wire, .socketError, isFirstKnownToBroker: true)
        }
    }

    // MARK: Cuts

    /// Nothing gets through between a broker and some of its clients any more, in these directions; what is on its way stands still,
    /// until the client gives the connection up.
    ///
    /// `percent`: how many of a hundred clients are cut off, those that connect meanwhile included.
    func cut(_ broker: Int, percent: Int, requests: Bool, answers: Bool) {
        if cuts[broker] == nil { cuts[broker] = Cut(percent: percent) }
        for wire in wires
        where wire.broker == broker && wire.isOpen && isCut(wire.client, from: broker) {
            wire.areRequestsCut = wire.areRequestsCut || requests
            wire.areAnswersCut = wire.areAnswersCut || answers
        }
    }

    private func isCut(_ client: SimulatedClient, from broker: Int) -> Bool {
        guard let cut = cuts[broker] else { return false }
        if let known = cut.isCut[client.name] { return known }
        let isCut = world.random.chance(cut.percent)
        cuts[broker]?.isCut[client.name] = isCut
        return isCut
    }

    /// A broker and its clients reach each other again, and learn of what ended meanwhile.
    func heal(_ broker: Int) {
        guard cuts.removeValue(forKey: broker) != nil else { return }
        for wire in wires
        where wire.broker == broker && (wire.areRequestsCut || wire.areAnswersCut) {
            wire.areRequestsCut = false
            wire.areAnswersCut = false
            if let reason = wire.endUnknownToBroker { tellBroker(of: wire, reason) }
            if wire.isEndUnknownToClient { tellClient(of: wire) }
            guard wire.isOpen else { continue }
            resume(wire)
            for _ in wire.answers {
                world.schedule(.answer(connection: wire.number), after: .zero)
            }
        }
    }
}
