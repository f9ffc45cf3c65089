@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel
import Testing

@Suite("The balancer")
struct BalancerTests {
    /// The brokers that lead the partitions of a topic, by number.
    private func leaders(_ topic: TopicID, _ count: Int, in cluster: TestCluster) -> [Int32] {
        (0..<count).map { number in
            let places = cluster.leaders(topic, Int32(number))
            return places.count == 1 ? Int32(places[0] + 1) : -1
        }
    }

    private static let spread: [[Int32]] = [[1, 2, 3], [2, 3, 1], [3, 1, 2]]

    @Test("Leadership returns to the preferred replica after a restart")
    func preferredLeader() throws {
        let cluster = try TestCluster()
        let topic = try cluster.connect(to: 0).createTopic(on: Self.spread)
        #expect(leaders(topic, 3, in: cluster) == [1, 2, 3])
        try cluster.connect(to: 1).produce(Batches.batch("x"), partition: 1)
        cluster.kill(1)
        cluster.advance(by: .seconds(25))
        // While a broker is missing nothing is balanced, and its partitions have other leaders.
        #expect(leaders(topic, 3, in: cluster)[1] != 2)
        #expect(cluster.image(at: 0).movingPartitionCount == 0)
        try cluster.restart(1)
        #expect(cluster.wait(.seconds(30)) { leaders(topic, 3, in: cluster) == [1, 2, 3] })
        #expect(try cluster.connect(to: 1).read(partition: 1).map(\.value) == ["x"])
    }

    @Test("With auto.leader.rebalance.enable=false leadership stays where it went")
    func disabled() throws {
        let cluster = try TestCluster(configs: [.init("auto.leader.rebalance.enable", "false")])
        let topic = try cluster.connect(to: 0).createTopic(on: Self.spread)
        cluster.kill(1)
        cluster.advance(by: .seconds(3))
        let after = leaders(topic, 3, in: cluster)
        #expect(after[1] != 2)
        try cluster.restart(1)
        cluster.advance(by: .seconds(30))
        #expect(leaders(topic, 3, in: cluster) == after)
    }

    @Test(
        "A broker that joins gets its share of the replicas, a few at a time, and no record is lost"
    )
    func newcomer() throws {
        let cluster = try TestCluster()
        let topic = try cluster.connect(to: 0).createTopic(partitions: 8, replicas: 3)
        cluster.advance(by: .seconds(2))
        let owner = try #require(cluster.leaders(topic, 0).first)
        try cluster.connect(to: owner).produce(Batches.batch("kept"), partition: 0)
        try cluster.join()
        var most = 0
        let isEven = cluster.wait(.seconds(60)) {
            let image = cluster.image(at: cluster.controller ?? 0)
            most = max(most, image.movingPartitionCount)
            let counts = (1...4).map { image.replicas(on: BrokerID($0)).count }
            return image.movingPartitionCount == 0 && counts == [6, 6, 6, 6]
        }
        #expect(isEven)
        #expect((1...8).contains(most))
        #expect(cluster.wait { cluster.leaders(topic, 0).count == 1 })
        let reader = try #require(cluster.leaders(topic, 0).first)
        #expect(try cluster.connect(to: reader).read(partition: 0).map(\.value) == ["kept"])
    }

    @Test("A broker that drains gives away its replicas, and can then be taken out")
    func draining() throws {
        let cluster = try TestCluster()
        try cluster.join()
        let topic = try cluster.connect(to: 0).createTopic(on: [[4, 1, 2], [1, 4, 3], [2, 3, 4]])
        let command = MetadataCommand.setBrokerState(BrokerID(4), .draining, allowsPartial: false)
        guard case .done = try cluster.command(command, at: 1) else {
            Issue.record("the broker cannot drain")
            return
        }
        #expect(
            cluster.wait(.seconds(60)) {
                cluster.image(at: 0).replicas(on: BrokerID(4)).isEmpty
                    && cluster.image(at: 0).removedReplicas.isEmpty
            }
        )
        #expect(try cluster.brokers[3].holds(topic) == false)
        #expect(try cluster.connect(to: 0).unregister(4) == .noError)
    }
}
