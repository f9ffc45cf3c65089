import FlotillaBroker
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRecords
import Testing
import struct NIOCore.ByteBuffer

@Suite("Produce")
struct ProduceTests {
    @Test(
        "acks=-1 and acks=1 are answered when the journal has the batch, not before",
        arguments: [-1, 1]
    )
    func acknowledgedIsDurable(acks: Int16) throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        broker.isJournalHeld = true
        let id = try client.sendProduce(Batches.batch("a"), acks: acks)
        broker.run()
        #expect(!client.hasAnswer)
        broker.isJournalHeld = false
        broker.run()
        let answer = try client.produced(id)
        #expect(answer.error == .noError)
        #expect(answer.baseOffset == 0)
    }

    @Test("acks=0 is never answered, and the batch is there (PROD-2)")
    func unacknowledged() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        _ = try client.sendProduce(Batches.batch("a"), acks: 0)
        broker.run()
        #expect(!client.hasAnswer)
        #expect(client.closeReason == nil)
        #expect(try client.read() == [0: "a"])
    }

    @Test("acks=0 that fails closes the connection, its only sign (PROD-2)")
    func unacknowledgedFailure() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        _ = try client.sendProduce(Batches.batch("a"), to: "absent", acks: 0)
        broker.run()
        #expect(client.closeReason == .unacknowledgedFailure)
        #expect(!client.hasAnswer)
    }

    @Test("acks other than -1, 0 and 1 is refused (PROD-1)", arguments: [2, -2, 100])
    func invalidAcks(acks: Int16) throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        let answer = try client.produce(Batches.batch("a"), acks: acks)
        #expect(answer.error == .invalidRequiredAcks)
        #expect(try client.read().isEmpty)
    }

    @Test("acks=-1 that is not durable in time says so, and may still be committed (PROD-4)")
    func timeout() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        broker.isJournalHeld = true
        let id = try client.sendProduce(Batches.batch("a"), timeout: 500)
        broker.advance(by: .milliseconds(400))
        #expect(!client.hasAnswer)
        broker.advance(by: .seconds(2))
        let answer = try client.produced(id)
        #expect(answer.error == .requestTimedOut)
        #expect(answer.baseOffset == -1)
        broker.isJournalHeld = false
        broker.run()
        #expect(try client.read() == [0: "a"])
    }

    @Test("too few replicas for min.insync.replicas is said before anything is appended (PROD-4)")
    func notEnoughReplicas() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic(configs: [("min.insync.replicas", "2")])
        #expect(try client.produce(Batches.batch("a")).error == .notEnoughReplicas)
        #expect(try client.read().isEmpty)
    }

    /// A partition's bytes that must be refused, and how.
    struct BadRecords: CustomTestStringConvertible, Sendable {
        var testDescription: String
        var records: ByteBuffer?
        var error: ErrorCode
        var configs: [(String, String)] = []
        var version: Int16 = 11

        static let all: [BadRecords] = [
            BadRecords(
                testDescription: "null records (PROD-5)",
                records: nil,
                error: .invalidRecord
            ),
            BadRecords(
                testDescription: "no bytes (PROD-5)",
                records: ByteBuffer(),
                error: .invalidRecord
            ),
            BadRecords(
                testDescription: "two batches (PROD-5)",
                records: two,
                error: .invalidRecord
            ),
            BadRecords(
                testDescription: "magic 1 (PROD-5)",
                records: changed { $0.setInteger(UInt8(1), at: 16) },
                error: .invalidRecord
            ),
            BadRecords(
                testDescription: "zstd before version 7 (PROD-5)",
                records: Batches.batch("a", codec: .zstd),
                error: .unsupportedCompressionType,
                version: 6
            ),
            BadRecords(
                testDescription: "a flipped bit (PROD-6)",
                records: changed { $0.setInteger(UInt8(0xEE), at: $0.writerIndex - 1) },
                error: .corruptMessage
            ),
            BadRecords(
                testDescription: "a truncated batch (PROD-6)",
                records: changed { $0.moveWriterIndex(to: $0.writerIndex - 1) },
                error: .corruptMessage
            ),
            BadRecords(
                testDescription: "a count that is not the last delta plus one (PROD-7)",
                records: resealed { $0.setInteger(Int32(5), at: 57) },
                error: .invalidRecord
            ),
            BadRecords(
                testDescription: "a last delta below zero (PROD-7)",
                records: resealed { $0.setInteger(Int32(-1), at: 23) },
                error: .invalidRecord
            ),
            BadRecords(
                testDescription: "a control batch (PROD-7)",
                records: resealed { $0.setInteger(UInt16(0x20), at: 21) },
                error: .invalidRecord
            ),
            BadRecords(
                testDescription: "a producer without a sequence (PROD-7)",
                records: resealed {
                    $0.setInteger(Int64(7), at: 43)
                    $0.setInteger(Int16(0), at: 51)
                },
                error: .invalidRecord
            ),
            BadRecords(
                testDescription: "more than max.message.bytes (PROD-8)",
                records: Batches.large(2_000),
                error: .messageTooLarge,
                configs: [("max.message.bytes", "1000")]
            ),
            BadRecords(
                testDescription: "no key in a compacted topic (PROD-9)",
                records: Batches.batch("a"),
                error: .invalidRecord,
                configs: [("cleanup.policy", "compact")]
            ),
            BadRecords(
                testDescription: "too far in the future (PROD-10)",
                records: Batches.batch("a", at: Batches.now + 10_000_000),
                error: .invalidTimestamp
            ),
            BadRecords(
                testDescription: "too far in the past (PROD-10)",
                records: Batches.batch("a", at: Batches.now - 5_000),
                error: .invalidTimestamp,
                configs: [("message.timestamp.before.max.ms", "1000")]
            ),
            BadRecords(
                testDescription: "the broker's own time from a client (PROD-10)",
                records: resealed { $0.setInteger(UInt16(0x08), at: 21) },
                error: .invalidTimestamp
            ),
        ]

        private static var two: ByteBuffer {
            var bytes = Batches.batch("a")
            bytes.writeImmutableBuffer(Batches.batch("b"))
            return bytes
        }

        private static func changed(_ change: (inout ByteBuffer) -> Void) -> ByteBuffer {
            var bytes = Batches.batch("a")
            change(&bytes)
            return bytes
        }

        private static func resealed(_ change: (inout ByteBuffer) -> Void) -> ByteBuffer {
            Batches.resealed(Batches.batch("a"), change)
        }
    }

    @Test("bad records are refused, and the partition goes on", arguments: BadRecords.all)
    func badRecords(_ bad: BadRecords) throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic(configs: bad.configs)
        let answer = try client.produce(bad.records, version: bad.version)
        #expect(answer.error == bad.error)
        #expect(answer.baseOffset == -1)
        #expect(answer.logStartOffset == -1)
        let next = try client.produce(Batches.batch("good", key: "k"))
        #expect(next.error == .noError)
        #expect(next.baseOffset == 0)
    }

    @Test("the records at fault are named from version 8 on (PROD-9, PROD-10)")
    func recordErrors() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic(configs: [("cleanup.policy", "compact")])
        let new = try client.produce(Batches.batch("a", "b"), version: 8)
        #expect(new.recordErrors.map(\.batchIndex) == [0, 1])
        #expect(new.errorMessage != nil)
        let old = try client.produce(Batches.batch("a", "b"), version: 7)
        #expect(old.error == .invalidRecord)
    }

    @Test("LogAppendTime gives records the broker's time and tells it (PROD-11)")
    func logAppendTime() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic(configs: [("message.timestamp.type", "LogAppendTime")])
        broker.advance(by: .seconds(5))
        let answer = try client.produce(Batches.batch("a"))
        #expect(answer.logAppendTimeMs == Batches.now + 5_000)
        let batch = try only(client.fetch().batches())
        #expect(batch.header.attributes.isLogAppendTime)
        #expect(batch.header.maxTimestamp == Timestamp(Batches.now + 5_000))
    }

    @Test("CreateTime keeps the producer's time and tells -1 (PROD-11)")
    func createTime() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        let answer = try client.produce(Batches.batch("a", at: Batches.now - 77))
        #expect(answer.logAppendTimeMs == -1)
        let batch = try only(client.fetch().batches())
        #expect(batch.header.maxTimestamp == Timestamp(Batches.now - 77))
    }

    @Test("the broker gives base offset and leader epoch; Kafka's checksum still holds (PROD-12)")
    func stamped() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        _ = try client.produce(Batches.batch("a", "b"))
        let answer = try client.produce(Batches.batch("c"))
        #expect(answer.baseOffset == 2)
        #expect(answer.logStartOffset == 0)
        let batches = try client.fetch().batches()
        #expect(batches.map(\.header.baseOffset) == [Offset(0), Offset(2)])
        let epoch = try only(client.describe().partitions).leaderEpoch
        #expect(batches.allSatisfy { $0.header.leaderEpoch == epoch })
    }

    @Test("an unknown topic is refused by name and by id, and never created (PROD-14)")
    func unknownTopics() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        let byName = try client.produce(Batches.batch("a"), to: "absent")
        #expect(byName.error == .unknownTopicOrPartition)
        let byID = try client.produce(
            Batches.batch("a"),
            to: "",
            id: TopicID(high: 1, low: 2),
            version: 13
        )
        #expect(byID.error == .unknownTopicId)
        #expect(try client.describe("absent").errorCode == 3)
        let id = try client.createTopic()
        let noPartition = try client.produce(Batches.batch("a"), partition: 1)
        #expect(noPartition.error == .unknownTopicOrPartition)
        #expect(
            try client.produce(Batches.batch("a"), to: "", id: id, version: 13).error == .noError
        )
    }

    @Test("partitions of one request fail alone (PROD-16)")
    func independentPartitions() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic(partitions: 3)
        let answer = try client.ask(
            ProduceRequest(
                acks: -1,
                timeoutMs: 1_000,
                topicData: [
                    .init(
                        name: "orders",
                        partitionData: [
                            .init(index: 2, records: Records(Batches.batch("c"))),
                            .init(index: 9, records: Records(Batches.batch("x"))),
                            .init(index: 0, records: nil),
                            .init(index: 1, records: Records(Batches.batch("b"))),
                        ]
                    ),
                    .init(
                        name: "absent",
                        partitionData: [.init(index: 0, records: Records(Batches.batch("x")))]
                    ),
                ]
            ),
            version: 9
        )
        #expect(answer.responses.map(\.name) == ["orders", "absent"])
        let parts = answer.responses.flatMap(\.partitionResponses)
        #expect(parts.map(\.index) == [2, 9, 0, 1, 0])
        #expect(
            parts.map(\.error) == [
                .noError, .unknownTopicOrPartition, .invalidRecord, .noError,
                .unknownTopicOrPartition,
            ]
        )
        #expect(try client.read(partition: 1) == [0: "b"])
        #expect(try client.read(partition: 2) == [0: "c"])
    }

    @Test("a batch at a worker keeps its place before later ones of its partition")
    func orderAcrossWorkers() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        for environment in broker.environments { environment.testWorkers.isHeld = true }
        let large = try client.sendProduce(Batches.large(40_000))
        let small = try client.sendProduce(Batches.batch("small"))
        broker.run()
        #expect(!client.hasAnswer)
        for environment in broker.environments { environment.testWorkers.isHeld = false }
        broker.run()
        #expect(try client.produced(large).baseOffset == 0)
        #expect(try client.produced(small).baseOffset == 1)
    }
}
