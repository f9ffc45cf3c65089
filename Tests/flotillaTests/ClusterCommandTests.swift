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

    /// The metadata's group, with when its members were heard; nil where one never was.
    private func group(
        _ heard: [Int64?],
        leader: Int32? = 1,
        problem: String? = nil
    ) -> MetadataGroup {
        MetadataGroup(
            quorum: Admin.Quorum(
                leader: leader.map { BrokerID($0) },
                epoch: 3,
                highWatermark: 10,
                members: heard.enumerated().map { place, time in
                    .init(
                        broker: BrokerID(Int32(place + 1)),
                        isVoter: true,
                        logEnd: time == nil ? nil : 10,
                        lastHeard: time.map { Timestamp($0) },
                        lastCaughtUp: time.map { Timestamp($0) }
                    )
                }
            ),
            problem: problem
        )
    }

    private func health(_ cluster: ClusterMetadata, _ group: MetadataGroup) -> ClusterHealth {
        ClusterHealth(cluster, ClusterView(cluster, group))
    }

    @Test("A cluster that lacks nothing is healthy")
    func healthy() {
        let cluster = metadata((1...3).map { broker($0) }, [partition(0, [1, 2, 3])])
        let found = health(cluster, group([50_000, 49_900, 49_000]))
        #expect(found.isHealthy)
        #expect(found.checks.map(\.name) == ["brokers", "leaders", "replicas", "metadata"])
        #expect(health(cluster, MetadataGroup()).checks.count == 3)
    }

    @Test("What is wrong is said in words, and names at most ten partitions")
    func unhealthy() {
        var partitions = (0..<12).map { partition($0, [1, 2, 3], inSync: [1, 2]) }
        partitions[0].leader = nil
        let found = health(
            metadata((1...2).map { broker($0) }, partitions),
            group([50_000, 49_900, 20_000], leader: nil, problem: "the metadata has no leader")
        )
        let problems = found.checks.map(\.problems)
        #expect(!found.isHealthy)
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

    @Test(
        "A member that is gone and was never heard of is told, one that a new leader awaits is not"
    )
    func unheard() {
        let cluster = metadata((1...2).map { broker($0) }, [])
        let found = health(cluster, group([50_000, nil, nil]))
        #expect(
            found.checks.last?.problems == [
                "broker 3 has taken no metadata since broker 1 leads it"
            ]
        )
    }

    // MARK: Brokers

    private func registered(_ id: Int32, isAlive: Bool) -> Admin.RegisteredBroker {
        .init(
            id: BrokerID(id),
            address: BrokerAddress(host: "b\(id)", port: 9092),
            rack: nil,
            isAlive: isAlive
        )
    }

    @Test("Brokers that are down are shown as such, whether they hold anything or not")
    func downBrokers() {
        let cluster = metadata(
            [broker(1), broker(2)],
            [partition(0, [1, 2, 3], leader: 2, inSync: [1, 2])]
        )
        let all =
            [1, 2].map { registered($0, isAlive: true) }
            + [3, 4].map { registered($0, isAlive: false) }
        let view = ClusterView(cluster, registered: all, group([9, 9, nil], leader: 2))
        #expect(view.nodes.map(\.id) == ids(1, 2, 3, 4))
        #expect(view.nodes.map(\.state) == ["up", "up", "down", "down"])
        #expect(view.nodes.map(\.replicas) == [1, 1, 1, 0])
        #expect(view.nodes.map(\.leads) == [0, 1, 0, 0])
        #expect(view.nodes.map(\.role) == ["voter", "leader", "voter", nil])
        #expect(view.nodes[3].address == BrokerAddress(host: "b4", port: 9092))
        #expect(throws: CommandFailure.self) { try view.expect(BrokerID(9)) }
    }

    @Test("The controller is who leads the metadata, not who answers")
    func controllers() {
        var cluster = metadata((1...3).map { broker($0) }, [])
        cluster.controller = BrokerID(3)
        #expect(ClusterView(cluster, group([9, 9, 9], leader: 2)).controller == BrokerID(2))
        let leaderless = MetadataGroup(quorum: .leaderless, problem: "the metadata has no leader")
        #expect(ClusterView(cluster, leaderless).controller == nil)
        #expect(ClusterView(cluster, MetadataGroup(problem: "nobody told")).controller == nil)
        // A cluster without such a group means what it says.
        #expect(ClusterView(cluster).controller == BrokerID(3))
    }

    @Test("Members of the metadata's group that are no brokers are not shown as such")
    func controllersOfKafka() {
        let view = ClusterView(
            metadata([broker(1)], []),
            registered: [registered(1, isAlive: true)],
            group([9, 9, 9], leader: 2)
        )
        #expect(view.nodes.map(\.id) == ids(1))
        #expect(view.controller == BrokerID(2))
    }

    @Test(
        "What is not known of a member is told as unknown, and of one that is down nothing is now"
    )
    func caughtUp() {
        let told = [(nil, true), (0, true), (0, false), (999, true), (2500, true)].map {
            PartitionRaftCommand.caughtUp(behindMillis: $0.0, isUp: $0.1)
        }
        #expect(told == ["unknown", "now", "0 s ago", "now", "2 s ago"])
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

    @Test(
        "A wrong list of brokers is told what is wrong with it",
        arguments: [
            ("1,1", "names broker 1 twice"), ("1,-1", "-1 in"), ("1,x", "is no list of brokers"),
            ("", "is no list of brokers"),
        ]
    )
    func wrongBrokerLists(text: String, expected: String) {
        let failure = #expect(throws: CommandFailure.self) { try Brokers.parse(text) }
        #expect(failure?.text.contains(expected) == true)
        #expect(failure?.exitCode == 2)
    }

    @Test("Where nobody listens, the failure says so, and names --admin")
    func nobody() async throws {
        let failure = await #expect(throws: CommandFailure.self) {
            try await AdminRequest(method: "POST", path: "/v1/brokers/1/drain")
                .send(to: BrokerAddress(host: "127.0.0.1", port: 1), timeout: .seconds(5))
        }
        #expect(failure?.exitCode == 4)
        #expect(
            failure?.text.contains("127.0.0.1:1: Connection refused; --admin HOST:PORT") == true
        )
    }
}
