import FlotillaKafkaWire
import FlotillaModel
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import FlotillaClient

@Suite("How long a client waits, and for whom", .timeLimit(.minutes(2)))
struct PatienceTests {
    /// Somebody who listens, takes connections, and says nothing or one thing.
    private final class Listener: Sendable {
        let address: BrokerAddress
        private let channel: any Channel
        private let count: Count

        private final class Speaker: ChannelInboundHandler {
            typealias InboundIn = ByteBuffer
            let answer: String?
            init(_ answer: String?) { self.answer = answer }
            func channelRead(context: ChannelHandlerContext, data: NIOAny) {
                guard let answer else { return }
                context.writeAndFlush(NIOAny(ByteBuffer(string: answer)), promise: nil)
            }
        }

        private final class Count: Sendable {
            let value = Mutex(0)
        }

        init(saying answer: String? = nil) async throws {
            let count = Count()
            self.count = count
            channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        count.value.withLock { $0 += 1 }
                        try channel.pipeline.syncOperations.addHandler(Speaker(answer))
                    }
                }
                .bind(host: "127.0.0.1", port: 0).get()
            address = BrokerAddress(host: "127.0.0.1", port: channel.localAddress?.port ?? 0)
        }

        /// How many connections came.
        var connectionCount: Int { count.value.withLock { $0 } }

        func stop() async throws { try await channel.close() }
    }

    private func configuration(_ brokers: BrokerAddress..., limit: Duration) -> ClientConfiguration
    {
        var configuration = ClientConfiguration(brokers: brokers)
        configuration.requestTimeout = limit
        configuration.retryTimeout = limit
        configuration.initialBackoff = .milliseconds(2)
        configuration.nextBrokerDelay = .milliseconds(20)
        return configuration
    }

    /// Nobody listens on port 1.
    private static let nobody = BrokerAddress(host: "127.0.0.1", port: 1)

    @Test("A broker that hangs holds nobody up while another one answers")
    func hangingBroker() async throws {
        let silent = try await Listener()
        let broker = try await FakeBroker.start()
        let address = BrokerAddress(host: "127.0.0.1", port: broker.address.port)
        // Whoever is asked first is drawn.
        for _ in 0..<5 {
            let client = KafkaClient(configuration(silent.address, address, limit: .seconds(20)))
            let begin = ContinuousClock.now
            #expect(try await client.metadata().brokers.count == 1)
            #expect(ContinuousClock.now - begin < .seconds(10))
            await client.close()
        }
        try await silent.stop()
        try await broker.stop()
    }

    @Test("Where everybody hangs the call is over in time, and nobody was asked twice")
    func allHang() async throws {
        let first = try await Listener()
        let second = try await Listener()
        let client = KafkaClient(
            configuration(first.address, second.address, limit: .milliseconds(400))
        )
        let begin = ContinuousClock.now
        let error = await #expect(throws: ClientError.self) { try await client.metadata() }
        #expect(ContinuousClock.now - begin < .seconds(3))
        guard case .unreachable(let brokers, "no answer in time", isRefusal: false)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(Set(brokers) == [first.address, second.address])
        #expect(first.connectionCount <= 1 && second.connectionCount <= 1)
        await client.close()
        try await first.stop()
        try await second.stop()
    }

    @Test("A broker that hangs up again and again is asked no longer than the call may take")
    func hangingUp() async throws {
        let broker = try await FakeBroker.start(extras: [
            .describeQuorum: { _, _ in throw ClientError.closed }
        ])
        let address = BrokerAddress(host: "127.0.0.1", port: broker.address.port)
        let client = KafkaClient(configuration(address, limit: .milliseconds(400)))
        let begin = ContinuousClock.now
        await #expect(throws: ClientError.self) { try await Admin(client).quorum() }
        #expect(ContinuousClock.now - begin < .seconds(3))
        await client.close()
        try await broker.stop()
    }

    @Test("The broker is asked to wait for less than the client does")
    func timeoutInRequest() async throws {
        let seen = Mutex<Int32>(0)
        let broker = try await FakeBroker.start(extras: [
            .createTopics: { body, version in
                let request = try CreateTopicsRequest(from: body, version: version)
                seen.withLock { $0 = request.timeoutMs }
                return CreateTopicsResponse(topics: [.init(name: "a")])
            }
        ])
        let address = BrokerAddress(host: "127.0.0.1", port: broker.address.port)
        let client = KafkaClient(configuration(address, limit: .seconds(5)))
        _ = try await Admin(client).createTopics([.init(name: "a")])
        #expect((1...4_000).contains(seen.withLock { $0 }))
        await client.close()
        try await broker.stop()
    }

    @Test("What a controller says who never decides is told in the end")
    func neverDecided() async throws {
        let broker = try await FakeBroker.start(extras: [
            .createTopics: { _, _ in
                CreateTopicsResponse(topics: [
                    .init(name: "a", errorCode: 41, errorMessage: "nobody leads; ask again")
                ])
            }
        ])
        let address = BrokerAddress(host: "127.0.0.1", port: broker.address.port)
        var configuration = configuration(address, limit: .seconds(2))
        // The last pause is what is left no time for, and not an answer.
        configuration.initialBackoff = .milliseconds(800)
        let client = KafkaClient(configuration)
        let outcomes = try await Admin(client).createTopics([.init(name: "a")])
        #expect((outcomes["a"] ?? nil)?.description.hasSuffix("nobody leads; ask again") == true)
        await client.close()
        try await broker.stop()
    }

    @Test("Where every address refuses, waiting ends sooner, and what is waited for is told once")
    func refusals() async throws {
        let told = Mutex<[String]>([])
        var configuration = configuration(Self.nobody, limit: .seconds(30))
        configuration.refusalTimeout = .milliseconds(300)
        configuration.waitNoticeDelay = .milliseconds(50)
        configuration.onWait = { text in told.withLock { $0.append(text) } }
        let client = KafkaClient(configuration)
        let begin = ContinuousClock.now
        for _ in 0..<2 {
            let error = await #expect(throws: ClientError.self) { try await client.metadata() }
            guard case .unreachable(_, "Connection refused", isRefusal: true)? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
        #expect(ContinuousClock.now - begin < .seconds(10))
        #expect(
            told.withLock { $0 } == [
                "waiting for a broker at 127.0.0.1:1: Connection refused"
            ]
        )
        await client.close()
    }

    @Test(
        "Who speaks HTTP or TLS is no broker, which is known at once",
        arguments: ["HTTP", "TLS"]
    )
    func foreignSpeech(speech: String) async throws {
        let answer =
            speech == "HTTP" ? "HTTP/1.1 400 Bad Request\r\n\r\n" : "\u{15}\u{3}\u{3}\u{0}\u{2}"
        let listener = try await Listener(saying: answer)
        let client = KafkaClient(configuration(listener.address, limit: .seconds(30)))
        let begin = ContinuousClock.now
        await #expect(throws: ClientError.notKafka(listener.address, speaks: speech)) {
            try await client.metadata()
        }
        #expect(ContinuousClock.now - begin < .seconds(10))
        await client.close()
        try await listener.stop()
    }

    @Test("One error for several addresses tells each reason, or the one that they share")
    func summary() {
        let silent = BrokerAddress(host: "b", port: 2)
        let refused = ClientError.unreachable(
            brokers: [Self.nobody],
            reason: "Connection refused",
            isRefusal: true
        )
        let late = ClientError.requestTimedOut(api: "ApiVersions", broker: silent)
        #expect(
            ConnectionSearch.summary([Self.nobody, silent], [Self.nobody: refused, silent: late])
                .description
                == "no broker reached at 127.0.0.1:1, b:2: 127.0.0.1:1: Connection refused; b:2: no answer in time"
        )
        let both = ConnectionSearch.summary(
            [Self.nobody, silent],
            [Self.nobody: refused, silent: refused]
        )
        guard case .unreachable(_, "Connection refused", isRefusal: true) = both else {
            Issue.record("\(both)")
            return
        }
    }

    @Test("Brokers that are registered are told with whether they are alive")
    func registeredBrokers() async throws {
        let broker = try await FakeBroker.start(extras: [
            .describeCluster: { body, version in
                let request = try DescribeClusterRequest(from: body, version: version)
                return DescribeClusterResponse(brokers: [
                    .init(brokerId: 2, host: "b", port: 2, isFenced: request.includeFencedBrokers),
                    .init(brokerId: 1, host: "a", port: 1),
                ])
            }
        ])
        let address = BrokerAddress(host: "127.0.0.1", port: broker.address.port)
        let client = KafkaClient(configuration(address, limit: .seconds(20)))
        let brokers = try await Admin(client).registeredBrokers()
        #expect(brokers.map(\.id) == [BrokerID(1), BrokerID(2)])
        #expect(brokers.map(\.isAlive) == [true, false])
        await client.close()
        try await broker.stop()
    }
}
