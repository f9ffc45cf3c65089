import FlotillaEnvironment
import NIOCore

/// One connection's place in the pipeline: frames in, gathered output out.
///
/// It is the only handler of a plaintext connection. A general decoder and an async channel cost a
/// third more and two to three times the CPU of this (measured at 1 KiB requests). Everything
/// happens on the connection's event loop.
final class FrameHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = IOData

    private let limits: ConnectionLimits
    private let makeReceiver: (any FrameSink) -> any FrameReceiver

    private var assembler: FrameAssembler
    private var context: ChannelHandlerContext?
    private var receiver: (any FrameReceiver)?
    private var closeReason: CloseReason?
    private var idleTimer: Scheduled<Void>?
    /// When the last sign of life was: a complete frame, or output taken.
    private var lastActivity = NIODeadline.now()
    private var bufferedAtLastLook = 0

    private var isPausedByReceiver = false
    private var isReading = true
    private var isDelivering = false
    private var isDeliveryScheduled = false
    /// Whether the broker stops: what the receiver has is answered, and nothing more is read.
    private var isDraining = false
    private var drainTimer: Scheduled<Void>?

    private(set) var peerAddress = NetworkAddress(host: "", port: 0)
    private(set) var localAddress = NetworkAddress(host: "", port: 0)

    /// Makes the handler of a connection that was admitted.
    ///
    /// - Parameters:
    ///   - limits: what the connection may cost.
    ///   - makeReceiver: makes the owner of the connection, when the connection is up.
    init(limits: ConnectionLimits, makeReceiver: @escaping (any FrameSink) -> any FrameReceiver) {
        self.limits = limits
        self.makeReceiver = makeReceiver
        self.assembler = FrameAssembler(maximumFrameByteCount: limits.maximumFrameByteCount)
    }

    func channelActive(context: ChannelHandlerContext) {
        self.context = context
        peerAddress = NetworkAddress(context.channel.remoteAddress)
        localAddress = NetworkAddress(context.channel.localAddress)
        lastActivity = .now()
        scheduleIdleCheck(at: lastActivity + limits.idle)
        receiver = makeReceiver(self)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard closeReason == nil else {
            return
        }
        assembler.append(unwrapInboundIn(data))
        deliver()
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        receiver?.readRoundEnded()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        let isWritable = context.channel.isWritable
        if isWritable {
            lastActivity = .now()
        }
        updateReading()
        receiver?.writabilityChanged(isWritable)
        if isWritable {
            scheduleDelivery()
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard let event = event as? CloseConnection else {
            context.fireUserInboundEventTriggered(event)
            return
        }
        drain(event.reason)
    }

    /// Ends the connection as soon as its receiver has answered what it was given: a peer that goes
    /// on sending would else never be done.
    private func drain(_ reason: CloseReason) {
        guard closeReason == nil, !isDraining else {
            return
        }
        isDraining = true
        updateReading()
        guard receiver?.drain() == true else {
            return close(reason)
        }
        guard closeReason == nil else {
            return
        }
        drainTimer = context?.eventLoop.assumeIsolated().scheduleTask(
            in: .init(limits.drainTimeout)
        ) {
            self.close(reason)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // The socket's error itself says no more than the reason: resets and timeouts are everyday.
        closeReason = closeReason ?? .socketError
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        idleTimer?.cancel()
        idleTimer = nil
        drainTimer?.cancel()
        drainTimer = nil
        self.context = nil
        // The receiver holds this sink: letting go of it here ends the cycle.
        let receiver = receiver
        self.receiver = nil
        if let receiver, closeReason == nil {
            deliverRest(to: receiver)
        }
        receiver?.connectionClosed(endReason)
    }

    /// Hands over what the peer had sent in full before it closed, also what was held back.
    ///
    /// Nobody is answered any more, but a produce without acknowledgement counts on it. NIO reads a
    /// closed socket to its end, so there is at most a socket buffer of it.
    private func deliverRest(to receiver: any FrameReceiver) {
        do {
            while let frame = try assembler.next() {
                receiver.receive(frame: frame)
            }
        } catch {
            closeReason = .frameTooLarge
        }
    }

    /// Hands over complete frames until there are none, or one must wait.
    private func deliver() {
        guard !isDelivering else {
            return
        }
        isDelivering = true
        defer { isDelivering = false }
        var hasDelivered = false
        while mayDeliver, let receiver {
            do {
                guard let frame = try assembler.next() else {
                    break
                }
                hasDelivered = true
                receiver.receive(frame: frame)
            } catch {
                closeNow(.frameTooLarge)
                return
            }
        }
        if hasDelivered {
            lastActivity = .now()
        }
    }

    /// Why the connection ended, once it has.
    var endReason: CloseReason {
        closeReason ?? .peerClosed
    }

    private var mayDeliver: Bool {
        !isPausedByReceiver && closeReason == nil && !isDraining && isWritable
    }

    /// Delivers waiting frames in a turn of their own, so that the receiver is never called inside
    /// a call of its own.
    private func scheduleDelivery() {
        guard !isDelivering, !isDeliveryScheduled, let context else {
            return
        }
        isDeliveryScheduled = true
        context.eventLoop.assumeIsolated().execute {
            self.isDeliveryScheduled = false
            self.deliver()
            self.receiver?.readRoundEnded()
        }
    }

    /// Asks the socket for more only when more may be handed over: what stays in the kernel is felt
    /// by the peer.
    private func updateReading() {
        let wanted = mayDeliver
        guard wanted != isReading, let context else {
            return
        }
        isReading = wanted
        do {
            try context.channel.syncOptions?.setOption(.autoRead, value: wanted)
        } catch {
            // Only a closed channel refuses, and that one says so by itself.
            assert(!context.channel.isActive, "an open channel takes the option")
        }
    }
}

// MARK: - Output

extension FrameHandler: FrameSink {
    var isWritable: Bool {
        context?.channel.isWritable ?? false
    }

    func write(_ parts: [OutputPart]) {
        guard let context, closeReason == nil else {
            return
        }
        for part in parts where part.byteCount > 0 {
            switch part {
            case .bytes(let bytes):
                context.write(wrapOutboundOut(.byteBuffer(bytes)), promise: nil)
            case .file(let descriptor, let position, let byteCount, let owner):
                let handle = NIOFileHandle(_deprecatedTakingOwnershipOfDescriptor: descriptor)
                let region = FileRegion(
                    fileHandle: handle,
                    readerIndex: Int(position),
                    endIndex: Int(position) + byteCount
                )
                let written = context.eventLoop.makePromise(of: Void.self)
                written.futureResult.assumeIsolated().whenComplete { _ in
                    Self.giveBack(handle, to: owner)
                }
                context.write(wrapOutboundOut(.fileRegion(region)), promise: written)
            }
        }
    }

    /// Takes the descriptor out of NIO's handle, which must not close it: it belongs to `owner`.
    private static func giveBack(_ handle: NIOFileHandle, to owner: AnyObject) {
        do {
            _ = try handle.takeDescriptorOwnership()
        } catch {
            preconditionFailure("a region that left is no longer in use: \(error)")
        }
        extendLifetime(owner)
    }

    func flush() {
        context?.flush()
    }

    func pauseReading() {
        isPausedByReceiver = true
        updateReading()
    }

    func resumeReading() {
        guard isPausedByReceiver else {
            return
        }
        isPausedByReceiver = false
        lastActivity = .now()
        updateReading()
        scheduleDelivery()
    }

    func close(_ reason: CloseReason) {
        guard let context, closeReason == nil else {
            return
        }
        let emptied = context.eventLoop.makePromise(of: Void.self)
        context.writeAndFlush(wrapOutboundOut(.byteBuffer(ByteBuffer())), promise: emptied)
        closeReason = reason
        updateReading()
        let bound = context.eventLoop.assumeIsolated().scheduleTask(in: .init(limits.closeTimeout))
        {
            self.context?.close(promise: nil)
        }
        emptied.futureResult.assumeIsolated().whenComplete { _ in
            bound.cancel()
            self.context?.close(promise: nil)
        }
    }

    private func closeNow(_ reason: CloseReason) {
        closeReason = closeReason ?? reason
        context?.close(promise: nil)
    }
}

// MARK: - Idle connections

extension FrameHandler {
    private func scheduleIdleCheck(at deadline: NIODeadline) {
        idleTimer = context?.eventLoop.assumeIsolated().scheduleTask(deadline: deadline) {
            self.checkIdle()
        }
    }

    /// Closes a connection that gave no sign of life for the whole timeout; looks again when its
    /// time may come.
    ///
    /// A connection that the broker holds back although its peer reads is not idle, nor is one
    /// whose output shrinks, however slowly. A request that drips in byte by byte is: only complete
    /// requests count.
    private func checkIdle() {
        guard let context, closeReason == nil else {
            return
        }
        let now = NIODeadline.now()
        let buffered = bufferedByteCount(of: context.channel)
        let isHeldBack = isPausedByReceiver && context.channel.isWritable
        if isHeldBack || (buffered > 0 && buffered != bufferedAtLastLook) {
            lastActivity = now
        }
        bufferedAtLastLook = buffered
        let deadline = lastActivity + limits.idle
        if deadline <= now {
            closeNow(.idle)
        } else {
            scheduleIdleCheck(at: deadline)
        }
    }

    private func bufferedByteCount(of channel: any Channel) -> Int {
        do {
            return try channel.syncOptions?.getOption(.bufferedWritableBytes) ?? 0
        } catch {
            // A channel that cannot tell counts as one without output; so does a closed one.
            return 0
        }
    }
}

/// An event that asks a connection to end: sent to all when the broker stops.
struct CloseConnection: Sendable {
    let reason: CloseReason
}

extension ConnectionLimits {
    fileprivate var idle: TimeAmount {
        .init(idleTimeout)
    }
}

extension NetworkAddress {
    /// A socket's address; empty for one without host and port.
    init(_ address: SocketAddress?) {
        let host = address?.ipAddress ?? ""
        let mapped = "::ffff:"
        let isMapped = host.hasPrefix(mapped) && host.utf8.contains(UInt8(ascii: "."))
        self.init(
            host: isMapped ? String(host.dropFirst(mapped.count)) : host,
            port: address?.port ?? 0
        )
    }
}
