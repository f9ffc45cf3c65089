@testable import FlotillaBroker
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRaft
import FlotillaReplication
import Testing

/// What clients of a cluster are told while leaders come and go.
///
/// - Source: SEMANTICS rules GEN-7 to GEN-9, LO-1, LO-8, META-2 to META-6, OFLE-2; KIP-207, KIP-320, KIP-951.
@Suite("Clients of a cluster")
struct ClusterClientTests {
    private let cluster: TestCluster
    private let topic: TopicID

    init() throws {
        cluster = try TestCluster()
        topic = try cluster.connect(to: 0).createTopic(on: [[1, 2, 3]])
        cluster.advance(by: .seconds(1))
        #expect(cluster.leaders(topic) == [0])
        #expect(try cluster.connect(to: 0).produce(Batches.batch("a")).error == .noError)
    }

    private func place(of broker: Int32) -> Int? {
        cluster.brokers.firstIndex { $0.id.rawValue == broker }
    }

    // MARK: Hints

    @Test(
        "After a failover errors name the new leader and its address, never a dead one (GEN-8, PROD-17)"
    )
    func produceHint() throws {
        cluster.kill(0)
        var named: Set<Int32> = []
        for _ in 0..<200 {
            cluster.advance(by: .milliseconds(10))
            for place in 1...2 {
                let request = TestClient.produceRequest(Batches.batch("b"), acks: 1)
                let answer = try cluster.connect(to: place).ask(request, version: 10)
                let part = try only(only(answer.responses).partitionResponses)
                guard part.error != .noError else { continue }
                #expect(part.error == .notLeaderOrFollower)
                let leader = part.currentLeader.leaderId
                // Neither the dead one, nor whoever says that it is not the leader.
                #expect(leader == -1 || leader == Int32(4 - place))
                #expect(answer.nodeEndpoints.map(\.nodeId) == (leader < 0 ? [] : [leader]))
                #expect(answer.nodeEndpoints.allSatisfy { $0.host == "broker-\(leader)" })
                named.insert(leader)
            }
            if named.contains(2) || named.contains(3) { break }
        }
        let leader = try #require(cluster.leaders(topic).first)
        #expect(named.contains(cluster.brokers[leader].id.rawValue))
    }

    @Test("So do errors of Fetch, by topic id (FETCH-13)")
    func fetchHint() throws {
        cluster.kill(0)
        #expect(cluster.wait { !cluster.leaders(topic).isEmpty })
        let leader = try #require(cluster.leaders(topic).first)
        let other = 3 - leader
        let epoch = try only(cluster.connect(to: other).describe().partitions).leaderEpoch
        for (asked, error) in [
            (Int32(-1), ErrorCode.notLeaderOrFollower), (epoch - 1, .fencedLeaderEpoch),
        ] {
            let answer = try cluster.connect(to: other).ask(
                TestClient.fetchRequest(of: "", id: topic, epoch: asked),
                version: 16
            )
            let part = try only(only(answer.responses).partitions)
            #expect(part.error == error)
            #expect(place(of: part.currentLeader.leaderId) == leader)
            #expect(part.currentLeader.leaderEpoch == epoch)
            #expect(answer.nodeEndpoints.map(\.nodeId) == [part.currentLeader.leaderId])
        }
    }

    @Test("A leader that hands over names its successor to those whose batches it cannot take")
    func handOver() throws {
        let producer = cluster.connect(to: 0)
        let partition = try #require(cluster.partition(topic, at: 0))
        let target = try #require(
            partition.replica.membership.voters.first { $0.broker == BrokerID(3) }
        )
        partition.replica.transferLeadership(to: target)
        cluster.run()
        #expect(cluster.leaders(topic) == [2])
        let answer = try producer.ask(
            TestClient.produceRequest(Batches.batch("b")),
            version: 10
        )
        let part = try only(only(answer.responses).partitionResponses)
        #expect(part.error == .notLeaderOrFollower)
        #expect(part.currentLeader.leaderId == 3)
        #expect(answer.nodeEndpoints.map(\.host) == ["broker-3"])
    }

    // MARK: The end of the log

    /// Kills the leader, and lets the next one be elected but not finish the log of the one before.
    private func electUnready() throws -> Int {
        cluster.losesRaft = { [topic] envelope, _, _ in
            guard envelope.partition.topic == topic else { return false }
            if case .appendRequest = envelope.message { return true }
            return false
        }
        cluster.kill(0)
        let isElected = cluster.wait {
            (1...2).contains { cluster.partition(topic, at: $0)?.replica.isLeader == true }
        }
        #expect(isElected)
        #expect(cluster.leaders(topic).isEmpty)
        return try #require(
            (1...2).first { cluster.partition(topic, at: $0)?.replica.isLeader == true }
        )
    }

    @Test("A new leader that has not begun its term knows no end of the log (LO-8, KIP-207)")
    func offsetNotAvailable() throws {
        let leader = try electUnready()
        let client = cluster.connect(to: leader)
        #expect(try client.listOffset(-1).error == .offsetNotAvailable)
        #expect(try client.listOffset(-1, version: 5).error == .offsetNotAvailable)
        #expect(try client.listOffset(-1, version: 4).error == .leaderNotAvailable)
        #expect(try client.listOffset(-3).error == .offsetNotAvailable)
        // What is known to be committed can be told, and read (FETCH-16).
        #expect(try client.listOffset(-2).offset == 0)
        #expect(try client.listOffset(Batches.now).offset == 0)
        #expect(try client.listOffset(Batches.now + 1).error == .offsetNotAvailable)
        #expect(try client.read() == [0: "a"])
        #expect(try client.fetch(TestClient.fetchRequest(from: 1)).error == .noError)
        #expect(try client.produce(Batches.batch("b")).error == .notLeaderOrFollower)
        cluster.losesRaft = nil
        #expect(cluster.wait { cluster.leaders(topic) == [leader] })
        let latest = try client.listOffset(-1)
        #expect(latest.error == .noError)
        #expect(latest.offset == 1)
        #expect(try client.listOffset(Batches.now + 1).offset == -1)
    }

    @Test("A leader that is deposed and does not know tells no end of the log (LO-1)")
    func linearizable() throws {
        // Its links look alive, but nothing of the group gets through.
        cluster.losesRaft = { [topic] envelope, from, to in
            envelope.partition.topic == topic && (from == 0 || to == 0)
        }
        let old = cluster.connect(to: 0)
        var answered: [ListOffsetsResponse.ListOffsetsPartitionResponse] = []
        let isReplaced = cluster.wait {
            if let answer = try? old.listOffset(-1) { answered.append(answer) }
            return cluster.leaders(topic).contains { $0 != 0 }
        }
        #expect(isReplaced)
        #expect(!answered.isEmpty)
        #expect(answered.allSatisfy { $0.errorCode != 0 })
        for answer in answered { #expect(answer.error?.isRetriable == true) }
    }

    @Test("The end of the log needs no time where the leader is sure (LO-1)")
    func latestIsQuick() throws {
        let client = cluster.connect(to: 0)
        cluster.advance(by: .seconds(30))
        let now = cluster.clock.now
        let id = try client.send(
            ListOffsetsRequest(
                replicaId: -1,
                topics: [
                    .init(
                        name: TestClient.topic,
                        partitions: [.init(partitionIndex: 0, timestamp: -1)]
                    )
                ]
            ),
            version: 7
        )
        cluster.run()
        #expect(client.hasAnswer)
        let answer = try client.answer(to: ListOffsetsRequest.self, version: 7, id: id)
        #expect(try only(only(answer.topics).partitions).offset == 1)
        #expect(cluster.clock.now == now)
    }

    // MARK: Epochs

    @Test("Offsets and ends of epochs are told by leaders only, and epochs checked first (GEN-7)")
    func followers() throws {
        let epoch = try only(cluster.connect(to: 1).describe().partitions).leaderEpoch
        let follower = cluster.connect(to: 1)
        #expect(try follower.listOffset(-1).error == .notLeaderOrFollower)
        #expect(try follower.listOffset(-1, epoch: epoch).error == .notLeaderOrFollower)
        #expect(try follower.listOffset(-1, epoch: epoch - 1).error == .fencedLeaderEpoch)
        #expect(try follower.listOffset(-1, epoch: epoch + 1).error == .unknownLeaderEpoch)
        for (current, error) in [
            (Int32(-1), ErrorCode.notLeaderOrFollower), (epoch, .notLeaderOrFollower),
            (epoch - 1, .fencedLeaderEpoch), (epoch + 1, .unknownLeaderEpoch),
        ] {
            let answer = try follower.ask(
                OffsetForLeaderEpochRequest(
                    replicaId: -1,
                    topics: [
                        .init(
                            topic: TestClient.topic,
                            partitions: [
                                .init(partition: 0, currentLeaderEpoch: current, leaderEpoch: epoch)
                            ]
                        )
                    ]
                ),
                version: 4
            )
            #expect(try only(only(answer.topics).partitions).error == error)
        }
    }

    // MARK: Metadata

    @Test(
        "Metadata names no broker that is gone, and epochs never go back (META-2, META-5, META-6)"
    )
    func metadata() throws {
        let client = cluster.connect(to: 1)
        let before = try only(client.describe().partitions)
        #expect(before.isrNodes.sorted() == [1, 2, 3])
        #expect(before.offlineReplicas.isEmpty)
        cluster.kill(0)
        var epoch = before.leaderEpoch
        var wasLeaderless = false
        for _ in 0..<100 {
            let answer = try client.ask(
                MetadataRequest(topics: [.init(name: "orders")]),
                version: 12
            )
            #expect(answer.brokers.map(\.nodeId).sorted() == [2, 3])
            #expect([2, 3].contains(answer.controllerId))
            let part = try only(only(answer.topics).partitions)
            #expect(part.replicaNodes == [1, 2, 3])
            #expect(part.isrNodes.sorted() == [2, 3])
            #expect(part.offlineReplicas == [1])
            #expect([-1, 2, 3].contains(part.leaderId))
            #expect((part.leaderId < 0) == (code(part.errorCode) == .leaderNotAvailable))
            #expect(part.leaderEpoch >= epoch)
            epoch = part.leaderEpoch
            if part.leaderId < 0 { wasLeaderless = true }
            let described = try client.ask(DescribeClusterRequest(endpointType: 1), version: 1)
            #expect(described.brokers.map(\.brokerId).sorted() == [2, 3])
            #expect([2, 3].contains(described.controllerId))
            cluster.advance(by: .milliseconds(10))
        }
        #expect(wasLeaderless)
        #expect(epoch > before.leaderEpoch)
        try cluster.restart(0)
        #expect(
            cluster.wait {
                (try? only(client.describe().partitions))?.offlineReplicas.isEmpty == true
            }
        )
    }
}
