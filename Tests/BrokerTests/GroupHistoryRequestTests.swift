@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaSimulation
import Testing
import struct NIOCore.ByteBuffer

/// What a coordinator remembers of its groups.
@Suite("Histories of groups")
struct GroupHistoryRequestTests {
    private func history(
        of group: String = TestClient.group,
        from shard: Shard,
        _ run: () -> Void
    ) throws -> [String] {
        var result: Result<GroupHistoryReply, Refusal>?
        shard.groupHistory(of: group) { result = $0 }
        run()
        return try #require(result).get().lines.map(\.text)
    }

    @Test("a classic group: who joined, was silent, and how long it took")
    func classic() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        _ = try client.findCoordinator()
        let (member, generation) = try client.lead { broker.advance(by: $0) }
        broker.advance(by: .seconds(11))
        for shard in broker.shards {
            let lines = try history(from: shard) { broker.run() }
            #expect(lines.count == 5)
            #expect(lines[0].hasPrefix("member \(member) (client "))
            #expect(lines[0].hasSuffix(", /10.0.0.2) joined"))
            #expect(lines[1] == "a rebalance began: \(member) came")
            #expect(lines[2].hasPrefix("rebalance \(generation) took "))
            #expect(lines[2].hasSuffix(" s: 1 member by range"))
            #expect(lines[3] == "member \(member) was given up: it was silent for a whole session")
            #expect(lines[4] == "nobody is left, in generation \(generation + 1)")
        }
        let counts = broker.shards.map(\.statistics.rebalanceCounts).filter { !$0.isEmpty }
        #expect(counts == [["member_joined": 1]])
        #expect(throws: Refusal(.groupIdNotFound, "there is no group strangers")) {
            try history(of: "strangers", from: broker.shards[0]) { broker.run() }
        }
    }

    @Test("a group of the consumer protocol: epochs, fencing, and commits that are deleted")
    func consumer() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic(partitions: 4)
        _ = try client.findCoordinator()
        #expect(try client.beat("one", 0).memberEpoch == 1)
        #expect(try client.commit(5, member: "one", generation: 1) == .noError)
        #expect(try client.beat("one", 7).errorCode == ErrorCode.fencedMemberEpoch.rawValue)
        #expect(try client.beat("one", 7).errorCode == ErrorCode.fencedMemberEpoch.rawValue)
        _ = try client.beat("one", -1)
        let answer = try client.ask(
            OffsetDeleteRequest(
                groupId: TestClient.group,
                topics: [.init(name: TestClient.topic, partitions: [.init(partitionIndex: 0)])]
            ),
            version: 0
        )
        #expect(answer.errorCode == 0)
        let lines = try history(from: broker.shards[0]) { broker.run() }
        try #require(lines.count == 7)
        #expect(lines[0].hasPrefix("member one (client "))
        #expect(lines[1] == "rebalance 1 began: one came")
        #expect(lines[2] == "rebalance 1 took 0.00 s: 1 member has 4 partitions by uniform")
        #expect(lines[3].hasPrefix("member one was refused: "))
        #expect(lines[4] == "member one left")
        #expect(lines[5] == "nobody is left, in generation 2")
        #expect(lines[6] == "1 committed offset forgotten: somebody deleted them")
    }

    @Test("another coordinator begins with who was there, and every broker can be asked")
    func failover() throws {
        let cluster = try TestCluster()
        let clients = (0..<3).map { cluster.connect(to: $0) }
        try clients[0].createTopic(replicas: 3)
        func coordinator(asking place: Int) throws -> Int? {
            let answer = try clients[place].findCoordinator()
            return answer.errorCode == 0 ? Int(answer.nodeId) - 1 : nil
        }
        var found: Int?
        _ = try cluster.wait {
            found = try coordinator(asking: 0)
            return found != nil
        }
        let first = try #require(found)
        let (member, generation) = try clients[first].lead { cluster.advance(by: $0) }
        for broker in cluster.brokers {
            let lines = try history(from: broker.shards[0]) { cluster.run() }
            #expect(lines.count == 3)
        }
        cluster.kill(first)
        let alive = (first + 1) % 3
        _ = try cluster.wait {
            found = try coordinator(asking: alive)
            return found != first && found != nil
        }
        let second = try #require(found)
        #expect(
            try cluster.wait { try clients[second].heartbeat(member, generation) == .noError }
        )
        for (place, broker) in cluster.brokers.enumerated() where place != first {
            let lines = try history(from: broker.shards[0]) { cluster.run() }
            try #require(lines.count == 2)
            #expect(lines[0].hasPrefix("broker \(second + 1) coordinates the group, in term "))
            #expect(lines[1].hasPrefix("member \(member) (client "))
            #expect(lines[1].hasSuffix(" was there already"))
        }
    }
}
