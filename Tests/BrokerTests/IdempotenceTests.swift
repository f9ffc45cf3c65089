@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaReplication
import FlotillaSimulation
import Testing

@Suite("Idempotent producers")
struct IdempotenceTests {
    /// A broker with a topic and five batches of producer 7: sequences 0 to 9, two each.
    private func brokerWithFive() throws -> (TestBroker, TestClient) {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        for step in Int32(0)..<5 {
            let batch = Batches.batch("a\(step)", "b\(step)", producer: 7, sequence: step * 2)
            #expect(try client.produce(batch).baseOffset == Int64(step * 2))
        }
        return (broker, client)
    }

    @Test(
        "a batch of the last five is recognised and answered as the first time (IDEM-1)",
        arguments: 0..<5
    )
    func duplicates(step: Int32) throws {
        let (_, client) = try brokerWithFive()
        let batch = Batches.batch("a\(step)", "b\(step)", producer: 7, sequence: step * 2)
        let answer = try client.produce(batch)
        #expect(answer.error == .noError)
        #expect(answer.baseOffset == Int64(step * 2))
        #expect(try client.read().count == 10)
    }

    @Test("who may lead no more tells nobody of a gap: another leader may have what is missing")
    func gapAtFormerLeader() throws {
        let cluster = try TestCluster()
        let topic = try cluster.connect(to: 0).createTopic(replicas: 3)
        var found: Int?
        _ = cluster.wait {
            found = (0..<3).first { cluster.partition(topic, at: $0)?.replica.isServing == true }
            return found != nil
        }
        let client = cluster.connect(to: try #require(found))
        let first = try client.sendProduce(Batches.batch("a", producer: 7, sequence: 0))
        cluster.run()
        #expect(try client.produced(first).errorCode == 0)
        cluster.isolate(try #require(found))
        let next = try client.sendProduce(
            Batches.batch("c", producer: 7, sequence: 2),
            acks: 1
        )
        cluster.advance(by: .seconds(5))
        let refused = ErrorCode(rawValue: try client.produced(next).errorCode)
        #expect(refused == .notLeaderOrFollower)
    }

    @Test("an older duplicate is out of order (IDEM-4)")
    func sixthDuplicate() throws {
        let (_, client) = try brokerWithFive()
        _ = try client.produce(Batches.batch("new", producer: 7, sequence: 10))
        let old = try client.produce(Batches.batch("a0", "b0", producer: 7, sequence: 0))
        #expect(old.error == .outOfOrderSequenceNumber)
    }

    @Test(
        "the next sequence must follow (IDEM-2 to IDEM-4)",
        arguments: [
            (Int16(0), Int32(11), ErrorCode.outOfOrderSequenceNumber),
            (0, 9, .outOfOrderSequenceNumber),
            (1, 10, .outOfOrderSequenceNumber),
            (1, 0, .noError),
            (0, 10, .noError),
        ]
    )
    func sequences(epoch: Int16, sequence: Int32, expected: ErrorCode) throws {
        let (_, client) = try brokerWithFive()
        let batch = Batches.batch("next", producer: 7, epoch: epoch, sequence: sequence)
        #expect(try client.produce(batch).error == expected)
    }

    // MARK: After a refusal

    @Test(
        "what follows a refused batch is refused as that one was, until it comes again",
        arguments: [Int32(0), 10]
    )
    func followsRefused(first: Int32) throws {
        // A producer that is known, and one that is not: its next batch could pass for its first.
        let broker = try TestBroker { $0.minimumFreeByteCount = 4 << 20 }
        let client = try broker.connect()
        try client.createTopic()
        if first > 0 {
            try client.produce(Batches.batch("known", producer: 7, sequence: first - 1))
        }
        let start = try client.read().count
        broker.disk.capacity = broker.disk.usedByteCount + 1 << 20
        broker.advance(by: .seconds(2))
        let refused = try client.produce(Batches.batch("a", producer: 7, sequence: first))
        #expect(refused.error == .kafkaStorageError)
        broker.disk.capacity = .max
        broker.advance(by: .seconds(2))
        let second = Batches.batch("b", producer: 7, sequence: first + 1)
        #expect(try client.produce(second).error == .kafkaStorageError)
        #expect(try client.read().count == start)
        let again = try client.produce(Batches.batch("a", producer: 7, sequence: first))
        #expect(again.error == .noError)
        #expect(try client.produce(second).error == .noError)
        #expect(try client.read().count == start + 2)
    }

    @Test("a refused batch that never comes again is not waited for")
    func refusedAndGivenUp() throws {
        let broker = try TestBroker { $0.minimumFreeByteCount = 4 << 20 }
        let client = try broker.connect()
        try client.createTopic()
        try client.produce(Batches.batch("known", producer: 7, sequence: 0))
        broker.disk.capacity = broker.disk.usedByteCount + 1 << 20
        broker.advance(by: .seconds(2))
        _ = try client.produce(Batches.batch("a", producer: 7, sequence: 1))
        broker.disk.capacity = .max
        broker.advance(by: .seconds(12))
        let next = try client.produce(Batches.batch("b", producer: 7, sequence: 2))
        #expect(next.error == .outOfOrderSequenceNumber)
    }

    @Test("a batch refused behind one that is taken later still counts")
    func refusedAhead() {
        var refused = RefusedBatches()
        func batch(_ sequence: Int32, epoch: Int16 = 0, of producer: Int64 = 7) -> ProducerBatch {
            ProducerBatch(
                producer: ProducerID(producer),
                epoch: epoch,
                baseSequence: sequence,
                lastOffsetDelta: 0
            )
        }
        let now = Instant.start
        refused.note(batch(2), .requestTimedOut, now: now)
        refused.taken(batch(1))
        #expect(refused.error(for: batch(3), now: now) == .requestTimedOut)
        #expect(refused.error(for: batch(2), now: now) == nil)
        #expect(refused.error(for: batch(3, epoch: 1), now: now) == nil)
        #expect(refused.error(for: batch(3), now: now + RefusedBatches.memory) == nil)
        // Of several the earliest, unless an older epoch sends it; numbers wrap.
        refused.note(batch(Int32.max), .notLeaderOrFollower, now: now)
        refused.note(batch(5), .requestTimedOut, now: now)
        refused.note(batch(0, epoch: -1), .requestTimedOut, now: now)
        #expect(refused.error(for: batch(0), now: now) == .notLeaderOrFollower)
        refused.taken(batch(Int32.max))
        #expect(refused.error(for: batch(3), now: now) == nil)
        // Beyond the limit others are not remembered, those that are known are.
        for producer in 0..<Int64(RefusedBatches.limit) {
            refused.note(batch(9, of: producer), .requestTimedOut, now: now)
        }
        refused.note(batch(9, of: 5_000), .requestTimedOut, now: now)
        #expect(refused.error(for: batch(10, of: 5_000), now: now) == nil)
        refused.note(batch(3, of: 1), .notLeaderOrFollower, now: now)
        #expect(refused.error(for: batch(4, of: 1), now: now) == .notLeaderOrFollower)
    }

    @Test("a leader whose term has not begun keeps batches instead of refusing them")
    func heldUntilTermBegins() throws {
        let cluster = try TestCluster()
        let topic = try cluster.connect(to: 0).createTopic(on: [[1, 2, 3]])
        cluster.advance(by: .seconds(1))
        #expect(cluster.leaders(topic) == [0])
        #expect(
            try cluster.connect(to: 0).produce(Batches.batch("a", producer: 7, sequence: 0))
                .errorCode == 0
        )
        cluster.advance(by: .seconds(1))
        // Nobody's answers reach the next leader once it leads.
        func isLeader(_ place: Int) -> Bool {
            place > 0 && cluster.partition(topic, at: place)?.replica.isLeader == true
        }
        cluster.losesRaft = { _, _, target in isLeader(target) }
        cluster.kill(0)
        #expect(cluster.wait { isLeader(1) || isLeader(2) })
        let next = isLeader(1) ? 1 : 2
        #expect(cluster.leaders(topic).isEmpty)
        let client = cluster.connect(to: next)
        let again = try client.sendProduce(Batches.batch("a", producer: 7, sequence: 0))
        let second = try client.sendProduce(Batches.batch("b", producer: 7, sequence: 1))
        cluster.advance(by: .milliseconds(100))
        #expect(!client.hasAnswer)
        cluster.losesRaft = nil
        #expect(cluster.wait { cluster.leaders(topic) == [next] })
        #expect(try client.produced(again).baseOffset == 0)
        #expect(try client.produced(second).baseOffset == 1)
    }

    @Test("a leader whose term does not begin keeps batches for a second only")
    func heldForASecond() throws {
        let cluster = try TestCluster()
        let topic = try cluster.connect(to: 0).createTopic(on: [[1, 2, 3]])
        cluster.advance(by: .seconds(1))
        func isLeader(_ place: Int) -> Bool {
            place > 0 && cluster.partition(topic, at: place)?.replica.isLeader == true
        }
        cluster.losesRaft = { _, _, target in isLeader(target) }
        cluster.kill(0)
        #expect(cluster.wait { isLeader(1) || isLeader(2) })
        let client = cluster.connect(to: isLeader(1) ? 1 : 2)
        let id = try client.sendProduce(Batches.batch("a", producer: 7, sequence: 0))
        cluster.advance(by: .milliseconds(1_500))
        #expect(try client.produced(id).error == .notLeaderOrFollower)
    }

    @Test("an epoch that is over is fenced (IDEM-2)")
    func oldEpoch() throws {
        let (_, client) = try brokerWithFive()
        _ = try client.produce(Batches.batch("x", producer: 7, epoch: 3, sequence: 0))
        let old = try client.produce(Batches.batch("y", producer: 7, epoch: 2, sequence: 1))
        #expect(old.error == .invalidProducerEpoch)
    }

    @Test("a producer that is not known may begin anywhere (IDEM-5)")
    func unknownProducer() throws {
        let (_, client) = try brokerWithFive()
        let answer = try client.produce(Batches.batch("x", producer: 8, epoch: 4, sequence: 77))
        #expect(answer.error == .noError)
    }

    @Test("sequences wrap from the largest number to 0 (IDEM-4)")
    func wrap() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        let last = Batches.batch("a", "b", producer: 7, sequence: Int32.max - 1)
        #expect(try client.produce(last).error == .noError)
        #expect(try client.produce(Batches.batch("c", producer: 7, sequence: 0)).error == .noError)
    }

    @Test("a retry of a batch in flight waits for it, and is answered with its offset (IDEM-1)")
    func retryInFlight() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        let other = try broker.connect(to: 1)
        try client.createTopic()
        broker.isJournalHeld = true
        let batch = Batches.batch("a", producer: 7, sequence: 0)
        let first = try client.sendProduce(batch)
        broker.run()
        let retry = try other.sendProduce(batch)
        broker.run()
        #expect(!client.hasAnswer)
        #expect(!other.hasAnswer)
        broker.isJournalHeld = false
        broker.run()
        #expect(try client.produced(first).baseOffset == 0)
        let again = try other.produced(retry)
        #expect(again.error == .noError)
        #expect(again.baseOffset == 0)
        #expect(try client.read() == [0: "a"])
    }

    @Test("five requests in flight keep their order (IDEM-6)")
    func pipelined() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        broker.isJournalHeld = true
        let ids = try (Int32(0)..<5).map {
            try client.sendProduce(Batches.batch("\($0)", producer: 7, sequence: $0))
        }
        broker.run()
        broker.isJournalHeld = false
        broker.run()
        #expect(try ids.map { try client.produced($0).baseOffset } == [0, 1, 2, 3, 4])
    }

    @Test(
        "what is known of producers survives a power failure, a kill and a clean stop (1.2)",
        arguments: Stop.allCases
    )
    func restart(after stop: Stop) throws {
        let (broker, _) = try brokerWithFive()
        try stop.perform(on: broker)
        let client = try broker.connect()
        let duplicate = try client.produce(Batches.batch("a3", "b3", producer: 7, sequence: 6))
        #expect(duplicate.error == .noError)
        #expect(duplicate.baseOffset == 6)
        let gap = try client.produce(Batches.batch("x", producer: 7, sequence: 12))
        #expect(gap.error == .outOfOrderSequenceNumber)
        #expect(try client.produce(Batches.batch("x", producer: 7, sequence: 10)).baseOffset == 10)
        #expect(try client.read().count == 11)
    }
}

/// How a broker's life ends.
enum Stop: String, CaseIterable, Sendable {
    case powerFailure
    case kill
    case clean
    /// After everything has gone to segments on its own.
    case powerFailureLater

    func perform(on broker: TestBroker) throws {
        switch self {
        case .powerFailure: try broker.restart(after: .dropUnsynced)
        case .kill: try broker.restart(after: .keepUnsynced)
        case .clean: try broker.restartCleanly()
        case .powerFailureLater:
            broker.advance(by: .seconds(10))
            try broker.restart(after: .dropUnsynced)
        }
    }
}
