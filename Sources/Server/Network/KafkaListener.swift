package import FlotillaEnvironment
import Glibc
package import NIOCore
package import NIOPosix
import Synchronization

/// A listening socket whose connections are spread evenly over the event loops.
///
/// One loop accepts and hands the connections around in turn. A socket per loop (`SO_REUSEPORT`)
/// would let the kernel spread them by hash: with the few connections of a small cluster that
/// leaves loops empty, and a second broker on the same port would start without an error.
package final class KafkaListener: Sendable {
    private let channel: any Channel
    private let connections: Connections

    /// Where it listens; the port is the one that was picked when 0 was asked for.
    package let address: NetworkAddress

    private init(channel: any Channel, connections: Connections) {
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
        let connections = Connections()
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
                value: FixedSizeRecvByteBufferAllocator(capacity: limits.receiveBlockByteCount)
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
        let channel = try await bind(bootstrap, to: address)
        return KafkaListener(channel: channel, connections: connections)
    }

    /// Binds to the address, for an empty host to `::` (which takes IPv4 too) or, on a machine
    /// without IPv6, `0.0.0.0`.
    private static func bind(_ bootstrap: ServerBootstrap, to address: NetworkAddress) async throws
        -> any Channel
    {
        guard address.host.isEmpty else {
            return try await bootstrap.bind(host: address.host, port: address.port).get()
        }
        do {
            return try await bootstrap.bind(host: "::", port: address.port).get()
        } catch let error as IOError where error.errnoCode == EADDRINUSE {
            throw error
        } catch {
            return try await bootstrap.bind(host: "0.0.0.0", port: address.port).get()
        }
    }

    private static func admit(
        _ channel: any Channel,
        to connections: Connections,
        limits: ConnectionLimits,
        census: ConnectionCensus,
        accept: @escaping @Sendable (any EventLoop, any FrameSink) -> any FrameReceiver
    ) throws {
        let host = NetworkAddress(channel.remoteAddress).host
        guard census.admit(host: host) else {
            channel.close(promise: nil)
            return
        }
        let eventLoop = channel.eventLoop
        let identity = ObjectIdentifier(channel)
        connections.add(channel)
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

    /// Asks every connection to end: answers that were flushed still leave, within the limits'
    /// close timeout.
    ///
    /// - Returns: when all are gone.
    package func closeConnections(_ reason: CloseReason) async {
        for channel in connections.all {
            channel.pipeline.fireUserInboundEventTriggered(CloseConnection(reason: reason))
        }
        for channel in connections.all {
            do {
                try await channel.closeFuture.get()
            } catch {
                // A connection that ended with an error has ended.
                continue
            }
        }
    }
}

/// The open connections of a listener.
private final class Connections: Sendable {
    // Guards the table: connections of all loops come and go here.
    private let table = Mutex<[ObjectIdentifier: any Channel]>([:])

    func add(_ channel: any Channel) {
        table.withLock { $0[ObjectIdentifier(channel)] = channel }
    }

    func remove(_ identity: ObjectIdentifier) {
        table.withLock { $0[identity] = nil }
    }

    var all: [any Channel] {
        table.withLock { Array($0.values) }
    }
}
