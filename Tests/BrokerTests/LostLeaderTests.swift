import FlotillaBroker
import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel
import Testing

/// What clients are told between the end of a leader and the next one.
@Suite("Lost leaders")
struct LostLeaderTests {
    private func told(_ cluster: TestCluster, by place: Int) throws -> (
        leader: Int32, error: Int16, brokers: [Int32]
    ) {
        let answer = try cluster.connect(to: place).ask(
            MetadataRequest(topics: [.init(name: "orders")]),
            version: 12
        )
        let partition = try #require(answer.topics.first?.partitions.first)
        return (partition.leaderId, partition.errorCode, answer.brokers.map(\.nodeId).sorted())
    }

    @Test("A leader that was just lost is named until the next one is known")
    func successor() throws {
        let cluster = try TestCluster()
        try cluster.connect(to: 0).createTopic(partitions: 1, replicas: 3)
        cluster.advance(by: .seconds(2))
        let topic = try #require(cluster.image().topic(named: "orders")).id
        let first = try #require(cluster.leaders(topic).first)
        let id = cluster.brokers[first].id.rawValue
        cluster.kill(first)
        let witness = first == 0 ? 1 : 0
        let before = try told(cluster, by: witness)
        #expect(before.leader == id && before.error == 0 && before.brokers == [1, 2, 3])
        var named: [Int32] = []
        let hasSuccessor = try cluster.wait(.milliseconds(500)) {
            named.append(try told(cluster, by: witness).leader)
            return named.last != id
        }
        // Nobody is ever told that there is no leader.
        #expect(hasSuccessor && named.allSatisfy { $0 > 0 })
        cluster.advance(by: .seconds(1))
        #expect(!(try told(cluster, by: witness).brokers.contains(id)))
    }

    @Test("Where no next one comes, it is said half a second later")
    func noSuccessor() throws {
        let cluster = try TestCluster()
        try cluster.connect(to: 0).createTopic(partitions: 1, replicas: 3)
        cluster.advance(by: .seconds(2))
        let topic = try #require(cluster.image().topic(named: "orders")).id
        let first = try #require(cluster.leaders(topic).first)
        let others = (0..<3).filter { $0 != first }
        cluster.kill(first)
        cluster.kill(others[0])
        #expect(try told(cluster, by: others[1]).leader == cluster.brokers[first].id.rawValue)
        cluster.advance(by: .seconds(1))
        let after = try told(cluster, by: others[1])
        #expect(after.leader == -1 && after.error == ErrorCode.leaderNotAvailable.rawValue)
        #expect(after.brokers == [cluster.brokers[others[1]].id.rawValue])
    }
}
