import FlotillaBroker
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaSimulation
import Testing
import struct NIOCore.ByteBuffer

@Suite("Replay")
struct ReplayTests {
    /// Everything that a client sees and that the disk holds after a mixture of requests.
    private func transcript(seed: UInt64) throws -> [ByteBuffer] {
        var random = SeededRandom(seed: seed)
        let broker = try TestBroker(shardCount: 3)
        var transcript: [ByteBuffer] = []
        for name in ["a", "b", "c", "d"] {
            let id = try broker.connect().createTopic(name, partitions: 5)
            transcript.append(ByteBuffer(string: "\(id)"))
        }
        let clients = try (0..<6).map { try broker.connect(to: $0 % 3) }
        for step in 0..<150 {
            let client = clients[Int.random(in: 0..<clients.count, using: &random)]
            let topic = ["a", "b", "c", "d"][Int.random(in: 0..<4, using: &random)]
            let partition = Int32.random(in: 0..<5, using: &random)
            switch Int.random(in: 0..<8, using: &random) {
            case 0...3:
                let batch = Batches.batch("\(step)", producer: Int64(step), sequence: 0)
                try client.send(
                    TestClient.produceRequest(batch, to: topic, partition: partition),
                    version: 11
                )
            case 4:
                try client.send(
                    TestClient.fetchRequest(of: topic, partition: partition),
                    version: 12
                )
            case 5: try client.send(MetadataRequest(topics: nil), version: 12)
            case 6: try client.send(InitProducerIdRequest(transactionalId: nil), version: 4)
            default: broker.advance(by: .milliseconds(Int.random(in: 1..<400, using: &random)))
            }
            if step % 7 == 0 { broker.run() }
        }
        broker.advance(by: .seconds(3))
        transcript += clients.map(\.unread)
        for path in broker.disk.paths {
            transcript.append(ByteBuffer(string: path))
            transcript.append(broker.disk.contents(path))
        }
        return transcript
    }

    @Test(
        "the same seed gives the same answers and the same bytes on the disk",
        arguments: [1, 2, 3] as [UInt64]
    )
    func replays(seed: UInt64) throws {
        let first = try transcript(seed: seed)
        let second = try transcript(seed: seed)
        #expect(first.count == second.count)
        #expect(zip(first, second).allSatisfy { $0 == $1 })
        #expect(first.count > 30)
    }
}
