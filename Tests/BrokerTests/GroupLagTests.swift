@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaSimulation
import Testing
import struct NIOCore.ByteBuffer

/// How far groups are behind, as their coordinator finds it.
@Suite("Lags of groups")
struct GroupLagTests {
    private func lag(
        of group: String = TestClient.group,
        from shard: Shard,
        _ run: () -> Void
    ) throws -> GroupLagReply {
        var result: Result<GroupLagReply, Refusal>?
        shard.groupLag(of: group) { result = $0 }
        run()
        return try #require(result).get()
    }

    private func lags(_ broker: TestBroker) throws -> GroupCommits {
        var found: GroupCommits?
        broker.shards[0].ownLags { found = $0 }
        broker.run()
        // Between two chunks others have a turn.
        broker.advance(by: .milliseconds(1))
        return try #require(found)
    }

    @Test("records and seconds, from the commit to the high watermark")
    func behind() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        _ = try client.findCoordinator()
        for number in 0..<5 {
            try client.produce(Batches.batch("a", "b", at: Batches.now + Int64(number) * 100))
        }
        #expect(try client.commit(4) == .noError)
        let now = broker.clock.wallTime
        let position = try only(try lag(from: broker.shards[0]) { broker.run() }.positions)
        #expect(position.key == OffsetKey(topic: TestClient.topic, partition: 0))
        #expect(position.records == 6)
        #expect(position.time == Timestamp(Batches.now + 200))
        #expect(
            position.milliseconds(at: now) == max(0, now.rawValue - Batches.now - 200)
        )
        // From segments as from memory.
        broker.advance(by: .seconds(5))
        try broker.restartCleanly()
        let again = try broker.connect()
        _ = try again.findCoordinator()
        for shard in broker.shards {
            let position = try only(try lag(from: shard) { broker.run() }.positions)
            #expect(position.records == 6)
            #expect(position.time == Timestamp(Batches.now + 200))
        }
        #expect(try again.commit(10) == .noError)
        let done = try only(try lag(from: broker.shards[0]) { broker.run() }.positions)
        #expect(done.records == 0)
        #expect(done.time == nil)
        #expect(done.milliseconds(at: now) == 0)
        let all = try lags(broker)
        #expect(all.groups.map(\.group) == [TestClient.group])
        #expect(all.groups.first?.records == 0)
        #expect(all.droppedCount == 0)
        #expect(broker.shards.reduce(0) { $0 + $1.statistics.commitCount } == 1)
    }

    @Test(
        "what was deleted before the commit is not waited for, and a topic that is gone has no lag"
    )
    func bounds() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        _ = try client.findCoordinator()
        try client.produce(Batches.batch("a", "b", "c"))
        #expect(try client.commit(0) == .noError)
        _ = try client.deleteRecords(before: 2)
        let position = try only(try lag(from: broker.shards[0]) { broker.run() }.positions)
        #expect(position.records == 1)
        #expect(throws: Refusal(.groupIdNotFound, "there is no group strangers")) {
            try lag(of: "strangers", from: broker.shards[0]) { broker.run() }
        }
    }

    @Test("groups beyond the limit are counted, and not looked at")
    func limit() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        _ = try client.findCoordinator()
        for number in 0..<Shard.lagGroupLimit + 5 {
            #expect(try client.commit(0, group: "group-\(number)") == .noError)
        }
        let all = try lags(broker)
        #expect(all.groups.count == Shard.lagGroupLimit)
        #expect(all.droppedCount == 5)
        let counts = broker.shards.flatMap(\.statistics.groupCounts).reduce(into: [:]) {
            $0[$1.key, default: 0] += $1.value
        }
        #expect(counts == [.init(type: .classic, state: "Empty"): Shard.lagGroupLimit + 5])
    }

    @Test(
        "a replica that has yet to hear of what a group has read cannot tell that it has read all"
    )
    func lateReplica() throws {
        let cluster = try TestCluster()
        let client = cluster.connect(to: 0)
        let topic = try client.createTopic(replicas: 3)
        var leader: Int?
        _ = cluster.wait {
            leader = cluster.leaders(topic).first
            return leader != nil
        }
        let first = try #require(leader)
        cluster.advance(by: .seconds(1))
        func error(_ offset: Int64, at place: Int) throws -> ErrorCode {
            let partition = try #require(cluster.partition(topic, at: place))
            let id = TopicPartition(topic: topic, partition: 0)
            var found: PositionReply?
            partition.position(
                PositionCall(partition: id, offset: Offset(offset)),
                mayLoad: { false }
            ) { found = $0 }
            return try #require(found).error
        }
        #expect(try error(0, at: (first + 1) % 3) == .noError)
        #expect(try error(100, at: (first + 1) % 3) == .offsetNotAvailable)
        #expect(try error(100, at: first) == .noError)
    }

    @Test("partitions that live on other brokers are asked for there, and any broker can be asked")
    func elsewhere() throws {
        let cluster = try TestCluster()
        let clients = (0..<3).map { cluster.connect(to: $0) }
        let topic = try clients[0].createTopic(replicas: 1)
        _ = try cluster.wait { try clients[0].findCoordinator().errorCode == 0 }
        let leader = try #require(cluster.leaders(topic).first)
        // Of these some group is coordinated by a broker without a replica.
        for number in 0..<8 {
            let group = "group-\(number)"
            let place = Int(try clients[0].findCoordinator(of: group).nodeId) - 1
            #expect(
                try cluster.wait { try clients[place].commit(0, group: group) == .noError }
            )
        }
        try clients[leader].produce(Batches.batch("a", "b", "c"))
        cluster.advance(by: .seconds(1))
        for number in 0..<8 {
            for broker in cluster.brokers {
                let reply = try lag(of: "group-\(number)", from: broker.shards[0]) { cluster.run() }
                let position = try only(reply.positions)
                #expect(position.records == 3)
                #expect(position.time == Timestamp(Batches.now))
            }
        }
    }
}
