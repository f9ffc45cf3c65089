import FlotillaBroker
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import struct NIOCore.ByteBuffer

/// A Kafka client on a wire of two buffers: real request bytes in, real response bytes out.
final class TestClient {
    private let run: () -> Void
    private let wire: TestWire
    private var nextCorrelationID: Int32 = 100

    /// `run`: lets everything happen that needs no time.
    init(wire: TestWire, run: @escaping () -> Void) {
        self.run = run
        self.wire = wire
    }

    // MARK: Requests

    /// Puts a request on the wire; it arrives with the next `run()`.
    @discardableResult
    func send<Request: KafkaRequest>(_ request: Request, version: Int16) throws -> Int32 {
        nextCorrelationID += 1
        var frame = try request.frame(
            version: version,
            correlationId: nextCorrelationID,
            clientId: "test"
        ).contiguousBytes()
        frame.moveReaderIndex(forwardBy: FrameLength.byteCount)
        wire.incoming.append(frame)
        return nextCorrelationID
    }

    /// Puts any bytes on the wire as a frame.
    func send(bytes: ByteBuffer) { wire.incoming.append(bytes) }

    /// Sends a request, lets the broker work, and reads the answer.
    func ask<Request: KafkaRequest>(
        _ request: Request,
        version: Int16
    ) throws -> Request.Response {
        let id = try send(request, version: version)
        run()
        return try answer(to: Request.self, version: version, id: id)
    }

    /// The next answer, which must be the one to the request with this id.
    func answer<Request: KafkaRequest>(
        to request: Request.Type,
        version: Int16,
        id: Int32
    ) throws -> Request.Response {
        guard var frame = nextFrame() else { throw TestFailure("no answer to \(Request.name)") }
        let header = try ResponseHeader(
            consuming: &frame,
            api: Request.apiKey,
            version: version
        )
        guard header.correlationId == id else {
            throw TestFailure("answer \(header.correlationId) came instead of \(id)")
        }
        return try Request.Response(from: frame, version: version)
    }

    /// The next complete frame without its length, if there is one.
    private func nextFrame() -> ByteBuffer? {
        let output = wire.sink.output
        guard let length = output.getInteger(at: output.readerIndex, as: Int32.self),
            output.readableBytes >= 4 + Int(length)
        else { return nil }
        wire.sink.output.moveReaderIndex(forwardBy: 4)
        return wire.sink.output.readSlice(length: Int(length))
    }

    /// Whether anything came that was not read.
    var hasAnswer: Bool { wire.sink.output.readableBytes > 0 }

    /// What came and was not read.
    var unread: ByteBuffer { wire.sink.output }

    /// The frames that wait because reading is stopped.
    var waitingCount: Int { wire.incoming.count }

    /// Whether the broker has stopped reading.
    var isPaused: Bool { wire.sink.isPaused }

    /// The number of times that the broker stopped reading.
    var pauseCount: Int { wire.sink.pauseCount }

    /// Why the connection is closed, if it is.
    var closeReason: CloseReason? { wire.sink.closeReason }

    // MARK: Manners

    /// The client goes away.
    ///
    /// What it had sent is still handed over, also where reading had stopped.
    func hangUp() {
        wire.sink.closeReason = .peerClosed
        wire.deliverRest()
        wire.connection.connectionClosed(.peerClosed)
    }

    /// The client does not read answers larger than this until it is made writable again.
    func readSlowly(above byteCount: Int) { wire.sink.outputHighMark = byteCount }

    /// The broker stops.
    func drain() {
        wire.isDraining = wire.connection.drain()
    }

    /// The client stops reading its answers, or takes it up again.
    func setWritable(_ isWritable: Bool) {
        wire.sink.isWritable = isWritable
        wire.connection.writabilityChanged(isWritable)
    }
}

/// A connection with what is on its way to the broker.
final class TestWire {
    var incoming: [ByteBuffer] = []
    let connection: Connection
    let sink = TestSink()
    /// Whether nothing more is handed over because the broker stops.
    var isDraining = false

    init(shard: Shard) {
        connection = Connection(shard: shard, sink: sink)
    }

    /// Hands over what is left, as a socket does that is read to its end.
    func deliverRest() {
        while !incoming.isEmpty { connection.receive(frame: incoming.removeFirst()) }
    }

    /// Hands over one frame, unless reading is stopped.
    func deliverOne() -> Bool {
        guard !isDraining, !sink.isPaused, sink.isWritable, sink.closeReason == nil,
            !incoming.isEmpty
        else {
            return false
        }
        connection.receive(frame: incoming.removeFirst())
        if incoming.isEmpty { connection.readRoundEnded() }
        return true
    }
}

/// What the broker wrote to a client.
final class TestSink: FrameSink {
    var output = ByteBuffer()
    var closeReason: CloseReason?
    var isWritable = true
    private(set) var isPaused = false
    private(set) var pauseCount = 0
    private var unflushed = ByteBuffer()

    func write(_ parts: [OutputPart]) {
        for part in parts {
            guard case .bytes(let bytes) = part else {
                preconditionFailure("a disk in memory has no descriptors")
            }
            unflushed.writeImmutableBuffer(bytes)
        }
    }

    /// Above this the client has too much to read; nil for one that reads at once.
    var outputHighMark: Int?

    func flush() {
        output.writeImmutableBuffer(unflushed)
        unflushed.clear()
        if let outputHighMark, output.readableBytes > outputHighMark { isWritable = false }
    }

    func close(_ reason: CloseReason) { closeReason = reason }

    func pauseReading() {
        isPaused = true
        pauseCount += 1
    }

    func resumeReading() { isPaused = false }

    var peerAddress: NetworkAddress { NetworkAddress(host: "10.0.0.2", port: 40_000) }

    var localAddress: NetworkAddress { NetworkAddress(host: "broker.example", port: 9092) }
}

/// Why a test cannot go on.
struct TestFailure: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) { self.description = description }
}
