import FlotillaBroker
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaStorage
import FlotillaSimulation
import Testing

/// A disk that is full or fails: an answer, and nothing lost.
@Suite("A disk in trouble")
struct DiskTroubleTests {
    @Test("a journal that cannot grow holds acknowledgements back until there is room")
    func journalWithoutRoom() throws {
        let broker = try TestBroker { $0.minimumFreeByteCount = 0 }
        let client = try broker.connect()
        try client.createTopic(configs: [("compression.type", "producer")])
        broker.disk.fault = { operation in
            switch operation {
            case .allocate(let path, _), .write(let path, _, _), .truncate(let path, _):
                path.hasPrefix("/data/journal/") ? .noSpace(path: path) : nil
            default:
                nil
            }
        }
        let ids = try (0..<4).map { _ in try client.sendProduce(Batches.large(700_000)) }
        broker.run()
        let wasAnswered = client.hasAnswer
        broker.disk.fault = nil
        broker.advance(by: .seconds(2))
        #expect(!wasAnswered)
        #expect(try ids.map { try client.produced($0).baseOffset } == [0, 1, 2, 3])
        #expect(broker.failures.isEmpty)
    }

    @Test("without room for a round producers are refused, readers go on, and both recover")
    func roundBreaksOff() throws {
        let broker = try TestBroker { $0.minimumFreeByteCount = 1 << 20 }
        let client = try broker.connect()
        try client.createTopic(configs: [("compression.type", "producer")])
        try client.produce(Batches.batch("before"))
        broker.disk.breakOff = { operation in
            guard case .write(let path, _, let count) = operation,
                path.hasPrefix("/data/journal/")
            else { return nil }
            return count / 2
        }
        let held = try client.sendProduce(Batches.batch("held"))
        broker.run()
        let waiting = try broker.connect()
        let parked = try waiting.sendProduce(Batches.batch("parked"))
        broker.run()
        #expect(!client.hasAnswer && !waiting.hasAnswer)
        broker.disk.capacity = broker.disk.usedByteCount
        broker.advance(by: .seconds(2))
        #expect(try waiting.produced(parked).error == .kafkaStorageError)
        let other = try broker.connect()
        #expect(try other.produce(Batches.batch("refused")).error == .kafkaStorageError)
        #expect(try other.read() == [0: "before"])
        broker.disk.breakOff = nil
        broker.disk.capacity = .max
        broker.advance(by: .seconds(2))
        #expect(try client.produced(held).baseOffset == 1)
        #expect(try other.produce(Batches.batch("after")).baseOffset == 2)
        #expect(broker.failures.isEmpty)
        try broker.restart(after: .dropUnsynced)
        let found = try broker.connect().read()
        #expect(found == [0: "before", 1: "held", 2: "after"])
    }

    @Test("files that cannot be opened are tried again, and nothing is lost")
    func tooManyOpenFiles() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic(
            configs: [("compression.type", "producer"), ("segment.bytes", "1048576")]
        )
        try client.produce(Batches.large(700_000))
        broker.disk.fault = { operation in
            switch operation {
            case .open(let path), .syncDirectory(let path): .tooManyOpenFiles(path: path)
            default: nil
            }
        }
        let ids = try (0..<4).map { _ in try client.sendProduce(Batches.large(700_000)) }
        broker.advance(by: .seconds(5))
        #expect(broker.failures.isEmpty)
        broker.disk.fault = nil
        broker.advance(by: .seconds(5))
        #expect(try ids.map { try client.produced($0).baseOffset } == [1, 2, 3, 4])
        #expect(broker.failures.isEmpty)
        try broker.restart(after: .dropUnsynced)
        #expect(try broker.connect().listOffset(-1).offset == 5)
    }

    @Test(
        "segments that cannot be written are tried again, and nothing is lost",
        arguments: [true, false]
    )
    func segmentsWithoutRoom(endsInCrash: Bool) throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        broker.disk.fault = { operation in
            guard case .write(let path, _, _) = operation,
                path.hasPrefix("/data/partitions/")
            else { return nil }
            return .noSpace(path: path)
        }
        for step in 0..<5 { try client.produce(Batches.batch("\(step)")) }
        broker.advance(by: .seconds(5))
        let retries = broker.events.filter { event in
            if case .retrying = event { true } else { false }
        }
        #expect(!retries.isEmpty)
        let expected: [Int64: String] = [0: "0", 1: "1", 2: "2", 3: "3", 4: "4"]
        #expect(try client.read() == expected)
        broker.disk.fault = nil
        if endsInCrash {
            try broker.restart(after: .dropUnsynced)
        } else {
            broker.advance(by: .seconds(5))
            #expect(broker.disk.paths.contains { $0.hasSuffix(".log") })
        }
        #expect(try broker.connect().read() == expected)
        #expect(broker.failures.isEmpty)
    }

    @Test("a sync of a segment that fails is final")
    func segmentSyncFails() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        try client.produce(Batches.batch("a"))
        broker.advance(by: .seconds(5))
        broker.disk.fault = { operation in
            guard case .sync(let path) = operation, path.hasPrefix("/data/partitions/") else {
                return nil
            }
            return .failed(operation: "fdatasync", path: path, errno: 5)
        }
        // Deleted records make the shard sync what it has written.
        _ = try client.deleteRecords(before: 1)
        broker.advance(by: .seconds(1))
        #expect(!broker.failures.isEmpty)
    }

    @Test("a removal that fails is tried again with the next deletion")
    func removalFails() throws {
        let broker = try TestBroker(shardCount: 1)
        let client = try broker.connect()
        try client.createTopic("first")
        try client.createTopic("second")
        try client.produce(Batches.batch("a"), to: "first")
        broker.advance(by: .seconds(5))
        let directory = TestBroker.directory + "/partitions"
        let before = try broker.disk.list(directory)
        #expect(before.count == 3)
        broker.disk.fault = { operation in
            guard case .remove(let path) = operation, path.hasPrefix("/data/partitions/") else {
                return nil
            }
            return .denied(path: path)
        }
        _ = try client.ask(DeleteTopicsRequest(topics: [.init(name: "first")]), version: 6)
        broker.advance(by: .seconds(5))
        #expect(try broker.disk.list(directory) == before)
        broker.disk.fault = nil
        _ = try client.ask(DeleteTopicsRequest(topics: [.init(name: "second")]), version: 6)
        broker.advance(by: .seconds(5))
        #expect(try broker.disk.list(directory).count == 1)
    }
}
