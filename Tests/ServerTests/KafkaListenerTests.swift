import FlotillaEnvironment
import FlotillaServer
import NIOCore
import NIOPosix
import Synchronization
import Testing

/// What the connections of a listener saw, collected over all loops.
private final class Journal: Sendable {
    let closed = Mutex<[CloseReason]>([])
    let writability = Mutex<[Bool]>([])
    let received = Counter()
    let receivedAtResume = Mutex(0)
    let mayHold = Mutex(false)
    /// Whether the receivers answer what they have when the broker stops; nil while they have nothing.
    let answersLast = Mutex<Bool?>(nil)
    /// How many receivers were told that the broker stops.
    let drained = Counter()
    let addresses = Mutex<[(peer: NetworkAddress, local: NetworkAddress)]>([])
}

/// Echoes each frame with its length in front; the first byte of a frame may be a command instead.
private final class EchoReceiver: FrameReceiver {
    private unowned let sink: any FrameSink
    private let journal: Journal
    private let eventLoop: any EventLoop
    private let file: (any DiskFile)?

    init(sink: any FrameSink, eventLoop: any EventLoop, journal: Journal, file: (any DiskFile)?) {
        self.sink = sink
        self.journal = journal
        self.eventLoop = eventLoop
        self.file = file
        journal.addresses.withLock { $0.append((sink.peerAddress, sink.localAddress)) }
    }

    func receive(frame: ByteBuffer) {
        eventLoop.preconditionInEventLoop()
        journal.received.increment()
        switch frame.readableBytesView.first {
        case UInt8(ascii: "!"):
            sink.close(.malformedRequest)
        case UInt8(ascii: "P"):
            sink.pauseReading()
            eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(100)) {
                self.journal.receivedAtResume.withLock { $0 = self.journal.received.value }
                self.sink.resumeReading()
            }
        case UInt8(ascii: "H"):
            // Meanwhile the peer says all it has to say, and closes.
            while !journal.mayHold.withLock(\.self) { pauseBriefly() }
            sink.pauseReading()
        case UInt8(ascii: "F"):
            sendFile()
        case UInt8(ascii: "B"):
            sink.write([.bytes(ByteBuffer(repeating: 1, count: 8 << 20))])
        default:
            sink.write([.bytes(ByteBuffer(integer: Int32(frame.readableBytes))), .bytes(frame)])
        }
    }

    private func sendFile() {
        guard let file, let descriptor = file.descriptor else {
            return
        }
        let part = OutputPart.file(
            descriptor: descriptor,
            position: 4,
            byteCount: 100_000,
            owner: file
        )
        sink.write([.bytes(ByteBuffer(integer: Int32(100_000))), part])
    }

    func drain() -> Bool {
        guard journal.answersLast.withLock(\.self) != nil else { return false }
        journal.drained.increment()
        answerLast()
        return true
    }

    private func answerLast() {
        guard journal.answersLast.withLock(\.self) == true else {
            eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(10)) { [weak self] in
                self?.answerLast()
            }
            return
        }
        sink.write([.bytes(ByteBuffer(integer: Int32(4))), .bytes(ByteBuffer(string: "last"))])
        sink.flush()
        sink.close(.shutdown)
    }

    func readRoundEnded() {
        sink.flush()
    }

    func writabilityChanged(_ isWritable: Bool) {
        journal.writability.withLock { $0.append(isWritable) }
    }

    func connectionClosed(_ reason: CloseReason) {
        journal.closed.withLock { $0.append(reason) }
    }
}

@Suite("The Kafka listener", .serialized)
struct KafkaListenerTests {
    private func withListener(
        limits: ConnectionLimits = ConnectionLimits(),
        census: ConnectionCensus = ConnectionCensus(maximum: 100, maximumPerHost: 100),
        file: (any DiskFile)? = nil,
        host: String = "127.0.0.1",
        _ body: (KafkaListener, Journal) async throws -> Void
    ) async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
        let journal = Journal()
        let listener = try await KafkaListener.bind(
            to: NetworkAddress(host: host, port: 0),
            group: group,
            limits: limits,
            census: census
        ) { eventLoop, sink in
            EchoReceiver(sink: sink, eventLoop: eventLoop, journal: journal, file: file)
        }
        try await body(listener, journal)
        try await listener.stopAccepting()
        await listener.closeConnections(.shutdown)
        try waitUntil { census.openCount == 0 }
        try await group.shutdownGracefully()
    }

    @Test("When the broker stops, a peer that goes on sending is answered and let go")
    func drains() async throws {
        var limits = ConnectionLimits()
        limits.drainTimeout = .seconds(60)
        try await withListener(limits: limits) { listener, journal in
            journal.answersLast.withLock { $0 = false }
            let client = try RawClient(port: listener.address.port)
            try client.send(RawClient.prefix(1) + Array("a".utf8))
            #expect(try client.receiveFrame() == Array("a".utf8))
            async let closed: Void = listener.closeConnections(.shutdown)
            // The broker has stopped reading when it has taken in the event; what follows stays with the kernel.
            while journal.drained.value == 0 { try await Task.sleep(for: .milliseconds(5)) }
            let received = journal.received.value
            try client.send(RawClient.prefix(1) + Array("b".utf8))
            journal.answersLast.withLock { $0 = true }
            #expect(try client.receiveFrame() == Array("last".utf8))
            await closed
            #expect(journal.received.value == received)
            #expect(journal.closed.withLock(\.self) == [.shutdown])
        }
    }

    @Test("A receiver that is never done keeps the broker for the drain timeout, no longer")
    func drainTimeout() async throws {
        var limits = ConnectionLimits()
        limits.drainTimeout = .milliseconds(200)
        try await withListener(limits: limits) { listener, journal in
            journal.answersLast.withLock { $0 = false }
            let client = try RawClient(port: listener.address.port)
            try client.send(RawClient.prefix(1) + Array("a".utf8))
            #expect(try client.receiveFrame() == Array("a".utf8))
            let start = ContinuousClock.now
            await listener.closeConnections(.shutdown)
            #expect(ContinuousClock.now - start < .seconds(3))
            #expect(journal.closed.withLock(\.self) == [.shutdown])
        }
    }

    @Test("Port 0 picks one, and pipelined frames are answered in order")
    func pipelining() async throws {
        try await withListener { listener, _ in
            #expect(listener.address.port > 0)
            let client = try RawClient(port: listener.address.port)
            let frames = (0..<200).map { Array("frame \($0)".utf8) }
            try client.send(frames.flatMap { RawClient.prefix($0.count) + $0 })
            for frame in frames {
                #expect(try client.receiveFrame() == frame)
            }
        }
    }

    @Test("What was held back is still handed over when the peer closes")
    func closedWhileHeldBack() async throws {
        try await withListener { listener, journal in
            let client = try RawClient(port: listener.address.port)
            try client.send(frame: Array("Hold".utf8))
            try waitUntil { journal.received.value == 1 }
            for _ in 0..<20 {
                try client.send(frame: Array(repeating: 1, count: 1_000))
            }
            try client.send(RawClient.prefix(10) + [1, 2, 3])
            try client.close()
            journal.mayHold.withLock { $0 = true }
            try waitUntil { !journal.closed.withLock { $0.isEmpty } }
            #expect(journal.closed.withLock { $0 } == [.peerClosed])
            #expect(journal.received.value == 21)
        }
    }

    @Test("A frame of several megabytes goes there and back")
    func largeFrame() async throws {
        try await withListener { listener, _ in
            let client = try RawClient(port: listener.address.port)
            let frame = (0..<6_000_000).map { UInt8(truncatingIfNeeded: $0 &* 13) | 0x80 }
            try client.send(frame: frame)
            #expect(try client.receiveFrame() == frame)
        }
    }

    @Test("Bytes that drip in one by one are still a frame")
    func drip() async throws {
        try await withListener { listener, _ in
            let client = try RawClient(port: listener.address.port)
            for byte in RawClient.prefix(5) + Array("drops".utf8) {
                try client.send([byte])
                pauseBriefly()
            }
            #expect(try client.receiveFrame() == Array("drops".utf8))
        }
    }

    @Test("A length beyond the limit closes the connection", arguments: [-5, 1001, 0x4745_5420])
    func hugeLength(length: Int) async throws {
        var limits = ConnectionLimits()
        limits.maximumFrameByteCount = 1000
        try await withListener(limits: limits) { listener, journal in
            let client = try RawClient(port: listener.address.port)
            try client.send(RawClient.prefix(length) + [1, 2, 3])
            #expect(try client.isClosedByPeer())
            try waitUntil { journal.closed.withLock { $0 } == [.frameTooLarge] }
        }
    }

    @Test("A range of a file leaves between bytes, more than once from one descriptor")
    func sendfile() async throws {
        let scratch = try Scratch()
        let file = try scratch.disk.open(scratch.file("segment"), .create)
        let bytes = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 >> 3) }
        try file.write([ByteBuffer(bytes: bytes)], at: 0)
        try await withListener(file: file) { listener, _ in
            let clients = try (0..<3).map { _ in try RawClient(port: listener.address.port) }
            for client in clients {
                try client.send(frame: [UInt8(ascii: "F")])
                try client.send(frame: [UInt8(ascii: "F")])
                try client.send(frame: Array("after".utf8))
            }
            for client in clients {
                #expect(try client.receiveFrame() == Array(bytes[4..<100_004]))
                #expect(try client.receiveFrame() == Array(bytes[4..<100_004]))
                #expect(try client.receiveFrame() == Array("after".utf8))
            }
        }
        #expect(try file.read(at: 0, count: 4).readableBytes == 4)
    }

    @Test("A connection that is paused takes no frame, and afterwards takes them all in order")
    func pausing() async throws {
        try await withListener { listener, journal in
            let client = try RawClient(port: listener.address.port)
            try client.send(frame: [UInt8(ascii: "P")])
            for number in 0..<5 {
                try client.send(frame: Array("frame \(number)".utf8))
            }
            for number in 0..<5 {
                #expect(try client.receiveFrame() == Array("frame \(number)".utf8))
            }
            #expect(journal.receivedAtResume.withLock { $0 } == 1)
        }
    }

    @Test("A peer that does not read stops being served, and is served again when it reads")
    func slowReader() async throws {
        try await withListener { listener, journal in
            let client = try RawClient(port: listener.address.port, bound: 65536)
            for _ in 0..<10 {
                try client.send(frame: [UInt8(ascii: "B")])
            }
            try waitUntil { journal.writability.withLock { $0.first } == false }
            try await Task.sleep(for: .milliseconds(50))
            #expect(journal.received.value < 10)
            #expect(try client.receive(80 << 20).count == 80 << 20)
            try waitUntil { journal.received.value == 10 }
            #expect(journal.writability.withLock { $0.contains(true) })
        }
    }

    @Test("Answers written before a close still arrive")
    func closing() async throws {
        try await withListener { listener, journal in
            let client = try RawClient(port: listener.address.port)
            try client.send(
                RawClient.prefix(2) + [7, 8] + RawClient.prefix(1) + [UInt8(ascii: "!")]
            )
            #expect(try client.receiveFrame() == [7, 8])
            #expect(try client.isClosedByPeer())
            try waitUntil { journal.closed.withLock { $0 } == [.malformedRequest] }
        }
    }

    @Test("An idle connection is closed, and so is one whose request never becomes whole")
    func idle() async throws {
        var limits = ConnectionLimits()
        limits.idleTimeout = .milliseconds(200)
        try await withListener(limits: limits) { listener, journal in
            let silent = try RawClient(port: listener.address.port)
            let dripping = try RawClient(port: listener.address.port)
            try dripping.send(RawClient.prefix(1000))
            for byte in 0..<10 {
                try await Task.sleep(for: .milliseconds(50))
                do {
                    try dripping.send([UInt8(byte)])
                } catch {
                    break
                }
            }
            #expect(try silent.isClosedByPeer())
            #expect(try dripping.isClosedByPeer())
            try waitUntil { journal.closed.withLock { $0 } == [.idle, .idle] }
        }
    }

    @Test("A connection in use outlives the idle timeout")
    func busy() async throws {
        var limits = ConnectionLimits()
        limits.idleTimeout = .milliseconds(600)
        try await withListener(limits: limits) { listener, journal in
            let client = try RawClient(port: listener.address.port)
            for _ in 0..<16 {
                try await Task.sleep(for: .milliseconds(60))
                try client.send(frame: [1])
                #expect(try client.receiveFrame() == [1])
            }
            #expect(journal.closed.withLock { $0.isEmpty })
        }
    }

    @Test(
        "Connections beyond the limit of a host are refused, and there is room again when one leaves"
    )
    func perHostLimit() async throws {
        let census = ConnectionCensus(maximum: 100, maximumPerHost: 2)
        try await withListener(census: census) { listener, _ in
            var clients = try (0..<2).map { _ in try RawClient(port: listener.address.port) }
            for client in clients {
                try client.send(frame: [1])
                #expect(try client.receiveFrame() == [1])
            }
            let third = try RawClient(port: listener.address.port)
            #expect(try third.isClosedByPeer())
            #expect(census.refusedCount == 1)
            clients.removeLast()
            try waitUntil { census.openCount == 1 }
            #expect(census.closedCount(.peerClosed) == 1)
            let fourth = try RawClient(port: listener.address.port)
            try fourth.send(frame: [1])
            #expect(try fourth.receiveFrame() == [1])
        }
    }

    @Test("Connections beyond the limit of the broker are refused")
    func totalLimit() async throws {
        let census = ConnectionCensus(maximum: 1, maximumPerHost: 100)
        try await withListener(census: census) { listener, _ in
            let first = try RawClient(port: listener.address.port)
            try first.send(frame: [1])
            #expect(try first.receiveFrame() == [1])
            #expect(try RawClient(port: listener.address.port).isClosedByPeer())
        }
    }

    @Test("An IPv4 client of a listener on every address is seen under its IPv4 address")
    func mappedAddresses() async throws {
        try await withListener(host: "") { listener, journal in
            let client = try RawClient(port: listener.address.port)
            try client.send(frame: [1])
            #expect(try client.receiveFrame() == [1])
            let seen = journal.addresses.withLock { $0.first }
            #expect(seen?.peer.host == "127.0.0.1")
            #expect(seen?.local == NetworkAddress(host: "127.0.0.1", port: listener.address.port))
        }
    }

    @Test("A port in use is an error")
    func portInUse() async throws {
        try await withListener { listener, _ in
            await #expect(throws: (any Error).self) {
                try await withListener(host: "", port: listener.address.port)
            }
        }
    }

    private func withListener(host: String, port: Int) async throws {
        let group = MultiThreadedEventLoopGroup.singleton
        let listener = try await KafkaListener.bind(
            to: NetworkAddress(host: host, port: port),
            group: group,
            limits: ConnectionLimits(),
            census: ConnectionCensus(maximum: 1, maximumPerHost: 1)
        ) { eventLoop, sink in
            EchoReceiver(sink: sink, eventLoop: eventLoop, journal: Journal(), file: nil)
        }
        try await listener.stopAccepting()
    }
}
