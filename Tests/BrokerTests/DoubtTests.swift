import FlotillaBroker
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaSimulation
import Testing

/// Replicas that may lack what they acknowledged: they must neither be believed nor be replaced by empty ones.
@Suite("What a broker may have forgotten")
struct DoubtTests {
    @Test("Alone, a broker whose metadata may lack what it acknowledged says that nobody can help")
    func suspectMetadataAlone() throws {
        let broker = try TestBroker()
        try broker.connect().createTopic()
        #expect(broker.shards[0].metadataObstacle == nil)
        broker.damageJournal()
        try broker.restart(after: .dropUnsynced)
        broker.advance(by: .seconds(5))
        #expect(broker.shards[0].metadataObstacle != nil)
        #expect(!broker.shards[0].knowsMetadata)
    }

    @Test("A replica that no record names is told of and kept (bug 3)")
    func unnamedReplica() throws {
        let broker = try TestBroker()
        try broker.connect().createTopic()
        try broker.stopCleanly()
        let unnamed = GroupID(
            partition: TopicPartition(topic: TopicID(high: 7, low: 9), partition: 0),
            epoch: CreationEpoch(1)
        )
        let directory = "/data/partitions/\(unnamed)"
        try broker.disk.createDirectory(directory)
        try broker.disk.syncDirectory("/data/partitions")
        try broker.restart(after: .dropUnsynced)
        broker.advance(by: .seconds(60))
        #expect(try broker.disk.list("/data/partitions").contains(unnamed.description))
        let told = broker.events.contains { event in
            if case .quarantined(directory) = event { true } else { false }
        }
        #expect(told)
        #expect(try broker.connect().produce(Batches.batch("beside it")).errorCode == 0)
    }

    @Test("A replica that cannot be opened is left as it is, and no empty log takes its place")
    func unreadableReplica() throws {
        let broker = try TestBroker()
        try broker.connect().createTopic()
        for number in 0..<3 { _ = try broker.connect().produce(Batches.batch("\(number)")) }
        try broker.stopCleanly()
        let directory = try #require(
            broker.disk.list("/data/partitions").first { !$0.hasPrefix("AAAAAAAAAAAAAAAAAAAAA") }
        )
        broker.disk.fault = { operation in
            guard operation == .list(directory: "/data/partitions/\(directory)") else { return nil }
            return .failed(operation: "readdir", path: directory, errno: 5)
        }
        try broker.restart(after: .keepUnsynced)
        #expect(broker.unreadable.count == 1)
        broker.disk.fault = nil
        broker.advance(by: .seconds(2))
        #expect(try broker.connect().produce(Batches.batch("over it")).errorCode != 0)
        try broker.restart(after: .keepUnsynced)
        broker.advance(by: .seconds(2))
        #expect(
            try broker.connect().read().sorted { $0.key < $1.key }.map(\.value) == ["0", "1", "2"]
        )
    }

    @Test("A broker whose metadata cannot be opened refuses commands, and goes on")
    func unreadableMetadata() throws {
        let broker = try TestBroker()
        try broker.connect().createTopic()
        try broker.stopCleanly()
        let directory = try #require(
            broker.disk.list("/data/partitions").first { $0.hasPrefix("AAAAAAAAAAAAAAAAAAAAA") }
        )
        broker.disk.fault = { operation in
            guard operation == .list(directory: "/data/partitions/\(directory)") else { return nil }
            return .failed(operation: "readdir", path: directory, errno: 5)
        }
        try broker.restart(after: .keepUnsynced)
        #expect(broker.unreadable.count == 1)
        for shard in 0..<2 {
            let answer = try broker.connect(to: shard).ask(
                CreateTopicsRequest(topics: [
                    .init(name: "new", numPartitions: 1, replicationFactor: 1)
                ]),
                version: 7
            )
            #expect(
                try only(answer.topics).errorCode == ErrorCode.coordinatorNotAvailable.rawValue
            )
        }
    }
}
