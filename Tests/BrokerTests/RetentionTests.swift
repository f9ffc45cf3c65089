import FlotillaBroker
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaSimulation
import Testing
import struct NIOCore.ByteBuffer

@Suite("Retention")
struct RetentionTests {
    private func segments(_ broker: TestBroker) -> [String] {
        broker.disk.paths.filter { $0.hasPrefix("/data/partitions/") && $0.hasSuffix(".log") }
    }

    @Test("records go when they are too old, though nothing is written any more")
    func byTime() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic(configs: [("retention.ms", "600000"), ("segment.ms", "60000")])
        try client.produce(Batches.batch("old"))
        broker.advance(by: .seconds(300))
        #expect(try client.read() == [0: "old"])
        broker.advance(by: .seconds(600))
        #expect(try client.listOffset(-2).offset == 1)
        #expect(try client.fetch().error == .offsetOutOfRange)
        #expect(try client.produce(Batches.batch("new")).baseOffset == 1)
        #expect(try client.read(from: 1) == [1: "new"])
    }

    @Test("a time to come that a producer claims keeps nothing (bug 23)")
    func claimedTime() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic(configs: [
            ("retention.ms", "600000"), ("segment.ms", "60000"),
            ("message.timestamp.after.max.ms", "9223372036854775807"),
        ])
        let inTenYears = Batches.now + 10 * 365 * 86_400_000
        #expect(try client.produce(Batches.batch("early", at: inTenYears)).errorCode == 0)
        #expect(try client.read() == [0: "early"])
        broker.advance(by: .seconds(900))
        #expect(try client.listOffset(-2).offset == 1)
    }

    @Test("records go when there are too many, oldest segments first")
    func bySize() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic(configs: [
            ("segment.bytes", "1048576"), ("retention.bytes", "2097152"),
            ("compression.type", "producer"),
        ])
        for step in 0..<12 {
            #expect(try client.produce(Batches.large(500_000)).baseOffset == Int64(step))
        }
        broker.advance(by: .seconds(120))
        let start = try client.listOffset(-2).offset
        #expect(start > 0)
        #expect(start <= 12 - 4)
        #expect(try client.fetch(TestClient.fetchRequest(from: start)).error == .noError)
        broker.advance(by: .seconds(120))
        let held = segments(broker).reduce(0) { $0 + broker.disk.contents($1).readableBytes }
        #expect(held >= 2_097_152)
        #expect(held <= 2_097_152 + 2 * 1_048_576)
    }

    @Test("what went does not come back", arguments: Stop.allCases)
    func startSurvives(stop: Stop) throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic(configs: [
            ("segment.bytes", "1048576"), ("retention.bytes", "1048576"),
            ("compression.type", "producer"),
        ])
        for _ in 0..<8 { try client.produce(Batches.large(500_000)) }
        broker.advance(by: .seconds(120))
        let start = try client.listOffset(-2).offset
        #expect(start > 0)
        try stop.perform(on: broker)
        let again = try broker.connect()
        #expect(try again.listOffset(-2).offset == start)
        #expect(try again.listOffset(-1).offset == 8)
        #expect(try again.produce(Batches.batch("next")).baseOffset == 8)
    }

    @Test("a topic that is only compacted keeps everything")
    func compacted() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic(configs: [
            ("cleanup.policy", "compact"), ("retention.ms", "1000"), ("segment.ms", "60000"),
        ])
        try client.produce(Batches.batch("old", key: "k"))
        broker.advance(by: .seconds(900))
        #expect(try client.read() == [0: "old"])
    }

    @Test("records deleted by request leave the disk as well (DR-1)")
    func deletedRecords() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic(configs: [
            ("segment.bytes", "1048576"), ("compression.type", "producer"),
        ])
        for _ in 0..<8 { try client.produce(Batches.large(500_000)) }
        broker.advance(by: .seconds(5))
        let before = segments(broker).count
        #expect(before >= 4)
        #expect(try client.deleteRecords(before: 6).lowWatermark == 6)
        broker.advance(by: .seconds(60))
        #expect(segments(broker).count < before)
        #expect(try client.fetch(TestClient.fetchRequest(from: 6)).error == .noError)
    }
}
