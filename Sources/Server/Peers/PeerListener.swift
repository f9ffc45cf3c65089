package import FlotillaEnvironment
package import FlotillaModel
package import FlotillaReplication
package import Logging
package import NIOCore
package import NIOPosix

/// The socket that other brokers dial, with its connections spread evenly over the event loops.
///
/// It speaks a protocol of its own on a port of its own, so that a firewall can keep clients out.
/// A link is served on the loop of the shard that has the number of the one that dialled: brokers with as many shards have each
/// partition on the same one, so its frames need not be passed on to another thread. With other numbers of shards, and where
/// the socket is encrypted, the receiver passes them on.
package final class PeerListener: Sendable {
    /// Reads of one connection before the loop turns to others.
    private static let readsPerTurn: UInt = 4

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
            loops: Array(group.makeIterator()),
            connections: connections,
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
            .childChannelOption(.maxMessagesPerRead, value: readsPerTurn)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    _ = try admit(channel, PeerInboundHandler(surroundings), surroundings)
                }
            }
        for (option, value) in settings.socketOptions {
            bootstrap = bootstrap.childChannelOption(option, value: value)
        }
        let channel = try await bootstrap.bind(to: address, for: "other brokers")
        return PeerListener(channel: channel, connections: connections)
    }

    /// Serves a link on another loop than the one that accepted its socket, which is closed there.
    ///
    /// - Parameters:
    ///   - socket: belongs to the new channel from now on.
    ///   - link: what its hello said, and what came behind that.
    ///   - loop: where it is at home.
    ///   - surroundings: the listener's.
    static func adopt(
        _ socket: NIOBSDSocket.Handle,
        _ link: GreetedLink,
        on loop: any EventLoop,
        _ surroundings: PeerInboundHandler.Surroundings
    ) {
        let logger = surroundings.logger
        ClientBootstrap(group: loop)
            .channelOption(.maxMessagesPerRead, value: readsPerTurn)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = PeerInboundHandler(surroundings, greeted: link)
                    guard try admit(channel, handler, surroundings) else {
                        throw ChannelError.ioOnClosedChannel
                    }
                }
            }
            .withConnectedSocket(socket)
            .whenFailure { error in
                // The listener has ended, or there are too many: whoever dialled finds the connection closed, and dials again.
                logger.debug(
                    "peer's connection is not served",
                    metadata: .of([.peer: link.hello.broker, .reason: "\(error)"])
                )
            }
    }

    /// Takes a connection in; false, and the connection is closed, where there is no room for it.
    private static func admit(
        _ channel: any Channel,
        _ handler: PeerInboundHandler,
        _ surroundings: PeerInboundHandler.Surroundings
    ) throws -> Bool {
        let connections = surroundings.connections
        guard connections.add(channel, limit: surroundings.settings.maximumIncomingCount) else {
            channel.close(promise: nil)
            return false
        }
        let identity = ObjectIdentifier(channel)
        channel.closeFuture.assumeIsolated().whenComplete { _ in connections.remove(identity) }
        try surroundings.settings.secure?(channel, .listener)
        try channel.pipeline.syncOperations.addHandler(handler)
        return true
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
