@testable import FlotillaBroker
import FlotillaKafkaWire
import FlotillaModel
import Testing

@Suite("Enough replicas for a producer")
struct InSyncTests {
    private func start(_ minimum: Int, on brokers: [Int32] = [1, 2, 3]) throws -> TestCluster {
        let cluster = try TestCluster()
        let client = cluster.connect(to: 0)
        try client.createTopic(on: [brokers])
        _ = try client.ask(
            IncrementalAlterConfigsRequest(resources: [
                .init(
                    resourceType: 2,
                    resourceName: "orders",
                    configs: [
                        .init(name: "min.insync.replicas", configOperation: 0, value: "\(minimum)")
                    ]
                )
            ]),
            version: 1
        )
        cluster.advance(by: .seconds(1))
        return cluster
    }

    @Test("With fewer replicas in sync than min.insync.replicas acks=all is refused (PROD-4)")
    func tooFew() throws {
        let cluster = try start(3)
        let client = cluster.connect(to: 0)
        #expect(try client.produce(Batches.batch("a")).error == .noError)
        cluster.kill(2)
        cluster.advance(by: .seconds(1))
        #expect(try client.produce(Batches.batch("b")).error == .notEnoughReplicas)
        #expect(try client.produce(Batches.batch("c"), acks: 1).error == .noError)
        try cluster.restart(2)
        cluster.advance(by: .seconds(2))
        #expect(try client.produce(Batches.batch("d")).error == .noError)
        #expect(try client.read().sorted { $0.key < $1.key }.map(\.value) == ["a", "c", "d"])
    }

    @Test("With as many as are asked for the loss of one changes nothing")
    func enough() throws {
        let cluster = try start(2)
        let client = cluster.connect(to: 0)
        cluster.kill(2)
        cluster.advance(by: .seconds(1))
        #expect(try client.produce(Batches.batch("a")).error == .noError)
    }

    @Test("A group that had nothing to do for long counts its replicas as in sync")
    func afterQuiet() throws {
        let cluster = try start(3)
        cluster.advance(by: .seconds(60))
        let client = cluster.connect(to: 0)
        for number in 0..<5 {
            let id = try client.sendProduce(Batches.batch("\(number)"))
            cluster.advance(by: .milliseconds(70))
            #expect(try client.produced(id).error == .noError)
        }
    }

    @Test("More than there are replicas can never be (PROD-4)")
    func impossible() throws {
        let cluster = try start(3, on: [1, 2])
        let answer = try cluster.connect(to: 0).produce(Batches.batch("a"))
        #expect(answer.error == .notEnoughReplicas)
    }

    @Test(
        "What was appended when a replica is lost is committed, and the producer is told (PROD-4)"
    )
    func afterAppend() throws {
        let cluster = try start(3)
        let client = cluster.connect(to: 0)
        // The third replica has the batch on its way to its disk when it dies.
        cluster.brokers[2].isJournalHeld = true
        let id = try client.sendProduce(Batches.batch("a"))
        cluster.advance(by: .milliseconds(200))
        #expect(!client.hasAnswer)
        cluster.kill(2)
        cluster.advance(by: .milliseconds(500))
        #expect(try client.produced(id).error == .notEnoughReplicasAfterAppend)
        #expect(try client.read() == [0: "a"])
    }

    @Test("A retry of what is committed but lacks replicas is no second record")
    func retry() throws {
        let cluster = try start(3)
        let client = cluster.connect(to: 0)
        let batch = Batches.batch("a", producer: 7, sequence: 0)
        cluster.brokers[2].isJournalHeld = true
        let id = try client.sendProduce(batch)
        cluster.advance(by: .milliseconds(200))
        cluster.kill(2)
        cluster.advance(by: .milliseconds(500))
        #expect(try client.produced(id).error == .notEnoughReplicasAfterAppend)
        #expect(try client.produce(batch).error == .notEnoughReplicas)
        cluster.brokers[2].isJournalHeld = false
        try cluster.restart(2)
        cluster.advance(by: .seconds(2))
        let answer = try client.produce(batch)
        #expect(answer.error == .noError)
        #expect(answer.baseOffset == 0)
        #expect(try client.read() == [0: "a"])
    }

    @Test("A leader that has lost its quorum says so before it steps down (PROD-4)")
    func noQuorum() throws {
        let cluster = try start(1)
        let client = cluster.connect(to: 0)
        cluster.kill(1)
        cluster.kill(2)
        #expect(try client.produce(Batches.batch("a")).error == .notEnoughReplicas)
    }
}
