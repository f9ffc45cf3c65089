import FlotillaBroker
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRecords
import FlotillaSimulation
import Testing
import struct NIOCore.ByteBuffer

@Suite("Fetch")
struct FetchTests {
    /// A broker with a topic of three batches: offsets 0 and 1, 2, 3.
    private func brokerWithThree(shard: Int = 0) throws -> (TestBroker, TestClient) {
        let broker = try TestBroker()
        let client = try broker.connect(to: shard)
        try client.createTopic()
        try client.produce(Batches.batch("a", "b"))
        try client.produce(Batches.batch("c"))
        try client.produce(Batches.batch("d"))
        return (broker, client)
    }

    @Test("nothing is read that is not committed (FETCH-2)", arguments: [Int8(0), 1])
    func committedOnly(isolation: Int8) throws {
        let (broker, client) = try brokerWithThree()
        broker.isJournalHeld = true
        let writer = try broker.connect()
        _ = try writer.sendProduce(Batches.batch("e"), acks: 1)
        broker.run()
        let part = try client.fetch(TestClient.fetchRequest(from: 3, isolation: isolation))
        #expect(part.highWatermark == 4)
        #expect(part.lastStableOffset == 4)
        #expect(try part.values() == [3: "d"])
        let beyond = try client.fetch(TestClient.fetchRequest(from: 4, isolation: isolation))
        #expect(beyond.error == .noError)
        #expect(beyond.bytes.readableBytes == 0)
    }

    @Test(
        "offsets outside of the log are out of range (FETCH-3, FETCH-7)",
        arguments: [Int64(-1), 5, 1_000]
    )
    func outOfRange(offset: Int64) throws {
        let (_, client) = try brokerWithThree()
        let part = try client.fetch(TestClient.fetchRequest(from: offset))
        #expect(part.error == .offsetOutOfRange)
        #expect(part.highWatermark == -1)
        #expect(part.lastStableOffset == -1)
        #expect(part.logStartOffset == -1)
        #expect(part.records?.byteCount == 0)
    }

    @Test("below the start is out of range too (FETCH-3)")
    func belowStart() throws {
        let (_, client) = try brokerWithThree()
        _ = try client.deleteRecords(before: 2)
        #expect(try client.fetch(TestClient.fetchRequest(from: 1)).error == .offsetOutOfRange)
        let part = try client.fetch(TestClient.fetchRequest(from: 2))
        #expect(part.logStartOffset == 2)
        #expect(try part.values() == [2: "c", 3: "d"])
    }

    @Test("the batch that contains the offset comes whole (FETCH-4)")
    func wholeBatches() throws {
        let (_, client) = try brokerWithThree()
        #expect(try client.read(from: 1) == [0: "a", 1: "b", 2: "c", 3: "d"])
        #expect(try client.read(from: 3) == [3: "d"])
    }

    @Test("what is fetched is byte for byte what was sent, but for the stamp (FETCH-4)")
    func unchanged() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        let sent = Batches.batch("a", "b", codec: .gzip)
        try client.produce(sent)
        let bytes = try client.fetch().bytes
        #expect(
            bytes.getSlice(at: bytes.readerIndex + 21, length: bytes.readableBytes - 21)
                == sent.getSlice(at: 21, length: sent.readableBytes - 21)
        )
    }

    @Test("the first batch comes whole although it is larger than both limits (FETCH-5, KIP-74)")
    func firstBatch() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        try client.produce(Batches.batch(String(repeating: "x", count: 500), codec: .gzip))
        try client.produce(Batches.batch("second"))
        let part = try client.fetch(
            TestClient.fetchRequest(maxBytes: 1, partitionMaxBytes: 1)
        )
        #expect(try part.values().keys.sorted() == [0])
    }

    @Test("after the first batch the limits are strict (FETCH-5)")
    func limits() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic(partitions: 2)
        for partition in Int32(0)..<2 {
            for step in 0..<5 {
                try client.produce(Batches.batch("value \(step)"), partition: partition)
            }
        }
        let size = try only(
            client.fetch(TestClient.fetchRequest(from: 4)).batches()
        ).byteCount
        let limited = try client.fetch(
            TestClient.fetchRequest(partitionMaxBytes: Int32(2 * size + 1))
        )
        #expect(try limited.batches().count == 2)
        var request = TestClient.fetchRequest(maxBytes: Int32(5 * size))
        request.topics[0].partitions.append(
            .init(partition: 1, fetchOffset: 0, partitionMaxBytes: 1 << 20)
        )
        let both = try only(client.ask(request, version: 12).responses).partitions
        #expect(try both[0].batches().count == 5)
        #expect(both[1].error == .noError)
        #expect(both[1].bytes.readableBytes == 0)
        #expect(both[1].highWatermark == 5)
    }

    // MARK: Waiting

    @Test(
        "a fetch waits for its bytes, and is answered by the commit (FETCH-6)",
        arguments: [0, 1]
    )
    func wakesByCommit(shard: Int) throws {
        let (broker, client) = try brokerWithThree(shard: shard)
        let writer = try broker.connect(to: 1 - shard)
        let id = try client.send(TestClient.fetchRequest(from: 4, wait: 5_000), version: 12)
        broker.run()
        #expect(!client.hasAnswer)
        broker.isJournalHeld = true
        let produced = try writer.sendProduce(Batches.batch("e"))
        broker.run()
        #expect(!client.hasAnswer)
        broker.isJournalHeld = false
        broker.run()
        let answer = try client.answer(to: FetchRequest.self, version: 12, id: id)
        #expect(try only(only(answer.responses).partitions).values() == [4: "e"])
        #expect(try writer.produced(produced).error == .noError)
    }

    @Test("a fetch without news is answered at its deadline (FETCH-6)", arguments: [0, 1])
    func wakesByDeadline(shard: Int) throws {
        let (broker, client) = try brokerWithThree(shard: shard)
        let id = try client.send(TestClient.fetchRequest(from: 4, wait: 500), version: 12)
        broker.advance(by: .milliseconds(499))
        #expect(!client.hasAnswer)
        broker.advance(by: .milliseconds(2))
        let answer = try client.answer(to: FetchRequest.self, version: 12, id: id)
        let part = try only(only(answer.responses).partitions)
        #expect(part.error == .noError)
        #expect(part.bytes.readableBytes == 0)
    }

    @Test("too little wakes nobody: MinBytes is waited for (FETCH-6)")
    func minBytes() throws {
        let (broker, client) = try brokerWithThree()
        let writer = try broker.connect()
        let id = try client.send(
            TestClient.fetchRequest(from: 4, wait: 10_000, minBytes: 150),
            version: 12
        )
        broker.run()
        try writer.produce(Batches.batch("e"))
        #expect(!client.hasAnswer)
        try writer.produce(Batches.batch("f"))
        try writer.produce(Batches.batch("g"))
        let answer = try client.answer(to: FetchRequest.self, version: 12, id: id)
        #expect(try only(only(answer.responses).partitions).values().count >= 2)
    }

    @Test("a fetch of a topic that is deleted is answered at once", arguments: [0, 1])
    func wakesByDeletion(shard: Int) throws {
        let (broker, client) = try brokerWithThree(shard: shard)
        let other = try broker.connect()
        let id = try client.send(TestClient.fetchRequest(from: 4, wait: 60_000), version: 12)
        broker.run()
        #expect(!client.hasAnswer)
        _ = try other.ask(DeleteTopicsRequest(topics: [.init(name: "orders")]), version: 6)
        let answer = try client.answer(to: FetchRequest.self, version: 12, id: id)
        #expect(try only(only(answer.responses).partitions).error == .unknownTopicOrPartition)
    }

    /// A request that must be answered at once although nothing is there.
    static let impatient: [(String, FetchRequest)] = [
        ("MaxWaitMs 0", TestClient.fetchRequest(from: 4, wait: 0)),
        ("MinBytes 0", TestClient.fetchRequest(from: 4, wait: 9_000, minBytes: 0)),
        ("an error", TestClient.fetchRequest(from: 99, wait: 9_000)),
        ("no partitions", FetchRequest(maxWaitMs: 9_000, minBytes: 1)),
        ("enough bytes", TestClient.fetchRequest(from: 0, wait: 9_000)),
    ]

    @Test("some fetches do not wait (FETCH-6)", arguments: impatient.indices)
    func impatience(place: Int) throws {
        let (_, client) = try brokerWithThree()
        _ = try client.ask(Self.impatient[place].1, version: 12)
    }

    @Test("a client that went away leaves no waiter behind")
    func hangUp() throws {
        let (broker, client) = try brokerWithThree()
        try client.send(TestClient.fetchRequest(from: 4, wait: 5_000), version: 12)
        broker.run()
        client.hangUp()
        let other = try broker.connect()
        try other.produce(Batches.batch("e"))
        broker.advance(by: .seconds(6))
        #expect(!client.hasAnswer)
        #expect(broker.shards.reduce(0) { $0 + $1.statistics.unansweredByteCount } == 0)
    }

    // MARK: Epochs and ids

    @Test("an epoch that is over is fenced, one to come is unknown (GEN-7, FETCH-10)")
    func leaderEpochs() throws {
        let (_, client) = try brokerWithThree()
        let epoch = try only(client.describe().partitions).leaderEpoch
        #expect(try client.fetch(TestClient.fetchRequest(epoch: epoch)).error == .noError)
        let older = try client.fetch(TestClient.fetchRequest(epoch: epoch - 1))
        #expect(older.error == .fencedLeaderEpoch)
        let newer = try client.fetch(TestClient.fetchRequest(epoch: epoch + 1))
        #expect(newer.error == .unknownLeaderEpoch)
    }

    @Test("a client whose log went another way is told where (FETCH-11)")
    func diverging() throws {
        let (broker, _) = try brokerWithThree()
        try broker.restart(after: .dropUnsynced)
        let client = try broker.connect()
        try client.produce(Batches.batch("e"))
        let new = try only(client.describe().partitions).leaderEpoch
        let old = new - 1
        let fine = try client.fetch(TestClient.fetchRequest(from: 4, lastEpoch: old))
        #expect(fine.divergingEpoch.epoch == -1)
        #expect(try fine.values() == [4: "e"])
        let diverged = try client.fetch(TestClient.fetchRequest(from: 5, lastEpoch: old))
        #expect(diverged.error == .noError)
        #expect(diverged.divergingEpoch.epoch == old)
        #expect(diverged.divergingEpoch.endOffset == 4)
        #expect(diverged.bytes.readableBytes == 0)
    }

    @Test("topics go by id from version 13 on (FETCH-12)")
    func topicIDs() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        let id = try client.createTopic()
        try client.produce(Batches.batch("a"))
        let known = try client.fetch(TestClient.fetchRequest(of: "", id: id), version: 13)
        #expect(try known.values() == [0: "a"])
        let absent = try client.fetch(
            TestClient.fetchRequest(of: "", id: TopicID(high: 5, low: 5)),
            version: 13
        )
        #expect(absent.error == .unknownTopicId)
    }

    @Test("aborted transactions are a list for read committed, and null otherwise (FETCH-8)")
    func abortedTransactions() throws {
        let (_, client) = try brokerWithThree()
        #expect(try client.fetch(TestClient.fetchRequest(isolation: 1)).abortedTransactions == [])
        #expect(try client.fetch(TestClient.fetchRequest()).abortedTransactions == nil)
    }

    @Test("a follower's fetch is refused (FETCH-1)")
    func follower() throws {
        let (_, client) = try brokerWithThree()
        var old = TestClient.fetchRequest()
        old.replicaId = 2
        #expect(try client.ask(old, version: 12).errorCode == ErrorCode.invalidRequest.rawValue)
        let part = try client.fetch(old, version: 6)
        #expect(part.error == .invalidRequest)
        var new = TestClient.fetchRequest(of: "")
        new.replicaState = .init(replicaId: 2, replicaEpoch: 1)
        #expect(try client.ask(new, version: 15).errorCode == ErrorCode.invalidRequest.rawValue)
    }

    @Test("a zstd batch is refused to clients that cannot know it (FETCH-14)")
    func zstd() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        try client.produce(Batches.batch("a", codec: .zstd))
        #expect(try client.fetch(version: 9).error == .unsupportedCompressionType)
        #expect(try client.fetch(version: 10).values() == [0: "a"])
    }

    // MARK: Compression

    @Test(
        "what the broker compressed is inflated for clients that may not know lz4",
        arguments: [
            (nil, false), ("kafkajs", false), ("librdkafka", true), ("apache-kafka-java", true),
        ]
            as [(String?, Bool)]
    )
    func autoCompression(software: String?, readsLZ4: Bool) throws {
        let broker = try TestBroker()
        let writer = try broker.connect()
        try writer.createTopic()
        let sent = Batches.large(4_000)
        try writer.produce(sent)
        let client = try broker.connect(to: 1, as: software)
        let part = try client.fetch()
        let batch = try only(part.batches())
        #expect(batch.header.attributes.codec == (readsLZ4 ? .lz4 : .none))
        #expect(try part.values() == [0: String(repeating: "x", count: 4_000)])
        if !readsLZ4 {
            #expect(part.bytes.readableBytes == sent.readableBytes)
        }
    }

    @Test("what a producer compressed with lz4 reaches every client as it is")
    func ownCompression() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        try client.produce(Batches.batch(String(repeating: "y", count: 4_000), codec: .lz4))
        #expect(try only(client.fetch().batches()).header.attributes.codec == .lz4)
    }

    @Test("records are read from segments once memory has let go of them")
    func fromSegments() throws {
        let broker = try TestBroker { $0.tailByteCount = 1 << 20 }
        let client = try broker.connect()
        try client.createTopic(configs: [("compression.type", "producer")])
        var random = SeededRandom(seed: 3)
        let values = (0..<120).map { _ in
            String(
                (0..<20_000).map { _ in
                    Character(Unicode.Scalar(UInt8.random(in: 97...122, using: &random)))
                }
            )
        }
        for value in values {
            #expect(try client.produce(Batches.batch(value)).error == .noError)
        }
        broker.advance(by: .seconds(5))
        for offset in [Int64(0), 1, 57, 119] {
            let part = try client.fetch(
                TestClient.fetchRequest(from: offset, partitionMaxBytes: 100)
            )
            #expect(try part.values() == [offset: values[Int(offset)]])
        }
    }
}
