import ArgumentParser
import FlotillaModel
import NIOCore
import Testing

@testable import FlotillaClient
@testable import flotilla

@Suite("What the commands about clusters decide")
struct ClusterCommandTests {
    private func broker(_ id: Int32, rack: String? = nil) -> ClusterMetadata.Broker {
        .init(
            id: BrokerID(id),
            address: BrokerAddress(host: "b\(id)", port: 9092),
            rack: rack
        )
    }

    private func partition(
        _ index: Int32,
        _ replicas: [Int32],
        leader: Int32? = nil,
        inSync: [Int32]? = nil
    ) -> ClusterMetadata.Partition {
        .init(
            index: index,
            leader: (leader ?? replicas.first).map { BrokerID($0) },
            leaderEpoch: 1,
            replicas: replicas.map { BrokerID($0) },
            inSyncReplicas: (inSync ?? replicas).map { BrokerID($0) },
            offlineReplicas: []
        )
    }

    private func metadata(
        _ brokers: [ClusterMetadata.Broker],
        _ partitions: [ClusterMetadata.Partition]
    ) -> ClusterMetadata {
        var metadata = ClusterMetadata()
        metadata.brokers = brokers
        metadata.topics = [
            .init(
                name: "t",
                id: TopicID(high: 0, low: 1),
                isInternal: false,
                error: .noError,
                partitions: partitions
            )
        ]
        return metadata
    }

    private func ids(_ numbers: Int32...) -> [BrokerID] {
        numbers.map { BrokerID($0) }
    }

    // MARK: Plans

    @Test("A drained broker's replicas go where fewest are, and others lead at once")
    func draining() throws {
        var plan = ReplicaPlan(
            metadata(
                (1...4).map { broker($0) },
                [partition(0, [1, 2, 3]), partition(1, [2, 3, 1]), partition(2, [2, 3, 4])]
            )
        )
        let (moves, stuck) = plan.draining(BrokerID(1))
        #expect(stuck.isEmpty)
        #expect(moves.map(\.to) == [ids(2, 3, 4), ids(2, 3, 4)])
        #expect(moves.map(\.adding) == [ids(4), ids(4)])
    }

    @Test("A rack that a partition is not on yet is better than a broker with less to do")
    func racks() throws {
        var plan = ReplicaPlan(
            metadata(
                [
                    broker(1, rack: "a"), broker(2, rack: "b"), broker(3, rack: "c"),
                    broker(4, rack: "b"), broker(5, rack: "a"),
                ],
                [partition(0, [1, 2]), partition(1, [3, 5]), partition(2, [3, 5])]
            )
        )
        // Broker 4 has nothing to do, but stands beside broker 2.
        #expect(plan.draining(BrokerID(1)).moves.map(\.to) == [ids(2, 3)])
    }

    @Test("Where nobody else is left, a partition is stuck")
    func stuck() {
        var plan = ReplicaPlan(
            metadata((1...3).map { broker($0) }, [partition(0, [1, 2, 3]), partition(1, [1])])
        )
        let (moves, stuck) = plan.draining(BrokerID(1))
        #expect(stuck == [NamedPartition(topic: "t", index: 0)])
        #expect(moves.map(\.partition.index) == [1])
    }

    @Test("What moves already counts where it is going to")
    func moving() {
        var plan = ReplicaPlan(
            metadata((1...3).map { broker($0) }, [partition(0, [1, 2])]),
            moving: [NamedPartition(topic: "t", index: 0): ids(2, 3)]
        )
        #expect(plan.draining(BrokerID(1)).moves.isEmpty)
    }

    @Test("An empty broker gets its share, one move for each partition", arguments: 1...3)
    func balancing(factor: Int) {
        let partitions = (0..<12).map { index in
            partition(index, (0..<Int32(factor)).map { (index + $0) % 3 + 1 })
        }
        var plan = ReplicaPlan(metadata((1...4).map { broker($0) }, partitions))
        let moves = plan.balancing()
        #expect(moves.count == 3 * factor)
        #expect(Set(moves.map(\.partition)).count == moves.count)
        #expect(moves.allSatisfy { $0.adding == ids(4) })
        var counts: [BrokerID: Int] = [:]
        for each in partitions {
            let move = moves.first { $0.partition.index == each.index }
            for broker in move?.to ?? each.replicas { counts[broker, default: 0] += 1 }
        }
        #expect(Set(counts.values) == [3 * factor])
    }

    @Test("Balance does not put a partition on fewer racks")
    func rackBalance() {
        let brokers = [
            broker(1, rack: "a"), broker(2, rack: "b"), broker(3, rack: "b"),
        ]
        let partitions = (0..<4).map { partition($0, [1, 2]) }
        var plan = ReplicaPlan(metadata(brokers, partitions))
        let moves = plan.balancing()
        #expect(moves.map(\.to) == [ids(1, 3), ids(1, 3)])
    }

    // MARK: Health

    private func quorum(_ heard: [Int64], leader: Int32? = 1) -> Admin.Quorum {
        Admin.Quorum(
            leader: leader.map { BrokerID($0) },
            epoch: 3,
            highWatermark: 10,
            members: heard.enumerated().map { place, time in
                .init(
                    broker: BrokerID(Int32(place + 1)),
                    isVoter: true,
                    logEnd: 10,
                    lastHeard: Timestamp(time),
                    lastCaughtUp: Timestamp(time)
                )
            }
        )
    }

    @Test("A cluster that lacks nothing is healthy")
    func healthy() {
        let cluster = metadata((1...3).map { broker($0) }, [partition(0, [1, 2, 3])])
        let health = ClusterHealth(cluster, quorum([50_000, 49_900, 49_000]))
        #expect(health.isHealthy)
        #expect(health.checks.map(\.name) == ["brokers", "leaders", "replicas", "metadata"])
        #expect(ClusterHealth(cluster, nil).checks.count == 3)
    }

    @Test("What is wrong is said in words, and names at most ten partitions")
    func unhealthy() {
        var partitions = (0..<12).map { partition($0, [1, 2, 3], inSync: [1, 2]) }
        partitions[0].leader = nil
        let health = ClusterHealth(
            metadata((1...2).map { broker($0) }, partitions),
            quorum([50_000, 49_900, 20_000], leader: nil)
        )
        let problems = health.checks.map(\.problems)
        #expect(!health.isHealthy)
        #expect(problems[0] == ["broker 3 does not answer"])
        #expect(problems[1] == ["1 partition without a leader: t[0]"])
        #expect(problems[2].first?.hasPrefix("12 partitions under-replicated: t[0], ") == true)
        #expect(problems[2].first?.hasSuffix("t[9] and 2 more") == true)
        #expect(
            problems[3] == [
                "broker 3 has not taken metadata for 30 s", "the metadata has no leader",
            ]
        )
    }

    // MARK: Command lines

    @Test("Lists of brokers are ids, each once")
    func brokerLists() throws {
        #expect(try Brokers.parse("1,2,30") == ids(1, 2, 30))
        for text in ["", "1,", "1,1", "a", "-1", "1 2"] {
            #expect(throws: CommandFailure.self) { try Brokers.parse(text) }
        }
    }

    @Test(
        "Command lines that make no sense are refused",
        arguments: [
            ["partition", "move", "t"], ["partition", "move", "--to", "1"],
            ["partition", "move", "t", "--to", "1", "--cancel"], ["partition", "verify"],
            ["cluster", "drain"], ["cluster", "drain", "x"],
        ]
    )
    func usage(arguments: [String]) {
        #expect(throws: (any Error).self) { try Flotilla.parseAsRoot(arguments) }
    }

    @Test(
        "Command lines of the manual are taken",
        arguments: [
            ["cluster", "status"], ["cluster", "health", "-o", "json"], ["cluster", "nodes"],
            ["cluster", "drain", "4", "--dry-run"],
            ["cluster", "drain", "4", "--cancel", "--admin", "h:1"], ["cluster", "remove", "4"],
            ["cluster", "balance", "--no-wait"],
            ["cluster", "transfer-leader", "t", "-p", "3", "--to", "2"],
            ["partition", "describe", "t"], ["partition", "raft"], ["partition", "raft", "t"],
            ["partition", "move"], ["partition", "move", "t", "-p", "0", "--to", "1,2"],
            ["partition", "verify", "--data-dir", "d"],
        ]
    )
    func known(arguments: [String]) throws {
        _ = try Flotilla.parseAsRoot(arguments)
    }

    @Test("A replica's role is one word")
    func roles() {
        var known = partition(0, [1, 2, 3, 4], inSync: [1, 2])
        known.offlineReplicas = ids(3)
        let roles = ids(1, 2, 3, 4).map { PartitionRaftCommand.role(of: $0, in: known) }
        #expect(roles == ["leader", "follower", "offline", "lagging"])
    }

    // MARK: HTTP

    @Test("An answer over HTTP is its status and its text")
    func answers() {
        let text = "HTTP/1.1 409 Conflict\r\nContent-Length: 4\r\n\r\nno: b\n"
        let answer = AdminRequest.Answer(ByteBuffer(string: text))
        #expect(answer?.status == 409 && answer?.body == "no: b")
        for text in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0-x\r\n\r\n"] {
            #expect(AdminRequest.Answer(ByteBuffer(string: text)) == nil)
        }
    }

    @Test("Where nobody listens, the failure says so")
    func nobody() async throws {
        let failure = await #expect(throws: CommandFailure.self) {
            try await AdminRequest(method: "POST", path: "/v1/brokers/1/drain")
                .send(to: BrokerAddress(host: "127.0.0.1", port: 1), timeout: .seconds(5))
        }
        #expect(failure?.exitCode == 4)
    }
}
