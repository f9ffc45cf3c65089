package import FlotillaEnvironment
package import FlotillaModel
package import FlotillaReplication
package import Logging
package import NIOCore
package import NIOPosix

/// The socket that other brokers dial, with its connections spread evenly over the event loops.
///
/// It speaks a protocol of its own on a port of its own, so that a firewall can keep clients out.
/// The loop that a connection lands on need not own the partitions that its frames are about: the
/// receiver passes them on.
package final class PeerListener: Sendable {
    private let channel: any Channel
    private let connections: OpenConnections

    /// Where it listens; the port is the one that was picked when 0 was asked for.
    package let address: NetworkAddress

    private init(channel: any Channel, connections: OpenConnections) {
        self.channel = channel
        self.connections = connections
        address = NetworkAddress(channel.localAddress)
    }

    /// Binds and starts to accept.
    ///
    /// - Parameters:
    ///   - address: an empty host means every address of the machine, over IPv6 and IPv4 where both
    ///     exist.
    ///   - group: the loops that connections are spread over.
    ///   - settings: limits and times.
    ///   - broker: who this is, for the answer to a hello that cannot be understood.
    ///   - incarnation: which life of this broker's directories.
    ///   - logger: hears of frames that cannot be read.
    ///   - policy: judges a hello, on any of the loops; must not block.
    ///   - petition: decides a petition whose hello the policy took, on any of the loops; given up after
    ///     `PeerSettings.petitionTimeout`.
    ///   - receiver: who takes the frames of the connections on a loop; asked on it, for each
    ///     connection.
    /// - Returns: a listener that accepts.
    /// - Throws: when the address cannot be bound.
    package static func bind(
        to address: NetworkAddress,
        group: MultiThreadedEventLoopGroup,
        settings: PeerSettings,
        broker: BrokerID,
        incarnation: BrokerIncarnation,
        logger: Logger,
        policy: @escaping @Sendable (PeerHello) -> PeerHelloAnswer,
        petition:
            @escaping @Sendable (PeerHello, any EventLoop) -> EventLoopFuture<PeerHelloAnswer>,
        receiver: @escaping @Sendable (any EventLoop) -> any PeerReceiver
    ) async throws -> PeerListener {
        let connections = OpenConnections()
        let surroundings = PeerInboundHandler.Surroundings(
            settings: settings,
            broker: broker,
            incarnation: incarnation,
            policy: policy,
            petition: petition,
            receiver: receiver,
            incoming: IncomingPeerLinks(),
            logger: logger
        )
        var bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    // Out of descriptors: look again in a second instead of spinning.
                    try channel.pipeline.syncOperations.addHandler(AcceptBackoffHandler())
                }
            }
            .childChannelOption(.maxMessagesPerRead, value: 4)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try admit(channel, to: connections, surroundings)
                }
            }
        for (option, value) in settings.socketOptions {
            bootstrap = bootstrap.childChannelOption(option, value: value)
        }
        let channel = try await bootstrap.bind(to: address, for: "other brokers")
        return PeerListener(channel: channel, connections: connections)
    }

    private static func admit(
        _ channel: any Channel,
        to connections: OpenConnections,
        _ surroundings: PeerInboundHandler.Surroundings
    ) throws {
        guard connections.add(channel, limit: surroundings.settings.maximumIncomingCount) else {
            channel.close(promise: nil)
            return
        }
        let identity = ObjectIdentifier(channel)
        channel.closeFuture.assumeIsolated().whenComplete { _ in connections.remove(identity) }
        try surroundings.settings.secure(channel, .listener)
        try channel.pipeline.syncOperations.addHandler(PeerInboundHandler(surroundings))
    }

    /// Connections that are open, greeted or not.
    package var connectionCount: Int {
        connections.count
    }

    /// Stops accepting and closes every connection.
    ///
    /// - Returns: when all are gone, and no receiver is called any more.
    /// - Throws: when the listening socket cannot be closed.
    package func stop() async throws {
        let channels: [any Channel]
        do {
            try await channel.close().get()
            channels = connections.finish()
        } catch ChannelError.alreadyClosed {
            channels = connections.finish()
        }
        for channel in channels { channel.close(promise: nil) }
        for channel in channels { await channel.hasClosed() }
    }
}
