import FlotillaEnvironment
import FlotillaReplication
import NIOCore
import NIOPosix

/// The dialling end of a peer connection: says hello, takes the answer, then only sends.
///
/// The peer's own messages come over connections that it dials, so after the answer every byte
/// that arrives is a mistake. Used on the connection's loop only.
final class PeerDialHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum Stage {
        case greeting(ByteBuffer)
        case greeted
    }

    private let hello: PeerHello
    private let address: NetworkAddress
    private let helloTimeout: Duration
    private var answered: ((PeerHelloAnswer) -> Void)?
    private var ended: ((PeerLinkError) -> Void)?

    private var context: ChannelHandlerContext?
    private var stage = Stage.greeting(ByteBuffer())
    private var deadline: Scheduled<Void>?
    private var failure: PeerLinkError?

    /// Prepares the end of a connection to `address` that is made.
    ///
    /// - Parameters:
    ///   - hello: the first bytes.
    ///   - address: where the connection goes.
    ///   - helloTimeout: how long the answer may take.
    ///   - answered: called at most once, when the answer is there, whatever it says.
    ///   - ended: called once, when the connection is gone.
    init(
        _ hello: PeerHello,
        to address: NetworkAddress,
        helloTimeout: Duration,
        answered: @escaping (PeerHelloAnswer) -> Void,
        ended: @escaping (PeerLinkError) -> Void
    ) {
        self.hello = hello
        self.address = address
        self.helloTimeout = helloTimeout
        self.answered = answered
        self.ended = ended
    }

    /// Joins the pipeline of a connection that is open, and says hello.
    func begin(on channel: any Channel) {
        channel.eventLoop.preconditionInEventLoop()
        do {
            try channel.pipeline.syncOperations.addHandler(self)
        } catch {
            end()
            channel.close(promise: nil)
            return
        }
        guard channel.isActive, let context else {
            end()
            channel.close(promise: nil)
            return
        }
        deadline = channel.eventLoop.assumeIsolated().scheduleTask(in: .init(helloTimeout)) {
            // A timer that is cancelled in the turn in which it is due still fires.
            guard case .greeting = self.stage else { return }
            self.hangUp(.noAnswer(self.address, self.helloTimeout))
        }
        context.writeAndFlush(wrapOutboundOut(hello.encoded), promise: nil)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard failure == nil else { return }
        var bytes = unwrapInboundIn(data)
        guard case .greeting(var received) = stage else {
            return hangUp(.unintelligible(address, reason: "a peer sends nothing after its answer"))
        }
        stage = .greeted
        received.writeBuffer(&bytes)
        do {
            guard let answer = try PeerHelloAnswer.take(from: &received) else {
                stage = .greeting(received)
                return
            }
            guard received.readableBytes == 0 else {
                return hangUp(
                    .unintelligible(address, reason: "a peer sends nothing after its answer")
                )
            }
            deadline?.cancel()
            let answered = answered
            self.answered = nil
            answered?(answer)
        } catch {
            hangUp(.unintelligible(address, reason: error.description))
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        hangUp(.broken(address, reason: "\(error)"))
    }

    func channelInactive(context: ChannelHandlerContext) {
        end()
    }

    /// Queues bytes; they leave with the next `flush()`.
    func write(_ part: ByteBuffer) {
        context?.write(wrapOutboundOut(part), promise: nil)
    }

    /// Hands everything queued to the socket, in one gathered write where it fits.
    func flush() {
        context?.flush()
    }

    /// Bytes that were flushed and have not left.
    var waitingByteCount: Int {
        do {
            return try context?.channel.syncOptions?.getOption(.bufferedWritableBytes) ?? 0
        } catch {
            // Only a closed channel cannot tell, and nothing waits in it.
            return 0
        }
    }

    /// Ends the connection.
    ///
    /// - Parameter reason: reported, unless it failed before.
    func hangUp(_ reason: PeerLinkError) {
        failure = failure ?? reason
        context?.close(promise: nil)
    }

    private func end() {
        deadline?.cancel()
        deadline = nil
        context = nil
        answered = nil
        // Its owner holds this handler: letting go of it here ends the cycle.
        let ended = ended
        self.ended = nil
        ended?(failure ?? .closed(address))
    }
}

/// Opens connections to peers.
enum PeerDialler {
    /// Dials, on one loop.
    ///
    /// - Parameters:
    ///   - address: whom.
    ///   - settings: how long it may take, and the sockets' options.
    ///   - eventLoop: where the connection lives.
    ///   - made: sees each socket before it connects, on the loop (a name with several addresses
    ///     tries them side by side); a throw abandons it.
    /// - Returns: the connection, without a handler of ours.
    static func dial(
        _ address: NetworkAddress,
        _ settings: PeerSettings,
        on eventLoop: any EventLoop,
        made: @escaping @Sendable (any Channel) throws -> Void = { _ in }
    ) -> EventLoopFuture<any Channel> {
        var bootstrap = ClientBootstrap(group: eventLoop)
            .connectTimeout(.init(settings.connectTimeout))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try made(channel)
                    try settings.secure?(channel, .dialler(host: address.host))
                }
            }
        for (option, value) in settings.socketOptions {
            bootstrap = bootstrap.channelOption(option, value: value)
        }
        return bootstrap.connect(host: address.host, port: address.port)
    }
}
