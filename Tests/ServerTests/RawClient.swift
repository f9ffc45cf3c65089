import NIOCore
import NIOPosix
import Synchronization

/// A client at the level of the socket: says exactly the bytes that it is told to, and no others.
///
/// Calls block their thread; receiving gives up after ten seconds.
final class RawClient: Sendable {
    struct TimedOut: Error {}

    /// Collects what arrives, and stops reading above a bound so that the peer feels a slow reader.
    private final class Collector: ChannelDuplexHandler, Sendable {
        typealias InboundIn = ByteBuffer
        typealias OutboundIn = ByteBuffer

        struct State {
            var bytes = ByteBuffer()
            var isClosed = false
            var isReadWanted = false
        }

        let state = Mutex(State())
        let bound: Int

        init(bound: Int) {
            self.bound = bound
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            var bytes = unwrapInboundIn(data)
            _ = state.withLock { $0.bytes.writeBuffer(&bytes) }
        }

        func read(context: ChannelHandlerContext) {
            let mayRead = state.withLock { state in
                state.isReadWanted = state.bytes.readableBytes >= bound
                return !state.isReadWanted
            }
            if mayRead {
                context.read()
            }
        }

        func channelInactive(context: ChannelHandlerContext) {
            state.withLock { $0.isClosed = true }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            context.close(promise: nil)
        }

        /// The bytes asked for; fewer only when no more will come.
        func take(_ count: Int) -> (bytes: [UInt8]?, wantsRead: Bool) {
            state.withLock { state in
                let wantsRead = state.isReadWanted
                guard state.bytes.readableBytes >= count || state.isClosed else {
                    return (nil, wantsRead)
                }
                let bytes = state.bytes.readBytes(length: min(count, state.bytes.readableBytes))
                state.bytes.discardReadBytes()
                return (bytes ?? [], wantsRead)
            }
        }
    }

    private let channel: any Channel
    private let collector: Collector

    /// Connects over IPv4 to this machine.
    ///
    /// - Parameters:
    ///   - port: where to connect.
    ///   - bound: reads only while fewer bytes wait to be received.
    /// - Throws: when nobody listens there.
    init(port: Int, bound: Int = Int.max) throws {
        let collector = Collector(bound: bound)
        channel = try ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.socketOption(.tcp_nodelay), value: 1)
            .channelInitializer { $0.pipeline.addHandler(collector) }
            .connect(host: "127.0.0.1", port: port)
            .wait()
        self.collector = collector
    }

    deinit {
        channel.close(promise: nil)
    }

    /// Closes both directions.
    func close() throws {
        try channel.close().wait()
    }

    func send(_ bytes: [UInt8]) throws {
        try channel.writeAndFlush(ByteBuffer(bytes: bytes)).wait()
    }

    /// Sends a frame with its length in front.
    func send(frame: [UInt8]) throws {
        try send(Self.prefix(frame.count) + frame)
    }

    static func prefix(_ length: Int) -> [UInt8] {
        let length = UInt32(bitPattern: Int32(length))
        return [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> $0) }
    }

    /// Receives exactly so many bytes, fewer only when the peer has closed.
    func receive(_ count: Int) throws -> [UInt8] {
        var received: [UInt8] = []
        for _ in 0..<10_000 {
            // A bounded client takes what it has in pieces.
            let piece = min(count - received.count, collector.bound)
            let (bytes, wantsRead) = collector.take(piece)
            if let bytes {
                received += bytes
                if received.count == count || bytes.count < piece {
                    return received
                }
            }
            if wantsRead {
                channel.read()
            }
            if bytes == nil {
                pauseBriefly()
            }
        }
        throw TimedOut()
    }

    func receiveFrame() throws -> [UInt8] {
        let prefix = try receive(4)
        guard prefix.count == 4 else {
            throw ChannelError.eof
        }
        return try receive(prefix.reduce(0) { $0 << 8 | Int($1) })
    }

    /// Whether the peer has closed the connection, waiting for it.
    func isClosedByPeer() throws -> Bool {
        try receive(1).isEmpty
    }
}
