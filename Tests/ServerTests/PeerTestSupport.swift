import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaServer
import Logging
import NIOCore
import NIOPosix
import Synchronization

/// What the receivers of a broker saw, collected over all its loops.
final class PeerJournal: Sendable {
    struct Change: Hashable, Sendable {
        var broker: BrokerID
        var incarnation: BrokerIncarnation?
        var lane: PeerLane
        var isUp: Bool
    }

    struct Received: Hashable, Sendable {
        var broker: BrokerID
        var bytes: [UInt8]
    }

    private struct Pages {
        var changes: [Change] = []
        var frames: [Received] = []
        var loops: Set<ObjectIdentifier> = []
        var loopOfLastFrame: ObjectIdentifier?
    }

    private let pages = Mutex(Pages())

    func write(_ change: Change, on eventLoop: any EventLoop) {
        pages.withLock { pages in
            pages.changes.append(change)
            pages.loops.insert(ObjectIdentifier(eventLoop))
        }
    }

    func write(_ frame: Received, on eventLoop: any EventLoop) {
        pages.withLock { pages in
            pages.frames.append(frame)
            pages.loopOfLastFrame = ObjectIdentifier(eventLoop)
        }
    }

    var seen: [Change] { pages.withLock(\.changes) }
    var received: [Received] { pages.withLock(\.frames) }
    var loopOfLastFrame: ObjectIdentifier? { pages.withLock(\.loopOfLastFrame) }
    /// How many loops had a connection.
    var loopCount: Int { pages.withLock(\.loops.count) }

    /// How many connections of a lane are up.
    func upCount(_ lane: PeerLane? = nil) -> Int {
        seen.filter { lane == nil || $0.lane == lane }.reduce(0) { $0 + ($1.isUp ? 1 : -1) }
    }

    func downCount() -> Int {
        seen.count { !$0.isUp }
    }

    var texts: [String] {
        received.map { String(decoding: $0.bytes, as: UTF8.self) }
    }
}

/// Writes down what it hears, and refuses the frame `bad`.
final class PeerRecorder: PeerReceiver {
    struct BadFrame: Error {}

    private let journal: PeerJournal
    private let eventLoop: any EventLoop

    init(_ journal: PeerJournal, _ eventLoop: any EventLoop) {
        self.journal = journal
        self.eventLoop = eventLoop
    }

    func received(_ frame: ByteBuffer, from broker: BrokerID) throws {
        eventLoop.preconditionInEventLoop()
        let bytes = Array(frame.readableBytesView)
        guard bytes != Array("bad".utf8) else { throw BadFrame() }
        journal.write(.init(broker: broker, bytes: bytes), on: eventLoop)
    }

    func linkChanged(
        _ broker: BrokerID,
        incarnation: BrokerIncarnation?,
        lane: PeerLane,
        isUp: Bool
    ) {
        eventLoop.preconditionInEventLoop()
        journal.write(
            .init(broker: broker, incarnation: incarnation, lane: lane, isUp: isUp),
            on: eventLoop
        )
    }
}

/// The listening half of a broker.
final class ListeningBroker: Sendable {
    static let incarnation = BrokerIncarnation(high: 0xAB, low: 0xCD)

    let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
    let journal = PeerJournal()
    let listener: PeerListener

    init(
        _ broker: BrokerID = BrokerID(2),
        port: Int = 0,
        settings: PeerSettings = .quick,
        policy: (@Sendable (PeerHello) -> PeerHelloAnswer)? = nil,
        petition: (@Sendable (PeerHello, any EventLoop) -> EventLoopFuture<PeerHelloAnswer>)? = nil
    ) async throws {
        let journal = journal
        listener = try await PeerListener.bind(
            to: NetworkAddress(host: "127.0.0.1", port: port),
            group: group,
            settings: settings,
            broker: broker,
            incarnation: Self.incarnation,
            logger: .silent,
            policy: policy ?? { _ in Self.answer(.accepted, broker) },
            petition: petition ?? { $1.makeSucceededFuture(Self.answer(.refused("no"), broker)) },
            receiver: { PeerRecorder(journal, $0) }
        )
    }

    static func answer(
        _ verdict: PeerHelloAnswer.Verdict,
        _ broker: BrokerID = BrokerID(2)
    ) -> PeerHelloAnswer {
        PeerHelloAnswer(verdict, broker: broker, incarnation: incarnation, clusterID: "fleet")
    }

    func stop() async throws {
        try await listener.stop()
        try await group.shutdownGracefully()
    }
}

/// The dialling half of a broker: one shard's links.
final class DiallingShard: Sendable {
    static let incarnation = BrokerIncarnation(high: 1, low: 11)

    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let journal = PeerJournal()
    let log = LogLines()
    private let links: NIOLoopBound<ShardPeerLinks>
    private let receiver: NIOLoopBound<PeerRecorder>

    init(settings: PeerSettings = .quick, shard: UInt32 = 3) async throws {
        let journal = journal
        let eventLoop = group.next()
        let logger = log.logger
        (links, receiver) = try await eventLoop.submit {
            let receiver = PeerRecorder(journal, eventLoop)
            let links = ShardPeerLinks(
                eventLoop: eventLoop,
                settings: settings,
                seed: 7,
                logger: logger,
                hello: { Self.hello($0, shard: shard) }
            )
            links.receiver = receiver
            return (
                NIOLoopBound(links, eventLoop: eventLoop),
                NIOLoopBound(receiver, eventLoop: eventLoop)
            )
        }.get()
    }

    static func hello(_ lane: PeerLane, shard: UInt32 = 3) -> PeerHello {
        PeerHello(
            lane: lane,
            broker: BrokerID(1),
            incarnation: incarnation,
            clusterID: "fleet",
            shard: shard
        )
    }

    /// Does something with the links, on their loop.
    func on<Result: Sendable>(_ body: @escaping @Sendable (ShardPeerLinks) -> Result) throws
        -> Result
    {
        try group.next().submit { body(self.links.value) }.wait()
    }

    func dial(_ address: NetworkAddress, broker: BrokerID = BrokerID(2)) throws {
        try on { $0.setPeers([PeerAddress(broker: broker, address: address)]) }
    }

    func waitUntilUp(_ broker: BrokerID = BrokerID(2)) throws {
        try waitUntil {
            self.journal.upCount() == 2
        }
        let areUp = try on { links in PeerLane.allCases.allSatisfy { links.isUp(broker, $0) } }
        guard areUp else { throw TimedOut() }
    }

    /// Sends a text, and flushes.
    func send(_ text: String, on lane: PeerLane = .live) throws -> Bool {
        try on { links in
            let isTaken = links.send(peerFrame(Array(text.utf8)), to: BrokerID(2), on: lane)
            links.flush()
            return isTaken
        }
    }

    func stopLinks() async throws {
        try await group.next().flatSubmit { self.links.value.stop() }.get()
    }

    func stop() async throws {
        try await stopLinks()
        try await group.shutdownGracefully()
    }
}

/// A listener that answers hellos with given bytes, and reads on only while it is told to.
final class FakePeer: Sendable {
    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer

        let peer: FakePeer
        var hasAnswered = false

        init(_ peer: FakePeer) {
            self.peer = peer
        }

        func channelActive(context: ChannelHandlerContext) {
            peer.accepted.increment()
            peer.channels.withLock { $0.append(context.channel) }
            context.read()
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = unwrapInboundIn(data)
            peer.received.withLock { $0 += bytes.readableBytes }
            guard !hasAnswered else { return }
            hasAnswered = true
            if !peer.answer.isEmpty {
                context.writeAndFlush(NIOAny(ByteBuffer(bytes: peer.answer)), promise: nil)
            }
        }

        func channelReadComplete(context: ChannelHandlerContext) {
            if peer.reads.withLock(\.self) { context.read() }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            context.close(promise: nil)
        }
    }

    let accepted = Counter()
    private let received = Mutex(0)
    private let reads: Mutex<Bool>
    private let answer: [UInt8]
    private let channels = Mutex<[any Channel]>([])
    private let listening = Mutex<(any Channel)?>(nil)

    init(answer: [UInt8], reads: Bool = true) {
        self.answer = answer
        self.reads = Mutex(reads)
    }

    func listen() async throws -> NetworkAddress {
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelOption(.autoRead, value: false)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Handler(self))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        listening.withLock { $0 = channel }
        return NetworkAddress(host: "127.0.0.1", port: channel.localAddress?.port ?? 0)
    }

    var receivedByteCount: Int { received.withLock(\.self) }

    func readOn() {
        reads.withLock { $0 = true }
        for channel in channels.withLock(\.self) { channel.read() }
    }

    func stop() async throws {
        try await listening.withLock(\.self)?.close().get()
        for channel in channels.withLock(\.self) { channel.close(promise: nil) }
    }
}

/// Keeps what was logged.
final class LogLines: Sendable {
    private struct Handler: LogHandler {
        let lines: LogLines
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.warning

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let values = (event.metadata ?? [:]).map { "\($0.key)=\($0.value)" }.sorted()
            lines.all.withLock {
                $0.append("\(event.message) \(values.joined(separator: " "))")
            }
        }
    }

    private let all = Mutex<[String]>([])

    var lines: [String] { all.withLock(\.self) }

    var logger: Logger {
        Logger(label: "test") { _ in Handler(lines: self) }
    }
}

extension Logger {
    static var silent: Logger {
        Logger(label: "silent") { _ in SwiftLogNoOpLogHandler() }
    }
}

extension PeerSettings {
    /// Times that a test can wait for.
    static var quick: PeerSettings {
        var settings = PeerSettings()
        settings.helloTimeout = .seconds(60)
        settings.shortestBackoff = .milliseconds(5)
        settings.longestBackoff = .milliseconds(50)
        return settings
    }
}

/// A frame as it goes over the wire, in two parts.
func peerFrame(_ bytes: [UInt8]) -> [ByteBuffer] {
    var head = ByteBuffer()
    head.writeInteger(UInt32(bytes.count), endianness: .little)
    return [head, ByteBuffer(bytes: bytes)]
}

/// The same as one array.
func peerFrameBytes(_ text: String) -> [UInt8] {
    peerFrame(Array(text.utf8)).flatMap { Array($0.readableBytesView) }
}

extension PeerHello {
    var bytes: [UInt8] { Array(encoded.readableBytesView) }
}

extension PeerHelloAnswer {
    var bytes: [UInt8] { Array(encoded.readableBytesView) }
}
