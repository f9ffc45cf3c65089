@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel
import Testing

@Suite("Groups at rest")
struct RestingTests {
    private func awakeCount(_ cluster: TestCluster, at place: Int) -> Int {
        cluster.brokers[place].shards.reduce(0) { $0 + $1.awakePartitions.count }
    }

    @Test("Who has nothing to do is not called, and the loss of a leader wakes who followed it")
    func loss() throws {
        let cluster = try TestCluster()
        try cluster.connect(to: 0).createTopic(partitions: 20, replicas: 3)
        cluster.advance(by: .seconds(10))
        for place in 0..<3 { #expect(awakeCount(cluster, at: place) == 0) }
        let topic = try #require(cluster.image().topic(named: "orders")).id
        let first = (0..<20).map { cluster.leaders(topic, Int32($0)) }
        #expect(first.allSatisfy { $0.count == 1 } && first.contains([1]))
        cluster.kill(1)
        cluster.advance(by: .seconds(3))
        let second = (0..<20).map { cluster.leaders(topic, Int32($0)) }
        #expect(second.allSatisfy { $0.count == 1 && $0 != [1] })
        cluster.advance(by: .seconds(10))
        for place in [0, 2] { #expect(awakeCount(cluster, at: place) == 0) }
        // Who comes back learns of what it missed, and then rests with the others.
        try cluster.restart(1)
        #expect(cluster.wait { awakeCount(cluster, at: 1) > 0 })
        cluster.advance(by: .seconds(20))
        for place in 0..<3 { #expect(awakeCount(cluster, at: place) == 0) }
    }

    @Test("What changes of one partition does not concern the others of its topic")
    func neighbours() throws {
        let cluster = try TestCluster()
        let client = cluster.connect(to: 0)
        try client.createTopic(partitions: 20, replicas: 3)
        cluster.advance(by: .seconds(10))
        let request = CreatePartitionsRequest(topics: [
            .init(name: "orders", count: 21, assignments: nil)
        ])
        #expect(try client.ask(request, version: 3).results.map(\.errorCode) == [0])
        for place in 0..<3 { #expect(awakeCount(cluster, at: place) <= 1) }
        cluster.advance(by: .seconds(10))
        for place in 0..<3 { #expect(awakeCount(cluster, at: place) == 0) }
        #expect(cluster.brokers[0].shards.reduce(0) { $0 + $1.allPartitions.count } == 21)
    }
}
