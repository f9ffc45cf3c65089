import FlotillaBroker
import FlotillaKafkaWire
import FlotillaModel
import FlotillaSimulation
import Testing

@Suite("Brokers of a cluster")
struct ClusterTests {
    /// The place of the broker that leads a partition, as a client of `place` is told.
    private func leader(
        of topic: String,
        _ partition: Int32 = 0,
        asking place: Int,
        in cluster: TestCluster
    ) throws -> Int? {
        let client = cluster.connect(to: place)
        let told = try client.describe(topic).partitions.first { $0.partitionIndex == partition }
        return cluster.brokers.firstIndex { $0.id.rawValue == told?.leaderId }
    }

    private func values(_ client: TestClient) throws -> [String] {
        try client.read().sorted { $0.key < $1.key }.map(\.value)
    }

    @Test("Three brokers form a cluster, and each tells of all")
    func formation() throws {
        let cluster = try TestCluster()
        for place in cluster.brokers.indices {
            let answer = try cluster.connect(to: place).ask(
                MetadataRequest(topics: []),
                version: 12
            )
            #expect(answer.brokers.map(\.nodeId).sorted() == [1, 2, 3])
        }
    }

    @Test("A topic created at any broker is led, and known at every broker")
    func creation() throws {
        let cluster = try TestCluster()
        for place in cluster.brokers.indices {
            let name = "from-\(place)"
            try cluster.connect(to: place).createTopic(name, partitions: 4, replicas: 3)
            cluster.advance(by: .seconds(2))
            for other in cluster.brokers.indices {
                #expect(try leader(of: name, asking: other, in: cluster) != nil)
            }
        }
    }

    @Test("Every shard dials a broker that is back, at once")
    func dialsWhoIsBack() throws {
        let cluster = try TestCluster()
        cluster.kill(1)
        cluster.advance(by: .seconds(1))
        let before = cluster.brokers[0].environments.map { $0.links.dialled.count }
        try cluster.restart(1)
        cluster.advance(by: .milliseconds(200))
        for (environment, count) in zip(cluster.brokers[0].environments, before) {
            #expect(environment.links.dialled.dropFirst(count).contains(cluster.brokers[1].id))
        }
    }

    @Test(
        "What was acknowledged is there after the leader is killed, and the new leader takes more"
    )
    func failover() throws {
        let cluster = try TestCluster()
        let expected = (0..<10).map { "record \($0)" } + ["after"]
        try cluster.connect(to: 0).createTopic(partitions: 1, replicas: 3)
        cluster.advance(by: .seconds(2))
        let first = try #require(try leader(of: "orders", asking: 0, in: cluster))
        let producer = cluster.connect(to: first)
        for number in 0..<10 {
            let answer = try producer.produce(Batches.batch("record \(number)"))
            #expect(answer.errorCode == 0)
            #expect(answer.baseOffset == Int64(number))
        }
        cluster.kill(first)
        cluster.advance(by: .seconds(3))
        let other = first == 0 ? 1 : 0
        let second = try #require(try leader(of: "orders", asking: other, in: cluster))
        #expect(second != first)
        let successor = cluster.connect(to: second)
        #expect(try successor.produce(Batches.batch("after")).baseOffset == 10)
        #expect(try values(cluster.connect(to: second)) == expected)
        try cluster.restart(first)
        cluster.advance(by: .seconds(3))
        // The balancer may have given leadership back meanwhile.
        let now = try #require(try leader(of: "orders", asking: first, in: cluster))
        cluster.kill(now)
        cluster.advance(by: .seconds(3))
        let witness = now == first ? second : first
        let third = try #require(try leader(of: "orders", asking: witness, in: cluster))
        #expect(third != now)
        #expect(try values(cluster.connect(to: third)) == expected)
    }

    @Test(
        "A broker that was stopped and started knows the metadata, though nothing changed meanwhile"
    )
    func cleanRestart() throws {
        let cluster = try TestCluster()
        try cluster.connect(to: 0).createTopic(partitions: 3, replicas: 3)
        cluster.advance(by: .seconds(2))
        for place in cluster.brokers.indices {
            try cluster.stop(place)
            cluster.advance(by: .seconds(3))
            try cluster.restart(place, after: .keepUnsynced)
            cluster.advance(by: .seconds(2))
            for shard in cluster.brokers[place].shards { #expect(shard.whatIsMissing == nil) }
            for partition in Int32(0)..<3 {
                #expect(try leader(of: "orders", partition, asking: place, in: cluster) != nil)
            }
        }
    }

    @Test("Who leads is told to a broker that came back before the connections to it did")
    func lateConnections() throws {
        let cluster = try TestCluster(4)
        try cluster.connect(to: 0).createTopic(partitions: 8, replicas: 3)
        cluster.advance(by: .seconds(2))
        cluster.kill(3)
        cluster.advance(by: .seconds(1))
        // It dials the others, and they know that it is there; their own connections to it take longer.
        cluster.lateLanes = [[0, 3], [1, 3], [2, 3]]
        try cluster.restart(3)
        cluster.advance(by: .milliseconds(500))
        cluster.connectLate()
        cluster.advance(by: .milliseconds(500))
        for partition in Int32(0)..<8 {
            #expect(try leader(of: "orders", partition, asking: 3, in: cluster) != nil)
        }
    }

    @Test("News of a new leader reaches a broker whose connection was down when it came about")
    func lostNews() throws {
        let cluster = try TestCluster(4)
        try cluster.connect(to: 0).createTopic(partitions: 8, replicas: 3)
        cluster.advance(by: .seconds(2))
        for environment in cluster.brokers[1].environments + cluster.brokers[2].environments {
            environment.links.unreachable.insert(cluster.brokers[3].id)
        }
        cluster.kill(0)
        cluster.advance(by: .seconds(1))
        for environment in cluster.brokers[1].environments + cluster.brokers[2].environments {
            environment.links.unreachable.remove(cluster.brokers[3].id)
        }
        cluster.advance(by: .milliseconds(500))
        for partition in Int32(0)..<8 {
            #expect(try leader(of: "orders", partition, asking: 3, in: cluster) != nil)
        }
    }

    @Test("Where a leader was killed, another leads within half a second")
    func quickFailover() throws {
        let cluster = try TestCluster()
        try cluster.connect(to: 0).createTopic(partitions: 6, replicas: 3)
        cluster.advance(by: .seconds(2))
        for dead in cluster.brokers.indices {
            cluster.kill(dead)
            cluster.advance(by: .milliseconds(500))
            for partition in Int32(0)..<6 {
                let other = (dead + 1) % 3
                let leader = try leader(of: "orders", partition, asking: other, in: cluster)
                #expect(leader != nil && leader != dead)
            }
            try cluster.restart(dead)
            cluster.advance(by: .seconds(3))
        }
    }

    @Test("Groups without work fall quiet, and elect a leader all the same when theirs is gone")
    func quietFailover() throws {
        let cluster = try TestCluster()
        try cluster.connect(to: 0).createTopic(partitions: 3, replicas: 3)
        cluster.advance(by: .seconds(30))
        let sent = cluster.sentCount
        cluster.advance(by: .seconds(10))
        // Beats and their answers: ten a second for each of six pairs, twice.
        #expect(cluster.sentCount - sent < 10 * 10 * 6 * 2 + 100)
        cluster.isolate(2)
        cluster.advance(by: .seconds(5))
        for partition in Int32(0)..<3 {
            let leader = try #require(
                try leader(of: "orders", partition, asking: 0, in: cluster)
            )
            #expect(leader != 2)
        }
    }
}
