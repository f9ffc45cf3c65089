import FlotillaBroker
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaStorage
import FlotillaSimulation
import Testing

/// Random work and random crashes: what was acknowledged is there afterwards, once, in its order and at its offset.
@Suite("Acknowledged is durable")
struct DurabilityTests {
    /// What a client knows of one partition.
    private struct Known {
        /// Acknowledged values by offset.
        var values: [Int64: String] = [:]
        /// The next sequence number of the idempotent producer that writes here.
        var sequence: Int32 = 0
    }

    @Test("through power failures, kills, torn writes and clean stops", arguments: UInt64(0)..<24)
    func survives(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let broker = try TestBroker(
            shardCount: Int.random(in: 1...3, using: &random),
            journal: JournalConfiguration(fileByteCount: 1 << 20, liveByteLimit: 4 << 20)
        ) { settings in
            settings.tailByteCount = 1 << 20
            settings.segmentWriteByteCount = 32 << 10
        }
        try broker.connect().createTopic(partitions: 3, configs: [("segment.bytes", "1048576")])
        var known: [Int32: Known] = [0: Known(), 1: Known(), 2: Known()]
        for life in 0..<5 {
            try work(broker, life, &known, &random)
            try end(broker, &random)
            try check(broker, known, "seed \(seed), life \(life)")
            for partition in known.keys {
                known[partition]?.values = try contents(broker, partition)
                known[partition]?.sequence = 0
            }
        }
    }

    private func work(
        _ broker: TestBroker,
        _ life: Int,
        _ known: inout [Int32: Known],
        _ random: inout SeededRandom
    ) throws {
        let client = try broker.connect(to: Int.random(in: 0..<broker.shards.count, using: &random))
        for step in 0..<Int.random(in: 5...40, using: &random) {
            let partition = Int32.random(in: 0...2, using: &random)
            let size = [10, 500, 5_000, 60_000].randomElement(using: &random) ?? 10
            let value = "\(life)/\(step)/" + String(repeating: "v", count: size)
            let sequence = known[partition]?.sequence ?? 0
            let batch = Batches.batch(
                value,
                producer: Int64(100 * life) + Int64(partition),
                sequence: sequence
            )
            let answer = try client.produce(batch, partition: partition)
            guard answer.error == .noError else {
                throw TestFailure("\(answer)")
            }
            known[partition]?.values[answer.baseOffset] = value
            known[partition]?.sequence += 1
            if Int.random(in: 0..<4, using: &random) == 0 {
                // A retry must not be appended again.
                let again = try client.produce(batch, partition: partition)
                guard again.baseOffset == answer.baseOffset else { throw TestFailure("\(again)") }
            }
            if Int.random(in: 0..<8, using: &random) == 0 {
                broker.advance(by: .milliseconds(Int.random(in: 1...3_000, using: &random)))
            }
        }
        // The end comes while some batches are on their way.
        broker.isJournalHeld = true
        for partition in Int32(0)..<3 where Bool.random(using: &random) {
            _ = try client.sendProduce(Batches.batch("unacknowledged"), partition: partition)
            broker.run()
        }
        if Bool.random(using: &random) { broker.performRound() }
        broker.isJournalHeld = false
    }

    private func end(_ broker: TestBroker, _ random: inout SeededRandom) throws {
        switch Int.random(in: 0..<4, using: &random) {
        case 0: try broker.restart(after: .dropUnsynced)
        case 1: try broker.restart(after: .keepUnsynced)
        case 2: try broker.restartCleanly()
        default: try broker.restart(after: .tear(seed: random.next(), grain: 512))
        }
    }

    private func check(_ broker: TestBroker, _ known: [Int32: Known], _ what: String) throws {
        #expect(broker.failures.isEmpty, "\(what)")
        for (partition, known) in known.sorted(by: { $0.key < $1.key }) {
            let found = try contents(broker, partition)
            #expect(found.keys.sorted() == Array(0..<Int64(found.count)), "\(what)")
            for (offset, value) in known.values {
                #expect(found[offset] == value, "\(what): partition \(partition), offset \(offset)")
            }
            let extra = found.filter { known.values[$0.key] == nil }
            #expect(extra.values.allSatisfy { $0 == "unacknowledged" }, "\(what)")
        }
    }

    private func contents(_ broker: TestBroker, _ partition: Int32) throws -> [Int64: String] {
        let client = try broker.connect(as: "librdkafka")
        var found: [Int64: String] = [:]
        while true {
            let values = try client.read(from: Int64(found.count), partition: partition)
            guard !values.isEmpty else { return found }
            found.merge(values) { _, new in new }
        }
    }
}
