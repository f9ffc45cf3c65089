package import FlotillaEnvironment
package import NIOCore
package import NIOPosix

/// A listening socket whose connections are spread evenly over the event loops.
///
/// One loop accepts and hands the connections around in turn. A socket per loop (`SO_REUSEPORT`)
/// would let the kernel spread them by hash: with the few connections of a small cluster that
/// leaves loops empty, and a second broker on the same port would start without an error.
package final class KafkaListener: Sendable {
    private let channel: any Channel
    private let connections: OpenConnections

    /// Where it listens; the port is the one that was picked when 0 was asked for.
    package let address: NetworkAddress

    private init(channel: any Channel, connections: OpenConnections) {
        self.channel = channel
        self.connections = connections
        self.address = NetworkAddress(channel.localAddress)
    }

    /// Binds and starts to accept.
    ///
    /// - Parameters:
    ///   - address: an empty host means every address of the machine, over IPv6 and IPv4 where both
    ///     exist.
    ///   - group: the loops that connections are spread over.
    ///   - limits: what one connection may cost.
    ///   - census: counts connections, with those of other listeners.
    ///   - accept: makes the owner of a new connection, on the loop that the connection lives on.
    /// - Returns: a listener that accepts.
    /// - Throws: when the address cannot be bound.
    package static func bind(
        to address: NetworkAddress,
        group: MultiThreadedEventLoopGroup,
        limits: ConnectionLimits,
        census: ConnectionCensus,
        accept: @escaping @Sendable (any EventLoop, any FrameSink) -> any FrameReceiver
    ) async throws -> KafkaListener {
        let connections = OpenConnections()
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    // Out of descriptors: look again in a second instead of spinning.
                    try channel.pipeline.syncOperations.addHandler(AcceptBackoffHandler())
                }
            }
            .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            .childChannelOption(.maxMessagesPerRead, value: 4)
            .childChannelOption(
                .recvAllocator,
                value: ReceiveBlocks(largeByteCount: limits.receiveBlockByteCount)
            )
            .childChannelOption(
                .writeBufferWaterMark,
                value: .init(low: limits.outputLowMark, high: limits.outputHighMark)
            )
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try admit(
                        channel,
                        to: connections,
                        limits: limits,
                        census: census,
                        accept: accept
                    )
                }
            }
        let channel = try await bootstrap.bind(to: address, for: "Kafka clients")
        return KafkaListener(channel: channel, connections: connections)
    }

    private static func admit(
        _ channel: any Channel,
        to connections: OpenConnections,
        limits: ConnectionLimits,
        census: ConnectionCensus,
        accept: @escaping @Sendable (any EventLoop, any FrameSink) -> any FrameReceiver
    ) throws {
        let host = NetworkAddress(channel.remoteAddress).host
        guard connections.add(channel) else {
            channel.close(promise: nil)
            return
        }
        let eventLoop = channel.eventLoop
        let identity = ObjectIdentifier(channel)
        guard census.admit(host: host) else {
            connections.remove(identity)
            channel.close(promise: nil)
            return
        }
        let handler = FrameHandler(limits: limits) { sink in
            accept(eventLoop, sink)
        }
        // Connections that never became active leave the count here as well.
        channel.closeFuture.assumeIsolated().whenComplete { _ in
            connections.remove(identity)
            census.leave(host: host, handler.endReason)
        }
        try channel.pipeline.syncOperations.addHandler(handler)
    }

    /// Stops accepting; connections that are open stay.
    package func stopAccepting() async throws {
        try await channel.close().get()
    }

    /// Asks every connection to end: nothing more is read, what was received is answered within the
    /// limits' drain timeout, and what was flushed still leaves within their close timeout.
    ///
    /// - Returns: when all are gone.
    package func closeConnections(_ reason: CloseReason) async {
        let channels = connections.finish()
        for channel in channels {
            channel.pipeline.fireUserInboundEventTriggered(CloseConnection(reason: reason))
        }
        for channel in channels {
            await channel.hasClosed()
        }
    }
}
