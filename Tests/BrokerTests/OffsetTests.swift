import FlotillaBroker
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRecords
import FlotillaSimulation
import Testing

/// ListOffsets and OffsetForLeaderEpoch.
///
/// - Source: SEMANTICS section 3.
@Suite("Offsets by time and epoch")
struct OffsetTests {
    private let broker: TestBroker
    private let client: TestClient
    private let start = Batches.now - 1_000

    /// Offsets 0 to 2 at start, +10, +20; 3 and 4 at +5 and +15; 5 at +30.
    init() throws {
        broker = try TestBroker()
        client = try broker.connect()
        try client.createTopic()
        try client.produce(Batches.batch("a", "b", "c", at: start, step: 10))
        try client.produce(Batches.batch("d", "e", at: start + 5, step: 10, codec: .gzip))
        try client.produce(Batches.batch("f", at: start + 30))
    }

    @Test("-1 is the readable end, for both isolations (LO-1)", arguments: [Int8(0), 1])
    func latest(isolation: Int8) throws {
        broker.isJournalHeld = true
        _ = try broker.connect().sendProduce(Batches.batch("g"), acks: 1)
        broker.run()
        let answer = try client.listOffset(-1, isolation: isolation)
        #expect(answer.offset == 6)
        #expect(answer.timestamp == -1)
        #expect(answer.leaderEpoch >= 0)
        #expect(try client.listOffset(-1, version: 3).leaderEpoch == -1)
    }

    @Test(
        "-2 is the start, and -4 the same without tiers (LO-2, LO-4)",
        arguments: [Int64(-2), -4]
    )
    func earliest(timestamp: Int64) throws {
        #expect(try client.listOffset(timestamp).offset == 0)
        _ = try client.deleteRecords(before: 4)
        let answer = try client.listOffset(timestamp)
        #expect(answer.offset == 4)
        #expect(answer.timestamp == -1)
    }

    @Test("-3 is the record with the largest time (LO-3)")
    func maximum() throws {
        let answer = try client.listOffset(-3)
        #expect(answer.offset == 5)
        #expect(answer.timestamp == start + 30)
        try client.createTopic("empty")
        let empty = try client.listOffset(-3, of: "empty")
        #expect(empty.error == .noError)
        #expect(empty.offset == -1)
        #expect(empty.timestamp == -1)
    }

    @Test("there are no tiers (LO-4)", arguments: [Int64(-5), -6])
    func tiers(timestamp: Int64) throws {
        let answer = try client.listOffset(timestamp)
        #expect(answer.error == .noError)
        #expect(answer.offset == -1)
    }

    @Test(
        "a special time below its version is not supported (LO-5)",
        arguments: [(Int64(-3), Int16(6)), (-4, 7), (-5, 8), (-6, 10), (-7, 11)]
    )
    func versions(timestamp: Int64, version: Int16) throws {
        let answer = try client.listOffset(timestamp, version: version)
        #expect(answer.error == .unsupportedVersion)
    }

    @Test(
        "a time finds the first record that is not older (LO-6)",
        arguments: [
            (Int64(-100), Int64(0), Int64(0)), (0, 0, 0), (1, 1, 10), (10, 1, 10), (11, 2, 20),
            (20, 2, 20), (21, 5, 30), (30, 5, 30), (31, -1, -1),
        ]
    )
    func byTime(delay: Int64, offset: Int64, found: Int64) throws {
        let answer = try client.listOffset(start + delay)
        #expect(answer.error == .noError)
        #expect(answer.offset == offset)
        #expect(answer.timestamp == (found < 0 ? -1 : start + found))
    }

    @Test("a time finds nothing below the start or beyond the readable end (LO-6)")
    func byTimeWithinBounds() throws {
        _ = try client.deleteRecords(before: 1)
        #expect(try client.listOffset(start).offset == 1)
        broker.isJournalHeld = true
        _ = try broker.connect().sendProduce(Batches.batch("g", at: start + 50), acks: 1)
        broker.run()
        #expect(try client.listOffset(start + 31).offset == -1)
    }

    @Test("times are found in segments, too (LO-6)", arguments: [Int64(0), 15, 30])
    func byTimeAfterRestart(delay: Int64) throws {
        let before = try client.listOffset(start + delay)
        broker.advance(by: .seconds(5))
        try broker.restart(after: .dropUnsynced)
        let after = try broker.connect().listOffset(start + delay)
        #expect(after.offset == before.offset)
        #expect(after.timestamp == before.timestamp)
    }

    @Test("what cannot be looked up is told for its partition (LO-7, GEN-7)")
    func errors() throws {
        #expect(try client.listOffset(-1, of: "absent").error == .unknownTopicOrPartition)
        #expect(try client.listOffset(-1, partition: 7).error == .unknownTopicOrPartition)
        let epoch = try only(client.describe().partitions).leaderEpoch
        #expect(try client.listOffset(-1, epoch: epoch).error == .noError)
        #expect(try client.listOffset(-1, epoch: epoch - 1).error == .fencedLeaderEpoch)
        #expect(try client.listOffset(-1, epoch: epoch + 1).error == .unknownLeaderEpoch)
        let twice = try client.ask(
            ListOffsetsRequest(
                replicaId: -1,
                topics: [
                    .init(
                        name: "orders",
                        partitions: [
                            .init(partitionIndex: 0, timestamp: -1),
                            .init(partitionIndex: 0, timestamp: -2),
                        ]
                    )
                ]
            ),
            version: 7
        )
        #expect(try only(twice.topics).partitions.contains { $0.error == .invalidRequest })
    }

    // MARK: Epochs

    private func epochEnd(
        _ epoch: Int32,
        current: Int32 = -1,
        of client: TestClient
    ) throws -> OffsetForLeaderEpochResponse.EpochEndOffset {
        let answer = try client.ask(
            OffsetForLeaderEpochRequest(
                replicaId: -1,
                topics: [
                    .init(
                        topic: "orders",
                        partitions: [
                            .init(partition: 0, currentLeaderEpoch: current, leaderEpoch: epoch)
                        ]
                    )
                ]
            ),
            version: 4
        )
        return try only(only(answer.topics).partitions)
    }

    @Test("an epoch ends where the next begins, the present one at the readable end (OFLE-1, 2)")
    func epochs() throws {
        let first = try only(client.describe().partitions).leaderEpoch
        let present = try epochEnd(first, of: client)
        #expect(present.leaderEpoch == first)
        #expect(present.endOffset == 6)
        try broker.restart(after: .dropUnsynced)
        let client = try broker.connect()
        try client.produce(Batches.batch("g"))
        let second = try only(client.describe().partitions).leaderEpoch
        #expect(second > first)
        #expect(try epochEnd(first, of: client).endOffset == 6)
        #expect(try epochEnd(second, of: client).endOffset == 7)
        let unknown = try epochEnd(second + 1, of: client)
        #expect(unknown.leaderEpoch == -1)
        #expect(unknown.endOffset == -1)
        #expect(try epochEnd(-1, of: client).endOffset == -1)
        #expect(
            try epochEnd(first, current: first, of: client).error == .fencedLeaderEpoch
        )
        #expect(
            try epochEnd(first, current: second + 1, of: client).error == .unknownLeaderEpoch
        )
    }
}

extension ListOffsetsResponse.ListOffsetsPartitionResponse {
    var error: ErrorCode? { ErrorCode(rawValue: errorCode) }
}

extension OffsetForLeaderEpochResponse.EpochEndOffset {
    var error: ErrorCode? { ErrorCode(rawValue: errorCode) }
}

extension DeleteRecordsResponse.DeleteRecordsPartitionResult {
    var error: ErrorCode? { ErrorCode(rawValue: errorCode) }
}
