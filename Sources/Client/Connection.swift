import DequeModule
import FlotillaKafkaWire
import NIOCore

/// What a callback of the client's loop is told.
typealias Completion<Value> = (Result<Value, ClientError>) -> Void

/// One connection to a broker: requests go out as they come, answers come back in the same order.
///
/// Lives on the client's event loop. Kafka answers each connection in order, so the table of what is
/// awaited is a queue, and an answer with another correlation id than its head ends the connection.
final class Connection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private struct Awaited {
        let correlationID: Int32
        let api: APIKey
        let version: Int16
        let deadline: NIODeadline
        let complete: Completion<ByteBuffer>
    }

    /// Answers larger than this end the connection: a fetch asks for far less.
    private static let maximumFrameByteCount = 256 << 20
    /// How often deadlines are looked at.
    private static let tick = TimeAmount.milliseconds(100)

    let address: BrokerAddress
    private let clientID: String
    private var context: ChannelHandlerContext?
    private var inbound = ByteBuffer()
    private var awaited: Deque<Awaited> = []
    private var nextCorrelationID: Int32 = 0
    private var isTicking = false
    private var isFlushPending = false
    private var failure: ClientError?
    /// What the broker serves, once it said so.
    private var versions: [Int16: ClosedRange<Int16>] = [:]
    /// Called once, when the connection is gone.
    var onClose: (ClientError) -> Void = { _ in }

    init(address: BrokerAddress, clientID: String) {
        self.address = address
        self.clientID = clientID
    }

    /// The request that is to be answered next; nil while none is.
    var awaitedAPI: APIKey? { awaited.first?.api }

    /// Whether requests can be sent.
    var isOpen: Bool {
        failure == nil && context != nil
    }

    /// The newest version of an API, up to `limit`, that both sides speak.
    func version<Request: KafkaRequest>(of request: Request.Type, limit: Int16 = .max) -> Int16? {
        guard let theirs = versions[Request.apiKey.rawValue] else { return nil }
        let ours = Request.apiKey.stableVersions
        let newest = min(ours.upperBound, theirs.upperBound, limit)
        return newest >= max(ours.lowerBound, theirs.lowerBound) ? newest : nil
    }

    /// Sends a request in a version that `version(of:)` gave; `complete` is called exactly once.
    func send<Request: KafkaRequest>(
        _ request: Request,
        version: Int16,
        timeout: TimeAmount,
        complete: @escaping Completion<Request.Response>
    ) {
        write(request, version: version, timeout: timeout) { answer in
            complete(
                answer.flatMap { bytes in
                    do throws(WireError) {
                        return .success(try Request.Response(from: bytes, version: version))
                    } catch {
                        return .failure(
                            .malformedResponse("\(Request.name) version \(version): \(error)")
                        )
                    }
                }
            )
        }
    }

    /// Sends a request that the broker does not answer (Produce with acks 0); `complete` is called when the
    /// system took its bytes.
    func sendUnanswered<Request: KafkaRequest>(
        _ request: Request,
        version: Int16,
        complete: @escaping Completion<Void>
    ) {
        guard let context, failure == nil else {
            return complete(.failure(failure ?? .disconnected(address, reason: "not connected")))
        }
        nextCorrelationID &+= 1
        do throws(ClientError) {
            try writeFrame(of: request, version: version, correlationID: nextCorrelationID)
        } catch {
            return complete(.failure(error))
        }
        let promise = context.eventLoop.makePromise(of: Void.self)
        promise.futureResult.assumeIsolated().whenComplete { result in
            complete(result.mapError { .disconnected(self.address, reason: "\($0)") })
        }
        context.write(wrapOutboundOut(ByteBuffer()), promise: promise)
    }

    /// Ends the connection; everything awaited fails with `reason`.
    func close(_ reason: ClientError) {
        guard failure == nil else { return }
        failure = reason
        context?.close(promise: nil)
        failAwaited(reason)
        onClose(reason)
    }

    private func write<Request: KafkaRequest>(
        _ request: Request,
        version: Int16,
        timeout: TimeAmount,
        complete: @escaping Completion<ByteBuffer>
    ) {
        if let failure { return complete(.failure(failure)) }
        nextCorrelationID &+= 1
        let id = nextCorrelationID
        do throws(ClientError) {
            try writeFrame(of: request, version: version, correlationID: id)
        } catch {
            return complete(.failure(error))
        }
        awaited.append(
            Awaited(
                correlationID: id,
                api: Request.apiKey,
                version: version,
                deadline: .now() + timeout,
                complete: complete
            )
        )
        startTicking()
    }

    private func writeFrame<Request: KafkaRequest>(
        of request: Request,
        version: Int16,
        correlationID: Int32
    ) throws(ClientError) {
        guard let context else { throw .disconnected(address, reason: "not connected") }
        do throws(WireError) {
            let frame = try request.frame(
                version: version,
                correlationId: correlationID,
                clientId: clientID
            )
            for part in frame.parts {
                guard case .bytes(let bytes) = part else {
                    preconditionFailure("a client sends bytes that it holds")
                }
                context.write(wrapOutboundOut(bytes), promise: nil)
            }
        } catch {
            throw .malformedResponse(
                "\(Request.name) cannot be sent in version \(version): \(error)"
            )
        }
        scheduleFlush(context)
    }

    /// Requests of one turn of the loop leave together.
    private func scheduleFlush(_ context: ChannelHandlerContext) {
        guard !isFlushPending else { return }
        isFlushPending = true
        context.eventLoop.assumeIsolated().execute {
            self.isFlushPending = false
            self.context?.flush()
        }
    }

    // MARK: Channel events

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        if inbound.readableBytes == 0 {
            inbound = bytes
        } else {
            inbound.writeBuffer(&bytes)
        }
        if let speech = Speech(inbound, isFirst: versions.isEmpty) {
            return close(.notKafka(address, speaks: speech.rawValue))
        }
        while failure == nil, let frame = nextFrame() {
            deliver(frame)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        close(.disconnected(address, reason: "closed by the broker"))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        close(.disconnected(address, reason: "\(error)"))
    }

    /// The next whole frame without its length.
    private func nextFrame() -> ByteBuffer? {
        do throws(WireError) {
            guard
                let length = try FrameLength.read(from: inbound, limit: Self.maximumFrameByteCount)
            else {
                return nil
            }
            let total = FrameLength.byteCount + length
            guard inbound.readableBytes >= total else {
                // Room for all of it at once: a fetch arrives in many reads.
                inbound.reserveCapacity(minimumWritableBytes: total - inbound.readableBytes)
                return nil
            }
            inbound.moveReaderIndex(forwardBy: FrameLength.byteCount)
            let frame = inbound.readSlice(length: length)
            // The frame shares the storage: writing behind it would copy everything.
            var rest = ByteBuffer()
            rest.writeBuffer(&inbound)
            inbound = rest
            return frame
        } catch {
            close(.malformedResponse("\(address): \(error)"))
            return nil
        }
    }

    private func deliver(_ frame: ByteBuffer) {
        guard let first = awaited.popFirst() else {
            return close(.malformedResponse("\(address) answers without a question"))
        }
        var body = frame
        do throws(WireError) {
            let header = try ResponseHeader(
                consuming: &body,
                api: first.api,
                version: first.version
            )
            guard header.correlationId == first.correlationID else {
                awaited.prepend(first)
                return close(.malformedResponse("\(address) answers out of order"))
            }
        } catch {
            awaited.prepend(first)
            return close(.malformedResponse("\(address): \(error)"))
        }
        first.complete(.success(body))
    }

    private func failAwaited(_ reason: ClientError) {
        let all = awaited
        awaited = []
        for one in all { one.complete(.failure(reason)) }
    }

    // MARK: Deadlines

    private func startTicking() {
        guard !isTicking, let context else { return }
        isTicking = true
        context.eventLoop.assumeIsolated().scheduleTask(in: Self.tick) {
            self.isTicking = false
            self.checkDeadlines()
        }
    }

    private func checkDeadlines() {
        guard failure == nil, let first = awaited.first else { return }
        // Answers come in order, so one that is late holds up all behind it.
        if let late = awaited.first(where: { $0.deadline <= .now() }) {
            let isFirst = late.correlationID == first.correlationID
            return close(
                .requestTimedOut(
                    api: late.api.name + (isFirst ? "" : " (awaiting \(first.api.name))"),
                    broker: address
                )
            )
        }
        startTicking()
    }
}

/// What somebody speaks who is not a broker, by the first bytes of an answer.
enum Speech: String {
    case http = "HTTP"
    case tls = "TLS"

    /// Nil for what may be Kafka's protocol; only the first answer of a connection is looked at.
    init?(_ answer: ByteBuffer, isFirst: Bool) {
        guard isFirst, let word = answer.getInteger(at: answer.readerIndex, as: UInt32.self) else {
            return nil
        }
        switch word {
        // "HTTP" would be a frame of a gigabyte.
        case 0x4854_5450: self = .http
        // An alert record of TLS 1.0 to 1.3; so large would no frame be either.
        case 0x1503_0000...0x1503_04FF: self = .tls
        default: return nil
        }
    }
}

// MARK: Negotiation

extension Connection {
    /// Asks what the broker serves; the connection is of use after that.
    ///
    /// A broker that does not know our version of ApiVersions answers error 35 in the form of version 0,
    /// and the question is repeated on the same connection in the newest version of its reply, or 0.
    ///
    /// - Source: KIP-511.
    func negotiate(timeout: TimeAmount, complete: @escaping Completion<Void>) {
        ask(
            version: ApiVersionsRequest.validVersions.upperBound,
            timeout: timeout,
            complete: complete
        )
    }

    private func ask(version: Int16, timeout: TimeAmount, complete: @escaping Completion<Void>) {
        let request =
            version >= 3
            ? ApiVersionsRequest(
                clientSoftwareName: ClientSoftware.name,
                clientSoftwareVersion: ClientSoftware.version
            ) : ApiVersionsRequest()
        write(request, version: version, timeout: timeout) { answer in
            switch answer {
            case .failure(let error): complete(.failure(error))
            case .success(let body):
                self.conclude(body, version: version, timeout: timeout, complete: complete)
            }
        }
    }

    private func conclude(
        _ body: ByteBuffer,
        version: Int16,
        timeout: TimeAmount,
        complete: @escaping Completion<Void>
    ) {
        let isRefused = version > 0 && body.getInteger(at: body.readerIndex, as: Int16.self) == 35
        do throws(WireError) {
            let response = try ApiVersionsResponse(from: body, version: isRefused ? 0 : version)
            if isRefused {
                let own = response.apiKeys.first { $0.apiKey == APIKey.apiVersions.rawValue }
                let next = max(0, min(own?.maxVersion ?? 0, version - 1))
                return ask(version: next, timeout: timeout, complete: complete)
            }
            if let error = ClientError(code: response.errorCode, subject: "ApiVersions") {
                return complete(.failure(error))
            }
            for api in response.apiKeys where api.minVersion <= api.maxVersion {
                versions[api.apiKey] = api.minVersion...api.maxVersion
            }
            complete(.success(()))
        } catch {
            complete(.failure(.malformedResponse("\(address): ApiVersions: \(error)")))
        }
    }
}
