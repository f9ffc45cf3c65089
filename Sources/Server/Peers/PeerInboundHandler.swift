import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import Glibc
import Logging
import NIOCore
import Synchronization

/// The dialled end of a peer connection: checks the hello, answers it, then hands frames on.
///
/// A frame is handed on at once: what its receiver cannot take now it must drop, and what the loop
/// cannot take in time stays in the kernel, where the peer feels it. Used on the connection's loop
/// only.
final class PeerInboundHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// What all connections of a listener share.
    struct Surroundings: Sendable {
        let settings: PeerSettings
        let broker: BrokerID
        let incarnation: BrokerIncarnation
        let policy: @Sendable (PeerHello) -> PeerHelloAnswer
        let petition: @Sendable (PeerHello, any EventLoop) -> EventLoopFuture<PeerHelloAnswer>
        let receiver: @Sendable (any EventLoop) -> any PeerReceiver
        let incoming: IncomingPeerLinks
        /// The loops of the shards, in their order.
        let loops: [any EventLoop]
        let connections: OpenConnections
        let logger: Logger

        /// Where the frames of a link are at home; nil where its socket cannot be moved, since part of its state lies in its
        /// handlers.
        func home(of hello: PeerHello) -> (any EventLoop)? {
            settings.secure == nil ? loops[Int(hello.shard) % loops.count] : nil
        }
    }

    private enum Stage {
        case greeting(ByteBuffer)
        /// A petition is being decided.
        case asked
        /// The answer is the last that happens.
        case answered
        case open(PeerHello, any PeerReceiver)
        case ended
    }

    private let surroundings: Surroundings
    private var stage = Stage.greeting(ByteBuffer())
    private var assembler: FrameAssembler
    private var deadline: Scheduled<Void>?
    /// What another loop learned of this link before the socket came here.
    private var greeted: GreetedLink?

    /// Makes the handler of a connection.
    ///
    /// `greeted`: what is known of a link whose hello was read on another loop.
    init(_ surroundings: Surroundings, greeted: GreetedLink? = nil) {
        self.surroundings = surroundings
        self.greeted = greeted
        assembler = FrameAssembler(
            maximumFrameByteCount: surroundings.settings.maximumFrameByteCount,
            lengthPrefix: .peer
        )
    }

    func channelActive(context: ChannelHandlerContext) {
        if let link = greeted {
            greeted = nil
            return open(link, context)
        }
        let channel = context.channel
        deadline = context.eventLoop.assumeIsolated().scheduleTask(
            in: .init(surroundings.settings.helloTimeout)
        ) {
            // A timer that is cancelled in the turn in which it is due still fires.
            switch self.stage {
            case .open, .asked: return
            case .greeting, .answered, .ended: channel.close(promise: nil)
            }
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        switch stage {
        case .greeting(var received):
            stage = .ended
            received.writeBuffer(&bytes)
            greet(received, context)
        case .open(let hello, let receiver):
            assembler.append(bytes)
            deliver(from: hello, to: receiver, context)
        case .asked, .answered, .ended:
            break
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // Resets and timeouts are everyday, and `linkChanged` tells of them.
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        deadline?.cancel()
        deadline = nil
        let ended = stage
        stage = .ended
        guard case .open(let hello, let receiver) = ended else { return }
        surroundings.incoming.leave(hello, context.channel)
        receiver.linkChanged(
            hello.broker,
            incarnation: hello.incarnation,
            lane: hello.lane,
            isUp: false
        )
    }

    // MARK: Hello

    private func greet(_ received: ByteBuffer, _ context: ChannelHandlerContext) {
        var received = received
        do {
            guard let hello = try PeerHello.take(from: &received) else {
                stage = .greeting(received)
                return
            }
            let answer = surroundings.policy(hello)
            guard answer.verdict == .accepted else { return finish(with: answer, context) }
            switch hello.purpose {
            case .link:
                openAtHome(GreetedLink(hello: hello, answer: answer, rest: received), context)
            case .question: finish(with: answer, context)
            case .petition: decide(hello, context)
            }
        } catch .unsupportedVersion(let version) {
            finish(with: refusal(.unsupportedVersion(version)), context)
        } catch {
            log("connection is not of a peer", error, context)
            context.close(promise: nil)
        }
    }

    private func refusal(_ error: PeerHelloError) -> PeerHelloAnswer {
        PeerHelloAnswer(
            .refused(error.description),
            broker: surroundings.broker,
            incarnation: surroundings.incarnation,
            clusterID: ""
        )
    }

    /// Passes a petition on, and answers when it is decided or its time is over.
    private func decide(_ hello: PeerHello, _ context: ChannelHandlerContext) {
        stage = .asked
        let channel = context.channel
        deadline?.cancel()
        deadline = context.eventLoop.assumeIsolated().scheduleTask(
            in: .init(surroundings.settings.petitionTimeout)
        ) {
            channel.close(promise: nil)
        }
        surroundings.petition(hello, channel.eventLoop).hop(to: channel.eventLoop)
            .assumeIsolated().whenComplete { result in
                // Who asked may have hung up meanwhile.
                guard case .asked = self.stage else { return }
                switch result {
                case .success(let answer): self.finish(with: answer, context)
                case .failure(let error):
                    self.log("petition was not decided", "\(error)", context)
                    channel.close(promise: nil)
                }
            }
    }

    /// Sends the answer as the last bytes; the time limit of the hello covers it too.
    private func finish(with answer: PeerHelloAnswer, _ context: ChannelHandlerContext) {
        stage = .answered
        if case .refused(let sentence) = answer.verdict {
            log("peer was refused", sentence, context)
        }
        let sent = context.eventLoop.makePromise(of: Void.self)
        let channel = context.channel
        sent.futureResult.assumeIsolated().whenComplete { _ in channel.close(promise: nil) }
        context.writeAndFlush(wrapOutboundOut(answer.encoded), promise: sent)
    }

    /// Opens a link here, or on the loop where it is at home.
    private func openAtHome(_ link: GreetedLink, _ context: ChannelHandlerContext) {
        guard let home = surroundings.home(of: link.hello), home !== context.eventLoop,
            let socket = secondDescriptor(context)
        else { return open(link, context) }
        // The socket lives on by its second descriptor; what has not been read yet waits in it.
        stage = .ended
        context.close(promise: nil)
        PeerListener.adopt(socket, link, on: home, surroundings)
    }

    /// Another descriptor of the socket; nil when there is none to be had, and then the link stays where it is.
    private func secondDescriptor(_ context: ChannelHandlerContext) -> NIOBSDSocket.Handle? {
        do {
            let copy = try context.pipeline.syncOperations.withUnsafeTransportIfAvailable(
                of: NIOBSDSocket.Handle.self
            ) { fcntl($0, F_DUPFD_CLOEXEC, 0) }
            return copy.flatMap { $0 >= 0 ? $0 : nil }
        } catch {
            log("socket stays on its loop", "\(error)", context)
            return nil
        }
    }

    private func open(_ link: GreetedLink, _ context: ChannelHandlerContext) {
        let (hello, answer) = (link.hello, link.answer)
        deadline?.cancel()
        deadline = nil
        // Its predecessor is dead, although the network has not said so yet.
        surroundings.incoming.enter(hello, context.channel)?.close(promise: nil)
        let receiver = surroundings.receiver(context.eventLoop)
        stage = .open(hello, receiver)
        receiveLargeBlocks(hello.lane, context)
        context.writeAndFlush(wrapOutboundOut(answer.encoded), promise: nil)
        // The write may have found the connection broken, and then it never was up.
        guard case .open = stage else { return }
        receiver.linkChanged(
            hello.broker,
            incarnation: hello.incarnation,
            lane: hello.lane,
            isUp: true
        )
        assembler.append(link.rest)
        deliver(from: hello, to: receiver, context)
    }

    private func receiveLargeBlocks(_ lane: PeerLane, _ context: ChannelHandlerContext) {
        let byteCount = surroundings.settings.receiveBlockByteCount(lane)
        do {
            try context.channel.syncOptions?.setOption(
                .recvAllocator,
                value: FixedSizeRecvByteBufferAllocator(capacity: byteCount)
            )
        } catch {
            // Only a closed channel refuses, and that one says so by itself.
            assert(!context.channel.isActive, "an open channel takes the option")
        }
    }

    // MARK: Frames

    private func deliver(
        from hello: PeerHello,
        to receiver: any PeerReceiver,
        _ context: ChannelHandlerContext
    ) {
        do {
            // Whoever receives may close the connection meanwhile.
            while case .open = stage, let frame = try assembler.next() {
                try receiver.received(frame, from: hello.broker)
            }
        } catch {
            let reason =
                switch error {
                case let error as FrameTooLarge:
                    "a frame of \(error.announced) bytes is larger than a peer sends"
                default: "\(error)"
                }
            surroundings.logger.warning(
                "peer sent what cannot be read; its connection is closed",
                metadata: .of([.peer: hello.broker, .lane: hello.lane, .error: reason])
            )
            context.close(promise: nil)
        }
    }

    private func log(
        _ message: Logger.Message,
        _ reason: some CustomStringConvertible & Sendable,
        _ context: ChannelHandlerContext
    ) {
        surroundings.logger.debug(
            message,
            metadata: .of([
                .address: NetworkAddress(context.channel.remoteAddress), .reason: reason,
            ])
        )
    }
}

/// A link whose hello was read and found good.
struct GreetedLink: Sendable {
    let hello: PeerHello
    let answer: PeerHelloAnswer
    /// What came behind the hello.
    let rest: ByteBuffer
}

/// The accepted links of a listener, by the shard and lane that dialled.
///
/// A shard dials a lane anew only when its last connection is gone. When this end does not know so
/// yet (the machine lost power, a firewall forgot), the old connection would be noticed seconds
/// later, and its loss be taken for the loss of the new one.
final class IncomingPeerLinks: Sendable {
    private struct Origin: Hashable {
        let broker: BrokerID
        let shard: UInt32
        let lane: PeerLane

        init(_ hello: PeerHello) {
            broker = hello.broker
            shard = hello.shard
            lane = hello.lane
        }
    }

    // Guards the table: connections of all loops come and go here.
    private let table = Mutex<[Origin: any Channel]>([:])

    /// Notes a link.
    ///
    /// - Returns: the one that it replaces.
    func enter(_ hello: PeerHello, _ channel: any Channel) -> (any Channel)? {
        table.withLock { table in
            let replaced = table[Origin(hello)]
            table[Origin(hello)] = channel
            return replaced
        }
    }

    func leave(_ hello: PeerHello, _ channel: any Channel) {
        table.withLock { table in
            if table[Origin(hello)] === channel { table[Origin(hello)] = nil }
        }
    }
}
