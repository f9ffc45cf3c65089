import FlotillaBroker
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaSimulation
import Testing
import struct NIOCore.ByteBuffer

/// The bound over what all clients' answers hold in memory.
@Suite("Room for answers")
struct AnswerBudgetTests {
    /// Ten batches of 60 KB, and room for 200 KB of answers.
    private func makeBroker() throws -> TestBroker {
        let broker = try TestBroker(shardCount: 1) { $0.answerByteLimit = 200_000 }
        let client = try broker.connect()
        try client.createTopic(configs: [("compression.type", "producer")])
        for _ in 0..<10 { try client.produce(Batches.large(60_000)) }
        return broker
    }

    /// A client whose answer of 60 KB stays in the broker until it is read.
    private func slowReader(_ broker: TestBroker, wait: Int32 = 0) throws -> (TestClient, Int32) {
        let client = try broker.connect()
        client.readSlowly(above: 10_000)
        let id = try client.send(TestClient.fetchRequest(wait: wait), version: 12)
        broker.run()
        return (client, id)
    }

    private func recordCount(_ client: TestClient, _ id: Int32) throws -> Int {
        let answer = try client.answer(to: FetchRequest.self, version: 12, id: id)
        let partition = try only(only(answer.responses).partitions)
        #expect(partition.highWatermark == 10)
        return try partition.values().count
    }

    @Test("a client that reads gets what it asks for, and holds nothing afterwards")
    func alone() throws {
        let broker = try makeBroker()
        let client = try broker.connect()
        let id = try client.send(
            TestClient.fetchRequest(minBytes: 1 << 20, maxBytes: 90_000),
            version: 12
        )
        broker.run()
        #expect(try recordCount(client, id) == 1)
        #expect(broker.shards[0].heldAnswerByteCount == 0)
    }

    @Test("a fetch that gets less than it asks for does not wait for what is there already")
    func shortened() throws {
        let broker = try makeBroker()
        let client = try broker.connect()
        let id = try client.send(
            TestClient.fetchRequest(wait: 60_000, minBytes: 500_000),
            version: 12
        )
        broker.run()
        #expect(try recordCount(client, id) == 1)
    }

    @Test("clients that do not take their answers hold no more than there is room for")
    func bounded() throws {
        let broker = try makeBroker()
        let slow = try (0..<20).map { _ in try slowReader(broker) }
        let answered = slow.filter { $0.0.unread.readableBytes > 10_000 }
        #expect(answered.count == 4)
        // The last one got its first batch although less was left.
        #expect((200_000..<260_000).contains(broker.shards[0].heldAnswerByteCount))
        for (client, id) in slow.dropFirst(answered.count) {
            #expect(try recordCount(client, id) == 0)
        }
        for (client, id) in answered {
            #expect(try recordCount(client, id) == 1)
            client.setWritable(true)
        }
        broker.run()
        #expect(broker.shards[0].heldAnswerByteCount == 0)
    }

    @Test("without room a fetch waits, and goes on when a client takes its answer or hangs up")
    func waits() throws {
        let broker = try makeBroker()
        let holders = try (0..<4).map { _ in try slowReader(broker) }
        let waiting = try (0..<3).map { _ in try slowReader(broker, wait: 60_000) }
        #expect(waiting.allSatisfy { !$0.0.hasAnswer })
        #expect(try recordCount(holders[0].0, holders[0].1) == 1)
        holders[0].0.setWritable(true)
        broker.advance(by: .zero)
        #expect(waiting.map { $0.0.hasAnswer } == [true, false, false])
        holders[1].0.hangUp()
        broker.advance(by: .zero)
        #expect(waiting.map { $0.0.hasAnswer } == [true, true, false])
        broker.advance(by: .seconds(61))
        #expect(try waiting.map { try recordCount($0.0, $0.1) } == [1, 1, 0])
    }

    @Test("a connection that drains does not wait for room")
    func drains() throws {
        let broker = try makeBroker()
        _ = try (0..<4).map { _ in try slowReader(broker) }
        let (client, id) = try slowReader(broker, wait: 60_000)
        #expect(!client.hasAnswer)
        client.drain()
        broker.run()
        #expect(try recordCount(client, id) == 0)
        #expect(client.closeReason == .shutdown)
    }

    @Test("records that are inflated on the way count with the size that the client gets")
    func inflated() throws {
        let broker = try TestBroker(shardCount: 1) { $0.answerByteLimit = 400_000 }
        let client = try broker.connect()
        try client.createTopic()
        // Compressed by the broker these take next to nothing.
        for _ in 0..<10 { try client.produce(Batches.large(60_000)) }
        let (slow, id) = try slowReader(broker)
        let answer = try slow.answer(to: FetchRequest.self, version: 12, id: id)
        #expect(try only(only(answer.responses).partitions).values().count == 3)
        #expect((180_000..<200_000).contains(broker.shards[0].heldAnswerByteCount))
    }
}
