import FlotillaKafkaWire
import FlotillaModel
public import Logging
public import NIOCore
import NIOPosix

/// A client of a Kafka-compatible cluster: producers, consumers and administration share its connections.
///
/// ```swift
/// let client = KafkaClient(ClientConfiguration(brokers: [BrokerAddress(host: "localhost", port: 9092)]))
/// let producer = Producer(client)
/// let place = try await producer.send(ProducerRecord(topic: "greetings", value: ByteBuffer(string: "hello")))
/// await producer.close()
/// await client.close()
/// ```
///
/// Everything behind it runs on one event loop of the group; no task is started.
public final class KafkaClient: Sendable {
    /// What it was made with.
    public let configuration: ClientConfiguration
    let loop: any EventLoop
    private let core: NIOLoopBoundBox<Core>

    /// Makes a client; it connects when it is first asked for something.
    ///
    /// `group`: whose event loop to use; nil for NIO's own.
    public init(
        _ configuration: ClientConfiguration,
        group: (any EventLoopGroup)? = nil,
        logger: Logger = Logger(label: "flotilla.client")
    ) {
        self.configuration = configuration
        let loop = (group ?? MultiThreadedEventLoopGroup.singleton).next()
        self.loop = loop
        core = NIOLoopBoundBox.makeBoxSendingValue(
            Core(loop: loop, configuration: configuration, logger: logger),
            eventLoop: loop
        )
    }

    /// Ends all connections.
    ///
    /// Close producers first: what they still hold would fail.
    public func close() async {
        await withCheckedContinuation { continuation in
            loop.execute {
                self.core.value.close()
                continuation.resume()
            }
        }
    }

    /// Runs `body` on the loop and returns what it completes with.
    func call<Value: Sendable>(
        _ body: @escaping @Sendable (Core, @escaping Completion<Value>) -> Void
    ) async throws(ClientError) -> Value {
        let result: Result<Value, ClientError> = await withCheckedContinuation { continuation in
            loop.execute {
                body(self.core.value) { continuation.resume(returning: $0) }
            }
        }
        return try result.get()
    }

    /// The state on the loop, for those who are on it.
    var loopCore: Core {
        core.value
    }

    /// Sends one request and returns its answer, whatever error code is in it.
    func request<Request: KafkaRequest>(
        to target: Core.Target,
        limit: Int16 = .max,
        _ make: @escaping @Sendable (Int16) -> Request
    ) async throws(ClientError) -> Request.Response {
        let deadline = deadline()
        return try await call { core, complete in
            core.send(to: target, limit: limit, by: deadline, make, complete: complete)
        }
    }

    /// The same on a connection for one purpose, with its own limit for connecting and answering.
    func request<Request: KafkaRequest>(
        to target: Core.Target,
        for purpose: Core.Purpose,
        limit: Int16 = .max,
        within patience: Duration,
        _ make: @escaping @Sendable (Int16) -> Request
    ) async throws(ClientError) -> Request.Response {
        let timeout = TimeAmount(patience)
        let deadline = min(.now() + timeout, Self.callDeadline ?? .distantFuture)
        return try await call { core, complete in
            core.send(
                to: target,
                for: purpose,
                limit: limit,
                timeout: timeout,
                by: deadline,
                make,
                complete: complete
            )
        }
    }

    /// Ends the connections of one purpose; what is awaited on them fails.
    func close(_ purpose: Core.Purpose) async {
        await withCheckedContinuation { continuation in
            loop.execute {
                self.core.value.close(purpose)
                continuation.resume()
            }
        }
    }

    // MARK: Deadlines

    /// When the call must be over that this task is in; nil outside of calls.
    @TaskLocal static var callDeadline: NIODeadline?

    /// When a request that begins now must be answered.
    func deadline() -> NIODeadline {
        let own = NIODeadline.now() + TimeAmount(configuration.requestTimeout)
        return min(own, Self.callDeadline ?? own)
    }

    /// Runs a call that must be over after a time, whatever it asks for on the way.
    func within<Value: Sendable>(
        _ limit: Duration,
        _ body: () async throws(ClientError) -> Value
    ) async throws(ClientError) -> Value {
        let own = NIODeadline.now() + TimeAmount(limit)
        let deadline = min(own, Self.callDeadline ?? own)
        let result = await Self.$callDeadline.withValue(deadline) {
            () async -> Result<Value, ClientError> in
            do throws(ClientError) {
                return .success(try await body())
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    /// Repeats `attempt` with growing pauses while it fails with what may pass, up to the retry timeout.
    func retrying<Value: Sendable>(
        _ attempt: () async throws(ClientError) -> Value
    ) async throws(ClientError) -> Value {
        let isOutermost = Self.callDeadline == nil
        let notice =
            isOutermost
            ? loop.scheduleTask(in: TimeAmount(configuration.waitNoticeDelay)) {
                self.core.value.tellWaiting()
            } : nil
        defer { notice?.cancel() }
        let limit = max(configuration.retryTimeout, configuration.requestTimeout)
        return try await within(limit) { () async throws(ClientError) in
            try await repeating(attempt)
        }
    }

    private func repeating<Value: Sendable>(
        _ attempt: () async throws(ClientError) -> Value
    ) async throws(ClientError) -> Value {
        let begin = ContinuousClock.now
        var backoff = Backoff(configuration)
        while true {
            do throws(ClientError) {
                return try await attempt()
            } catch {
                var limit = configuration.retryTimeout
                if case .unreachable(_, _, isRefusal: true) = error {
                    limit = configuration.refusalTimeout ?? limit
                }
                let pause = backoff.next()
                let isInTime =
                    ContinuousClock.now + pause < begin + limit
                    && Self.callDeadline.map { .now() + TimeAmount(pause) < $0 } ?? true
                guard error.isRetriable, isInTime else { throw error }
                try await Self.sleep(pause)
            }
        }
    }

    /// Waits; a cancelled task does not.
    static func sleep(_ duration: Duration) async throws(ClientError) {
        do {
            try await Task.sleep(for: duration)
        } catch {
            throw .cancelled
        }
    }

    /// Describes the cluster, and the topics named (nil: all of them).
    ///
    /// A topic that does not exist is in the answer with its error.
    ///
    /// `allowsCreation`: whether naming a topic may create it, where the cluster allows that.
    public func metadata(
        topics: [String]? = nil,
        allowsCreation: Bool = false
    ) async throws(ClientError) -> ClusterMetadata {
        try await retrying { () async throws(ClientError) in
            let deadline = deadline()
            return try await call { core, complete in
                core.refreshMetadata(
                    topics: topics,
                    allowsCreation: allowsCreation,
                    by: deadline,
                    complete: complete
                )
            }
        }
    }
}
