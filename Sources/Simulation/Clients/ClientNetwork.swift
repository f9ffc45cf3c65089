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
        unowned let network: ClientNetwork
        unowned let client: SimulatedClient
        var requests: Deque<ByteBuffer> = []
        var answers: Deque<ByteBuffer> = []
        var unflushed = ByteBuffer()
        var lastRequest = Instant.start
        var lastAnswer = Instant.start
        var isOpen = true
        var isPaused = false

        init(_ broker: Int, life: Int, number: Int, network: ClientNetwork, client: SimulatedClient)
        {
            self.broker = broker
            self.life = life
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
            unflushed = ByteBuffer()
            network.depart(self)
        }

        func close(_ reason: CloseReason) { network.end(self, reason) }

        func pauseReading() { isPaused = true }

        func resumeReading() {
            isPaused = false
            network.resume(self)
        }

        let isWritable = true

        var peerAddress: NetworkAddress { NetworkAddress(host: "client", port: 40_000 + number) }

        var localAddress: NetworkAddress { NetworkAddress(host: "broker", port: 9092) }
    }

    private unowned let world: World
    private var wires: [Wire] = []

    init(world: World) {
        self.world = world
    }

    // MARK: The clients' side

    /// Connects to a broker; nil when nobody answers there.
    func connect(_ client: SimulatedClient, to broker: Int) -> Int? {
        let target = world.brokers[broker]
        guard target.isUp, !target.isPaused else { return nil }
        let wire = Wire(
            broker,
            life: target.life,
            number: wires.count,
            network: self,
            client: client
        )
        let shard = target.shards[world.random.draw(0...(target.shards.count - 1))]
        wire.connection = Connection(shard: shard, sink: wire)
        wires.append(wire)
        return wire.number
    }

    /// Sends a request, without its length.
    func send(_ frame: ByteBuffer, on number: Int) {
        let wire = wires[number]
        guard wire.isOpen else { return }
        wire.requests.append(frame)
        wire.lastRequest = max(wire.lastRequest, world.now + world.networkDelay())
        world.schedule(.request(connection: number), at: wire.lastRequest)
    }

    /// A client gives a connection up.
    func close(_ number: Int) {
        end(wires[number], .peerClosed)
    }

    func broker(of number: Int) -> Int? {
        wires[number].isOpen ? wires[number].broker : nil
    }

    // MARK: What happens

    func requestArrives(_ number: Int) {
        let wire = wires[number]
        guard wire.isOpen, isAlive(wire), !wire.isPaused, !wire.requests.isEmpty else { return }
        let frame = wire.requests.removeFirst()
        wire.connection?.receive(frame: frame)
        if wire.isOpen { wire.connection?.readRoundEnded() }
    }

    func answerArrives(_ number: Int) {
        let wire = wires[number]
        guard wire.isOpen, !wire.answers.isEmpty else { return }
        wire.client.received(wire.answers.removeFirst(), on: number)
    }

    private func depart(_ wire: Wire) {
        guard wire.isOpen else { return }
        wire.lastAnswer = max(wire.lastAnswer, world.now + world.networkDelay())
        world.schedule(.answer(connection: wire.number), at: wire.lastAnswer)
    }

    private func resume(_ wire: Wire) {
        for _ in wire.requests { world.schedule(.request(connection: wire.number), after: .zero) }
    }

    private func isAlive(_ wire: Wire) -> Bool {
        world.brokers[wire.broker].isUp && world.brokers[wire.broker].life == wire.life
    }

    private func end(_ wire: Wire, _ reason: CloseReason) {
        guard wire.isOpen else { return }
        wire.isOpen = false
        let connection = wire.connection
        wire.connection = nil
        if isAlive(wire) {
            // Not in the middle of the broker's own step.
            world.act("connection \(wire.number) ends", after: .zero) { [unowned self] in
                guard self.isAlive(wire) else { return }
                self.world.brokers[wire.broker].run("connection ends") { _ in
                    connection?.connectionClosed(reason)
                }
            }
        }
        world.act("client learns of it", after: world.networkDelay()) {
            wire.client.disconnected(wire.number)
        }
    }

    /// A broker's process is about to end: nothing in it is to wait for clients, since who waits and what is waited for hold each other.
    func letGo(of broker: Int) {
        for wire in wires where wire.broker == broker && wire.isOpen && isAlive(wire) {
            wire.connection?.connectionClosed(.socketError)
            wire.connection = nil
        }
    }

    func brokerDied(_ broker: Int) {
        for wire in wires where wire.broker == broker { end(wire, .socketError) }
    }

    /// Resets one connection in so many.
    func resetSome(percent: Int) {
        for wire in wires where wire.isOpen && world.random.chance(percent) {
            end(wire, .socketError)
        }
    }
}
