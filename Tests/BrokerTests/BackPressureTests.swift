@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaReplication
import FlotillaStorage
import FlotillaSimulation
import Testing
import struct NIOCore.ByteBuffer

/// What happens when a client, the journal or the disk cannot keep up.
@Suite("Order and back-pressure")
struct BackPressureTests {
    // MARK: Order

    @Test("answers leave in the order of the requests, wherever their partitions live")
    func order() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic(partitions: 4)
        broker.isJournalHeld = true
        let waiting = try client.send(TestClient.fetchRequest(wait: 1_000), version: 12)
        let produced = try (Int32(0)..<4).map {
            try client.sendProduce(Batches.batch("\($0)"), partition: $0)
        }
        let metadata = try client.send(MetadataRequest(topics: nil), version: 9)
        broker.run()
        #expect(!client.hasAnswer)
        broker.isJournalHeld = false
        broker.run()
        let fetched = try client.answer(to: FetchRequest.self, version: 12, id: waiting)
        #expect(try only(only(fetched.responses).partitions).values() == [0: "0"])
        for id in produced { #expect(try client.produced(id).error == .noError) }
        let answer = try client.answer(to: MetadataRequest.self, version: 9, id: metadata)
        #expect(answer.topics.count == 1)
    }

    @Test("a request with acks=0 takes its place in the line without an answer (PROD-2)")
    func silentPlaces() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        broker.isJournalHeld = true
        let first = try client.sendProduce(Batches.batch("a"))
        _ = try client.sendProduce(Batches.batch("b"), acks: 0)
        let third = try client.sendProduce(Batches.batch("c"))
        broker.run()
        broker.isJournalHeld = false
        broker.run()
        #expect(try client.produced(first).baseOffset == 0)
        #expect(try client.produced(third).baseOffset == 2)
        #expect(!client.hasAnswer)
    }

    @Test("what waits behind a second fetch when the client hangs up still happens (PROD-2)")
    func hangUpBehindFetches() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        for _ in 0..<2 { try client.send(TestClient.fetchRequest(wait: 60_000), version: 12) }
        broker.run()
        #expect(client.isPaused)
        for value in ["a", "b"] { _ = try client.sendProduce(Batches.batch(value), acks: 0) }
        broker.run()
        #expect(client.waitingCount == 2)
        client.hangUp()
        broker.run()
        #expect(try broker.connect().read() == [0: "a", 1: "b"])
        #expect(broker.shards.allSatisfy { $0.statistics.unansweredByteCount == 0 })
    }

    // MARK: Connections

    @Test("above its bytes in flight a client is not read from, until they are answered")
    func connectionLimit() throws {
        let broker = try TestBroker { $0.connectionInFlightByteLimit = 10_000 }
        let client = try broker.connect()
        try client.createTopic(configs: [("compression.type", "producer")])
        broker.isJournalHeld = true
        let ids = try (0..<10).map { _ in try client.sendProduce(Batches.large(3_000)) }
        broker.run()
        #expect(client.isPaused)
        #expect(client.waitingCount == 6)
        broker.isJournalHeld = false
        broker.run()
        #expect(!client.isPaused)
        #expect(try ids.map { try client.produced($0).baseOffset } == Array(0..<10))
        #expect(client.pauseCount >= 2)
    }

    @Test("above the bytes in flight of a shard its clients are not read from")
    func shardLimit() throws {
        let broker = try TestBroker { $0.inFlightByteLimit = 20_000 }
        let greedy = try broker.connect()
        try greedy.createTopic(configs: [("compression.type", "producer")])
        let modest = try broker.connect()
        broker.isJournalHeld = true
        let ids = try (0..<10).map { _ in try greedy.sendProduce(Batches.large(3_000)) }
        broker.run()
        #expect(greedy.isPaused)
        #expect(greedy.waitingCount > 0)
        let small = try modest.sendProduce(Batches.batch("small"))
        let next = try modest.sendProduce(Batches.batch("next"))
        broker.run()
        #expect(modest.isPaused)
        #expect(modest.waitingCount == 1)
        broker.isJournalHeld = false
        broker.run()
        #expect(!greedy.isPaused)
        #expect(!modest.isPaused)
        for id in ids { #expect(try greedy.produced(id).error == .noError) }
        #expect(try modest.produced(small).error == .noError)
        #expect(try modest.produced(next).error == .noError)
        #expect(broker.shards[0].statistics.unansweredByteCount == 0)
    }

    @Test("a client may pipeline so many requests, and no more")
    func pipelineLimit() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        let first = try client.send(TestClient.fetchRequest(wait: 1_000), version: 12)
        let ids = try (0..<Connection.pipelineLimit + 100).map { _ in
            try client.send(MetadataRequest(topics: []), version: 9)
        }
        broker.run()
        #expect(client.isPaused)
        #expect(client.waitingCount == 101)
        broker.advance(by: .seconds(2))
        #expect(!client.isPaused)
        _ = try client.answer(to: FetchRequest.self, version: 12, id: first)
        for id in ids { _ = try client.answer(to: MetadataRequest.self, version: 9, id: id) }
    }

    @Test("a client that does not read its answers is not read from")
    func slowReader() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        client.setWritable(false)
        #expect(client.isPaused)
        let id = try client.send(MetadataRequest(topics: []), version: 9)
        broker.run()
        #expect(!client.hasAnswer)
        client.setWritable(true)
        broker.run()
        _ = try client.answer(to: MetadataRequest.self, version: 9, id: id)
    }

    // MARK: Journal

    @Test("a full journal parks producers, lets metadata pass, and goes on when it has room")
    func journalFull() throws {
        let broker = try TestBroker(
            shardCount: 1,
            journal: JournalConfiguration(fileByteCount: 1 << 20, liveByteLimit: 4 << 20)
        )
        let client = try broker.connect()
        try client.createTopic(configs: [("compression.type", "producer")])
        broker.environments[0].testWorkers.isHeld = true
        var parked: Int32?
        for _ in 0..<20 where parked == nil {
            let id = try client.sendProduce(Batches.large(500_000))
            broker.run()
            if client.hasAnswer {
                #expect(try client.produced(id).error == .noError)
            } else {
                parked = id
            }
        }
        let id = try #require(parked)
        #expect(broker.journal.isAtCap)
        try broker.connect().createTopic("other")
        #expect(!client.hasAnswer)
        broker.environments[0].testWorkers.isHeld = false
        broker.advance(by: .seconds(1))
        #expect(!broker.journal.isAtCap)
        #expect(try client.produced(id).error == .noError)
    }

    @Test("the journal's files are used again, however much is written")
    func journalRecycles() throws {
        let broker = try TestBroker(
            shardCount: 1,
            journal: JournalConfiguration(fileByteCount: 1 << 20, liveByteLimit: 4 << 20)
        )
        let client = try broker.connect()
        try client.createTopic(configs: [("compression.type", "producer")])
        for step in 0..<60 {
            let answer = try client.produce(Batches.large(500_000))
            #expect(answer.baseOffset == Int64(step))
        }
        let files = broker.disk.paths.filter { $0.hasPrefix("/data/journal/") }
        #expect(files.count <= 12)
        #expect(broker.failures.isEmpty)
        try broker.restart(after: .dropUnsynced)
        #expect(try broker.connect().listOffset(-1).offset == 60)
    }

    @Test(
        "the journal's files are used again after a stop that left some of a small group's entries in segments"
    )
    func journalRecyclesAfterRestart() throws {
        let broker = try TestBroker(
            shardCount: 1,
            journal: JournalConfiguration(fileByteCount: 1 << 20, liveByteLimit: 4 << 20)
        )
        try broker.connect().createTopic(configs: [("compression.type", "producer")])
        try broker.restartCleanly()
        let client = try broker.connect()
        try client.createTopic("other")
        for step in 0..<60 {
            let answer = try client.produce(Batches.large(500_000))
            try #require(answer.baseOffset == Int64(step))
            #expect(!broker.journal.isAtCap)
        }
        #expect(broker.disk.paths.count { $0.hasPrefix("/data/journal/") } <= 12)
    }

    @Test("a group without a quorum does not keep the journal's files from the other groups")
    func journalRecyclesBesideUncommitted() throws {
        let cluster = try TestCluster(configs: [ConfigEntry("compression.type", "producer")])
        let topic = try cluster.connect(to: 0).createTopic(on: [[1, 2, 3]])
        _ = try cluster.connect(to: 0).create("own", on: [[1]])
        cluster.advance(by: .seconds(1))
        #expect(cluster.leaders(topic) == [0])
        cluster.kill(1)
        cluster.kill(2)
        let client = cluster.connect(to: 0)
        _ = try client.sendProduce(Batches.large(300_000), acks: 1)
        cluster.advance(by: .seconds(1))
        let replica = try #require(cluster.partition(topic, at: 0)?.replica)
        try #require(replica.log.lastIndex > replica.log.commitIndex)
        let journal = cluster.brokers[0].journal
        let other = cluster.connect(to: 0)
        for step in 0..<60 {
            let answer = try other.produce(Batches.large(500_000), to: "own")
            try #require(answer.baseOffset == Int64(step))
            cluster.advance(by: .seconds(1))
            #expect(!journal.isAtCap)
        }
        try cluster.restart(1)
        #expect(cluster.wait { replica.log.lastIndex == replica.log.commitIndex })
    }

    @Test(
        "beyond so many uncommitted bytes a partition's batches wait, and go on when there is a quorum"
    )
    func uncommittedHold() throws {
        let cluster = try TestCluster(
            configs: [ConfigEntry("compression.type", "producer")],
            adjust: { $0.uncommittedHoldByteCount = 500_000 }
        )
        let topic = try cluster.connect(to: 0).createTopic(on: [[1, 2, 3]])
        cluster.advance(by: .seconds(1))
        #expect(cluster.leaders(topic) == [0])
        // Nobody's answers reach the leader, which leads on while it hears nothing for a moment.
        cluster.losesRaft = { _, _, target in target == 0 }
        let client = cluster.connect(to: 0)
        let ids = try (0..<5).map { _ in try client.sendProduce(Batches.large(300_000), acks: 1) }
        cluster.advance(by: .milliseconds(300))
        let replica = try #require(cluster.partition(topic, at: 0)?.replica)
        #expect(replica.isServing)
        #expect(replica.uncommittedByteCount > 500_000 && replica.uncommittedByteCount < 700_000)
        cluster.losesRaft = nil
        cluster.advance(by: .seconds(2))
        for (place, id) in ids.enumerated() {
            let answer = try client.produced(id)
            #expect(answer.error == .noError && answer.baseOffset == Int64(place))
        }
    }

    // MARK: Disk

    @Test("without room producers are told so, readers go on, and both recover")
    func volumeFull() throws {
        let broker = try TestBroker { $0.minimumFreeByteCount = 4 << 20 }
        let client = try broker.connect()
        try client.createTopic()
        try client.produce(Batches.batch("before"))
        broker.disk.capacity = broker.disk.usedByteCount + 1 << 20
        broker.advance(by: .seconds(2))
        let refused = try client.produce(Batches.batch("during"))
        #expect(refused.error == .kafkaStorageError)
        #expect(refused.errorMessage?.contains("/data") == true)
        #expect(try client.read() == [0: "before"])
        #expect(try client.deleteRecords(before: 1).error == .noError)
        broker.disk.capacity = .max
        broker.advance(by: .seconds(2))
        #expect(try client.produce(Batches.batch("after")).baseOffset == 1)
        // Each of the two shards tells once that the room is gone, and once that it is back.
        let told = broker.events.compactMap { event in
            if case .volume(let isFull, _) = event { isFull } else { nil }
        }
        #expect(told == [true, false, true, false])
    }

    @Test("between two looks at the disk producers cannot use more than there is")
    func roomIsCounted() throws {
        let broker = try TestBroker { $0.minimumFreeByteCount = 4 << 20 }
        let client = try broker.connect()
        try client.createTopic(configs: [("compression.type", "producer")])
        broker.disk.capacity = broker.disk.usedByteCount + 4 << 20 + 200_000
        broker.advance(by: .seconds(2))
        #expect(try client.produce(Batches.large(60_000)).error == .noError)
        broker.environments.forEach { $0.testWorkers.isHeld = true }
        let next = try client.sendProduce(Batches.large(60_000))
        broker.run()
        if client.hasAnswer {
            #expect(try client.produced(next).error == .kafkaStorageError)
        }
    }

    @Test("a failed sync is final: nothing is acknowledged after it")
    func syncFailure() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        broker.disk.fault = { operation in
            guard case .sync(let path) = operation, path.hasPrefix("/data/journal/") else {
                return nil
            }
            return .failed(operation: "fdatasync", path: path, errno: 5)
        }
        _ = try client.sendProduce(Batches.batch("a"))
        broker.run()
        #expect(!client.hasAnswer)
        #expect(broker.failures.count == 1)
    }

    @Test("a broker that stops answers what it has received, takes no more, and closes")
    func drainingUnderLoad() throws {
        let broker = try TestBroker { $0.connectionInFlightByteLimit = 10_000 }
        let client = try broker.connect()
        try client.createTopic(partitions: 2, configs: [("compression.type", "producer")])
        let waiting = try (Int32(0)..<2).map { partition in
            let reader = try broker.connect(to: 0)
            let request = TestClient.fetchRequest(partition: partition, wait: 60_000)
            return (reader, try reader.send(request, version: 12))
        }
        let idle = try broker.connect(to: 1)
        broker.run()
        broker.isJournalHeld = true
        let ids = try (0..<10).map { _ in try client.sendProduce(Batches.large(3_000)) }
        broker.run()
        let taken = 10 - client.waitingCount
        #expect(taken > 2 && taken < 10)
        for client in waiting.map(\.0) + [client, idle] { client.drain() }
        broker.run()
        #expect(idle.closeReason == .shutdown)
        for (reader, id) in waiting {
            _ = try reader.answer(to: FetchRequest.self, version: 12, id: id)
            #expect(reader.closeReason == .shutdown)
        }
        #expect(client.closeReason == nil && !client.hasAnswer)
        broker.isJournalHeld = false
        broker.run()
        for id in ids.prefix(taken) { #expect(try client.produced(id).error == .noError) }
        #expect(!client.hasAnswer && client.closeReason == .shutdown)
        #expect(client.waitingCount == 10 - taken)
    }

    @Test("a broker that stops answers those who wait for records")
    func draining() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        let id = try client.send(TestClient.fetchRequest(wait: 60_000), version: 12)
        broker.run()
        #expect(!client.hasAnswer)
        var isDrained = [false, false]
        for shard in broker.shards {
            shard.drain(atMost: .seconds(5)) { isDrained[shard.index] = true }
        }
        broker.advance(by: .milliseconds(50))
        _ = try client.answer(to: FetchRequest.self, version: 12, id: id)
        #expect(isDrained == [true, true])
    }
}
