import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaSimulation
import Testing

/// What happens to topics once they are there.
///
/// - Source: SEMANTICS sections 4.4 to 4.6.
@Suite("Topics grow, shrink and go")
struct TopicChangeTests {
    private let broker: TestBroker
    private let client: TestClient

    init() throws {
        broker = try TestBroker()
        client = try broker.connect()
    }

    // MARK: DeleteTopics

    private func delete(
        _ topics: [DeleteTopicsRequest.DeleteTopicState]
    ) throws -> [ErrorCode?] {
        try client.ask(DeleteTopicsRequest(topics: topics), version: 6).responses
            .map { code($0.errorCode) }
    }

    @Test("topics are deleted by name or by id (DT-1)")
    func deletion() throws {
        let first = try client.createTopic("first")
        try client.createTopic("second")
        #expect(
            try delete([.init(topicId: first), .init(name: "second")]) == [.noError, .noError]
        )
        #expect(try client.ask(MetadataRequest(topics: nil), version: 12).topics.isEmpty)
    }

    @Test("what is not there, and what is named wrongly, is refused (DT-1)")
    func badDeletions() throws {
        let id = try client.createTopic()
        #expect(try delete([.init(name: "absent")]) == [.unknownTopicOrPartition])
        #expect(try delete([.init(topicId: TopicID(high: 8, low: 8))]) == [.unknownTopicId])
        #expect(try delete([.init(name: "orders", topicId: id)]) == [.invalidRequest])
        #expect(try delete([.init()]) == [.invalidRequest])
        #expect(
            try delete([.init(name: "orders"), .init(name: "orders")])
                .contains(.invalidRequest)
        )
    }

    @Test("where deletion is switched off it is refused (DT-1)", arguments: [Int16(2), 3, 6])
    func deletionDisabled(version: Int16) throws {
        let broker = try TestBroker(configs: [.init("delete.topic.enable", "false")])
        let client = try broker.connect()
        try client.createTopic()
        let request =
            version >= 6
            ? DeleteTopicsRequest(topics: [.init(name: "orders")])
            : DeleteTopicsRequest(topicNames: ["orders"])
        let answer = try only(client.ask(request, version: version).responses)
        #expect(code(answer.errorCode) == (version >= 3 ? .topicDeletionDisabled : .invalidRequest))
        #expect(code(try client.describe().errorCode) == .noError)
    }

    @Test("a deleted topic leaves nothing on the disk, and is confirmed")
    func deletionCleansUp() throws {
        try client.createTopic(partitions: 2)
        for partition in Int32(0)..<2 {
            try client.produce(Batches.batch("a"), partition: partition)
        }
        broker.advance(by: .seconds(3))
        let replicas = "\(TestBroker.directory)/partitions/"
        let before = broker.disk.paths.filter { $0.hasPrefix(replicas) }
        #expect(!before.isEmpty)
        #expect(try delete([.init(name: "orders")]) == [.noError])
        broker.advance(by: .seconds(3))
        let metadata = try broker.disk.list(TestBroker.directory + "/partitions")
        #expect(metadata.count == 1)
        let removals = broker.events.filter { event in
            if case .removed = event { true } else { false }
        }
        #expect(removals.count == 2)
        try broker.restart(after: .dropUnsynced)
        #expect(broker.events.isEmpty)
    }

    @Test("a topic that is deleted before its records reached segments leaves nothing either")
    func deletionOfUnwritten() throws {
        try client.createTopic()
        try client.produce(Batches.batch("a"))
        #expect(try delete([.init(name: "orders")]) == [.noError])
        broker.advance(by: .seconds(10))
        #expect(try broker.disk.list(TestBroker.directory + "/partitions").count <= 1)
        try broker.restart(after: .dropUnsynced)
        #expect(broker.events.isEmpty)
    }

    @Test(
        "a topic that is deleted while its segments are written leaves nothing",
        arguments: [0, 1]
    )
    func deletionDuringWrite(jobCount: Int) throws {
        try client.createTopic(partitions: 2)
        for partition in Int32(0)..<2 {
            try client.produce(Batches.batch("a"), partition: partition)
        }
        for environment in broker.environments { environment.testWorkers.isHeld = true }
        for partition in Int32(0)..<2 {
            #expect(try client.deleteRecords(before: 1, partition: partition).error == .noError)
        }
        for environment in broker.environments {
            for _ in 0..<jobCount { _ = environment.testWorkers.runOne(evenIfHeld: true) }
        }
        #expect(try delete([.init(name: "orders")]) == [.noError])
        for environment in broker.environments {
            environment.testWorkers.isNewestFirst = true
            environment.testWorkers.isHeld = false
        }
        broker.advance(by: .seconds(10))
        #expect(try broker.disk.list(TestBroker.directory + "/partitions").count <= 1)
        try broker.restart(after: .dropUnsynced)
        #expect(broker.events.isEmpty)
    }

    @Test("who waits for a topic that is deleted is told at once")
    func deletionTellsWaiters() throws {
        let broker = try TestBroker(shardCount: 1)
        let client = try broker.connect()
        try client.createTopic()
        try client.produce(Batches.batch("a"))
        broker.isJournalHeld = true
        let other = try broker.connect()
        try other.send(DeleteTopicsRequest(topics: [.init(name: "orders")]), version: 6)
        broker.run()
        let produced = try client.sendProduce(Batches.batch("b"))
        let forgotten = try client.send(
            DeleteRecordsRequest(
                topics: [.init(name: "orders", partitions: [.init(partitionIndex: 0, offset: 1)])]
            ),
            version: 2
        )
        broker.run()
        broker.performRound()
        broker.isJournalHeld = false
        broker.run()
        _ = try client.produced(produced)
        _ = try client.answer(to: DeleteRecordsRequest.self, version: 2, id: forgotten)
        #expect(code(try client.describe().errorCode) == .unknownTopicOrPartition)
    }

    @Test("a new topic of an old name is another one, and empty (DT-2)")
    func recreation() throws {
        let old = try client.createTopic()
        try client.produce(Batches.batch("a"))
        _ = try delete([.init(name: "orders")])
        let new = try client.createTopic()
        #expect(new != old)
        #expect(try client.read().isEmpty)
        #expect(try client.produce(Batches.batch("b")).baseOffset == 0)
    }

    @Test("a deletion that a crash interrupted goes on after the start", arguments: [0, 1, 2, 3])
    func interruptedDeletion(rounds: Int) throws {
        try client.createTopic()
        try client.produce(Batches.batch("a"))
        broker.advance(by: .seconds(3))
        for environment in broker.environments { environment.testWorkers.isHeld = true }
        try client.send(DeleteTopicsRequest(topics: [.init(name: "orders")]), version: 6)
        broker.isJournalHeld = true
        broker.run()
        for _ in 0..<rounds {
            broker.performRound()
            broker.run()
        }
        broker.isJournalHeld = false
        try broker.restart(after: .dropUnsynced)
        broker.advance(by: .seconds(3))
        let client = try broker.connect()
        let isThere = code(try client.describe().errorCode) == .noError
        let directories = try broker.disk.list(TestBroker.directory + "/partitions")
        #expect(directories.count == (isThere ? 2 : 1))
        if rounds >= 1 { #expect(!isThere) }
        if isThere { #expect(try client.read() == [0: "a"]) }
    }

    // MARK: CreatePartitions

    private func grow(
        _ topics: [CreatePartitionsRequest.CreatePartitionsTopic],
        validateOnly: Bool = false
    ) throws -> [ErrorCode?] {
        try client.ask(
            CreatePartitionsRequest(topics: topics, validateOnly: validateOnly),
            version: 3
        ).results.map { code($0.errorCode) }
    }

    @Test("partitions are added, never taken (CP-1)")
    func partitionsGrow() throws {
        try client.createTopic(partitions: 2)
        #expect(
            try grow([.init(name: "orders", count: 2, assignments: nil)]) == [.invalidPartitions]
        )
        #expect(
            try grow([.init(name: "orders", count: 1, assignments: nil)]) == [.invalidPartitions]
        )
        #expect(
            try grow([.init(name: "absent", count: 9, assignments: nil)]) == [
                .unknownTopicOrPartition
            ]
        )
        #expect(
            try grow([
                .init(name: "orders", count: 4, assignments: [.init(brokerIds: [1])])
            ]) == [.invalidReplicaAssignment]
        )
        #expect(
            try grow([.init(name: "orders", count: 4, assignments: nil)], validateOnly: true)
                == [.noError]
        )
        #expect(try client.describe().partitions.count == 2)
        #expect(try grow([.init(name: "orders", count: 4, assignments: nil)]) == [.noError])
        #expect(try client.describe().partitions.map(\.leaderId) == [1, 1, 1, 1])
        #expect(try client.produce(Batches.batch("a"), partition: 3).error == .noError)
    }

    // MARK: DeleteRecords

    @Test("records before an offset are forgotten, never brought back (DR-1)")
    func deleteRecords() throws {
        try client.createTopic()
        for value in ["a", "b", "c"] { try client.produce(Batches.batch(value)) }
        let two = try client.deleteRecords(before: 2)
        #expect(two.error == .noError)
        #expect(two.lowWatermark == 2)
        #expect(try client.deleteRecords(before: 1).lowWatermark == 2)
        #expect(try client.deleteRecords(before: 4).error == .offsetOutOfRange)
        #expect(try client.deleteRecords(before: -2).error == .offsetOutOfRange)
        #expect(try client.deleteRecords(before: 4).lowWatermark == -1)
        try broker.restart(after: .dropUnsynced)
        let client = try broker.connect()
        #expect(try client.listOffset(-2).offset == 2)
        let all = try client.deleteRecords(before: -1)
        #expect(all.lowWatermark == 3)
        #expect(try client.listOffset(-2).offset == 3)
        #expect(try client.produce(Batches.batch("d")).baseOffset == 3)
    }

    @Test("a topic that is only compacted keeps its records (DR-1)")
    func deleteRecordsOfCompacted() throws {
        try client.createTopic(configs: [("cleanup.policy", "compact")])
        try client.produce(Batches.batch("a", key: "k"))
        #expect(try client.deleteRecords(before: 1).error == .policyViolation)
        #expect(try client.deleteRecords(before: 0, of: "absent").error == .unknownTopicOrPartition)
    }
}
