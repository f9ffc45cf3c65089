import DequeModule
package import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
package import struct NIOCore.ByteBuffer

/// One client: its requests are decoded here, answered somewhere, and the answers leave in order.
///
/// Requests of one connection take effect in their order as far as one partition sees them, which idempotent producers
/// with five requests in flight rest on. What the client has in flight is bounded: above the bound nothing more is taken
/// from its socket.
package final class Connection: FrameReceiver {
    /// The largest number of requests that may wait for answers on one connection.
    package static let pipelineLimit = 1_024

    let sink: any FrameSink
    /// What the client says it is, from ApiVersions version 3 on.
    var software: ClientSoftware?
    unowned let shard: Shard
    private var responses = ResponseQueue()
    private var inFlightByteCount = 0
    private var isPaused = false
    private var isClosed = false
    private var isDirty = false
    /// Whether the broker stops: what was received is answered, and nothing more taken.
    private(set) var isDraining = false
    /// Has the fetch that waits for records answer with what there is.
    var endWaiting: (() -> Void)?
    /// Where this consumer was sent to read from followers.
    var redirects = ReadRedirects()
    /// The fetch that is being answered.
    ///
    /// A second one waits, and what comes after it: an answer may be as large as `fetch.max.bytes`, and a client that does
    /// not read must not have many of them made.
    private var fetch: ResponseQueue.Slot?
    /// Bytes of fetched records in answers that the client has not taken.
    private var heldByteCount = 0
    /// Those of them that lie in the sink.
    private var sentByteCount = 0
    /// Requests that wait behind a second fetch; nothing is read meanwhile, so there are few.
    private var deferred = Deque<ByteBuffer>()

    /// Puts a connection on a shard.
    package init(shard: Shard, sink: any FrameSink) {
        self.shard = shard
        self.sink = sink
        shard.connectionOpened()
    }

    // MARK: Input

    /// Handles a request; its answer may leave at once or much later.
    package func receive(frame: ByteBuffer) {
        guard !isClosed else { return }
        guard deferred.isEmpty, fetch == nil || !Self.isFetch(frame) else {
            deferred.append(frame)
            return adjustReading()
        }
        handle(frame)
    }

    private static func isFetch(_ frame: ByteBuffer) -> Bool {
        frame.getInteger(at: frame.readerIndex, as: Int16.self) == APIKey.fetch.rawValue
    }

    /// Takes up what waited behind a fetch that has been answered, as long as the client reads.
    private func handleDeferred() {
        while fetch == nil, sink.isWritable, !isClosed, let frame = deferred.popFirst() {
            handle(frame)
        }
    }

    private func handle(_ frame: ByteBuffer) {
        let byteCount = frame.readableBytes
        do {
            let prefix = try RequestPrefix(peeking: frame)
            guard let api = APIKey(rawValue: prefix.apiKey), let served = ServedAPIs.range(of: api)
            else {
                return close(.unsupportedRequest)
            }
            guard served.contains(prefix.apiVersion) else {
                // Only ApiVersions has an answer for a version that is too new; see PROTOCOL section 4.
                guard api == .apiVersions else { return close(.unsupportedRequest) }
                let context = RequestContext(
                    connection: self,
                    slot: open(byteCount),
                    version: 0,
                    correlationID: prefix.correlationId,
                    clientID: nil
                )
                return context.respond(ApiVersionsHandler.versionTooNew)
            }
            var body = frame
            let header = try RequestHeader(consuming: &body)
            let context = RequestContext(
                connection: self,
                slot: open(byteCount),
                version: header.requestApiVersion,
                correlationID: header.correlationId,
                clientID: header.clientId
            )
            if api == .fetch { fetch = context.slot }
            try shard.dispatch(api, body, context)
        } catch {
            close(.malformedRequest)
        }
    }

    /// Nothing to do: answers leave at the end of the turn.
    package func readRoundEnded() {}

    /// Takes requests only while the client reads its answers.
    package func writabilityChanged(_ isWritable: Bool) {
        if isWritable, !isClosed { giveBackSent() }
        handleDeferred()
        adjustReading()
    }

    /// Answers what was received, without waiting for records to come, and closes then.
    package func drain() -> Bool {
        isDraining = true
        endWaiting?()
        needsFlush()
        return true
    }

    /// Forgets the client; what it asked for still happens, but nobody is told.
    ///
    /// Of what waited behind a fetch, only the fetches are dropped: they change nothing.
    package func connectionClosed(_ reason: CloseReason) {
        let held = deferred
        deferred.removeAll()
        for frame in held where !isClosed && !Self.isFetch(frame) { handle(frame) }
        markClosed()
    }

    // MARK: Output

    /// Puts an answer into its place.
    func respond(_ slot: ResponseQueue.Slot, _ parts: [OutputPart]) {
        guard !isClosed else { return }
        var held = 0
        if fetch == slot {
            fetch = nil
            held = parts.reduce(0) { $0 + $1.heldByteCount }
            heldByteCount += held
            shard.holdAnswer(held)
        }
        responses.fill(slot, parts, heldByteCount: held)
        needsFlush()
    }

    private func needsFlush() {
        guard !isDirty else { return }
        isDirty = true
        shard.needsFlush(self)
    }

    /// Hands over the answers that are next in order; ends a connection that is drained.
    func flush() {
        isDirty = false
        guard !isClosed else { return }
        writeReady()
        handleDeferred()
        adjustReading()
        if isDraining, isIdle, deferred.isEmpty { close(.shutdown) }
    }

    private func writeReady() {
        var hasOutput = false
        while let (parts, requestByteCount, answerByteCount) = responses.takeReady() {
            sentByteCount += answerByteCount
            inFlightByteCount -= requestByteCount
            shard.inFlight(changedBy: -requestByteCount)
            if !parts.isEmpty {
                sink.write(parts)
                hasOutput = true
            }
        }
        if hasOutput { sink.flush() }
        if sink.isWritable { giveBackSent() }
    }

    /// The sink is below its mark: what is left of the answers in it counts as taken.
    private func giveBackSent() {
        heldByteCount -= sentByteCount
        shard.giveBackAnswerRoom(sentByteCount)
        sentByteCount = 0
    }

    /// Ends the connection.
    func close(_ reason: CloseReason) {
        guard !isClosed else { return }
        deferred.removeAll()
        writeReady()
        markClosed()
        sink.close(reason)
    }

    /// Whether every request has been answered.
    var isIdle: Bool { responses.count == 0 }

    private func open(_ byteCount: Int) -> ResponseQueue.Slot {
        inFlightByteCount += byteCount
        shard.inFlight(changedBy: byteCount)
        let slot = responses.open(requestByteCount: byteCount)
        adjustReading()
        return slot
    }

    /// Stops and resumes with a gap between, so that one request more or less does not toggle it.
    func adjustReading() {
        guard !isClosed else { return }
        let limit = shard.settings.connectionInFlightByteLimit
        let isFull =
            !deferred.isEmpty || inFlightByteCount > (isPaused ? limit / 2 : limit)
            || responses.count >= (isPaused ? Self.pipelineLimit / 2 : Self.pipelineLimit)
            || (shard.isOverloaded && inFlightByteCount > 0)
        let shouldPause = isFull || !sink.isWritable
        guard shouldPause != isPaused else { return }
        isPaused = shouldPause
        if shouldPause {
            sink.pauseReading()
            shard.paused(self)
        } else {
            sink.resumeReading()
        }
    }

    private func markClosed() {
        guard !isClosed else { return }
        isClosed = true
        endWaiting = nil
        deferred.removeAll()
        shard.inFlight(changedBy: -inFlightByteCount)
        inFlightByteCount = 0
        shard.giveBackAnswerRoom(heldByteCount)
        heldByteCount = 0
        sentByteCount = 0
        shard.connectionClosed()
    }
}

extension OutputPart {
    /// What the part holds in memory; a range of a file holds nothing.
    fileprivate var heldByteCount: Int {
        switch self {
        case .bytes(let bytes): bytes.readableBytes
        case .file: 0
        }
    }
}

/// What a client calls itself.
struct ClientSoftware {
    var name: String
    var version: String

    /// Whether this client is known to read lz4 without a library that its user has to add.
    ///
    /// kafka-python and kafkajs lack lz4 unless it is installed beside them, aiokafka sends no name.
    var readsLZ4: Bool {
        let known = [
            "librdkafka", "confluent-kafka", "apache-kafka-java", "kgo", "franz-go", "sarama",
            "flotilla", "rdkafka", "kcat",
        ]
        return known.contains { name.hasPrefix($0) }
    }
}

/// A request on its way through the broker: whom to answer, and how.
struct RequestContext {
    let connection: Connection
    let slot: ResponseQueue.Slot
    let version: Int16
    let correlationID: Int32
    let clientID: String?

    /// Answers with a body.
    func respond<Response: KafkaResponse>(_ response: Response) {
        respond(response) { _ in preconditionFailure("this response has no external parts") }
    }

    /// Answers with a body, some of whose records lie in files.
    ///
    /// `external`: the part of a file that a token stands for.
    func respond<Response: KafkaResponse>(_ response: Response, external: (Int) -> OutputPart) {
        do {
            let frame = try response.frame(version: version, correlationId: correlationID)
            if let buffer = frame.buffer {
                return connection.respond(slot, [.bytes(buffer)])
            }
            connection.respond(
                slot,
                frame.parts.map { part in
                    switch part {
                    case .bytes(let bytes): .bytes(bytes)
                    case .external(let token, _): external(token)
                    }
                }
            )
        } catch {
            // Only our own mistake sets a field that the version lacks; tests walk every API and version.
            assertionFailure("\(Response.name) v\(version): \(error)")
            connection.close(.malformedRequest)
        }
    }

    /// Answers nothing, as for Produce with acks=0.
    func respondNothing() {
        connection.respond(slot, [])
    }
}
