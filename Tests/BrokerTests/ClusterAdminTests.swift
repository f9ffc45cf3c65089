@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRaft
import FlotillaReplication
import Testing

@Suite("Administration of a cluster")
struct ClusterAdminTests {
    /// Every place that does not decide about the metadata, and the one that does: commands come from both.
    private func askers(of cluster: TestCluster) throws -> [Int] {
        let controller = try #require(cluster.controller)
        return [controller, (controller + 1) % 3]
    }

    // MARK: Assignments

    @Test("A topic lies on the brokers that its creator names, led by the first of each list")
    func explicitTopic() throws {
        let cluster = try TestCluster()
        for place in try askers(of: cluster) {
            let name = "named-\(place)"
            let client = cluster.connect(to: place)
            let created = try client.create(name, on: [[3, 1], [2, 3], [1, 2]])
            #expect(created.errorCode == 0)
            #expect(created.numPartitions == 3)
            #expect(created.replicationFactor == 2)
            let partitions = try client.describe(name).partitions.sorted {
                $0.partitionIndex < $1.partitionIndex
            }
            #expect(partitions.map(\.replicaNodes) == [[3, 1], [2, 3], [1, 2]])
            #expect(partitions.map(\.leaderId) == [3, 2, 1])
        }
    }

    @Test("An assignment that cannot be is refused (CT-4)")
    func impossibleTopic() throws {
        let cluster = try TestCluster()
        let client = cluster.connect(to: 0)
        #expect(code(try client.create("t", on: [[1]], partitions: 1).errorCode) == .invalidRequest)
        #expect(code(try client.create("t", on: [[1]], replicas: 1).errorCode) == .invalidRequest)
        for brokers in [[[1, 1]], [[9]], [[1, 2], [3]], [[]]] as [[[Int32]]] {
            #expect(
                code(try client.create("t", on: brokers).errorCode) == .invalidReplicaAssignment
            )
        }
        let gap = try client.ask(
            CreateTopicsRequest(topics: [
                .init(
                    name: "t",
                    numPartitions: -1,
                    replicationFactor: -1,
                    assignments: [
                        .init(partitionIndex: 0, brokerIds: [1]),
                        .init(partitionIndex: 2, brokerIds: [1]),
                    ]
                )
            ]),
            version: 7
        )
        #expect(code(try only(gap.topics).errorCode) == .invalidReplicaAssignment)
        cluster.kill(2)
        cluster.advance(by: .seconds(2))
        #expect(code(try client.create("t", on: [[3]]).errorCode) == .invalidReplicaAssignment)
        #expect(code(try client.describe("t").errorCode) == .unknownTopicOrPartition)
    }

    @Test("New partitions lie where their creator wants them, or are refused (CP-1)")
    func explicitPartitions() throws {
        let cluster = try TestCluster()
        try cluster.connect(to: 0).createTopic(on: [[1, 2]])
        for place in try askers(of: cluster) {
            let client = cluster.connect(to: place)
            let count = Int32(try client.describe().partitions.count)
            #expect(try client.grow(to: count + 1, on: [[3, 2]]) == .noError)
            let grown = try client.describe().partitions.first { $0.partitionIndex == count }
            #expect(grown?.replicaNodes == [3, 2])
            #expect(grown?.leaderId == 3)
            #expect(try client.grow(to: count + 1, on: nil) == .invalidPartitions)
            #expect(try client.grow(to: count + 3, on: [[1, 2]]) == .invalidReplicaAssignment)
            #expect(try client.grow(to: count + 2, on: [[1]]) == .invalidReplicaAssignment)
            #expect(try client.grow(to: count + 2, on: [[1, 9]]) == .invalidReplicaAssignment)
            #expect(try client.grow("absent", to: 2, on: nil) == .unknownTopicOrPartition)
        }
    }

    // MARK: Reassignments

    @Test("A reassignment that cannot be is refused (ADM-2)")
    func refusedReassignments() throws {
        let cluster = try TestCluster()
        try cluster.connect(to: 0).createTopic(on: [[1, 2]])
        for place in try askers(of: cluster) {
            let client = cluster.connect(to: place)
            for brokers in [[], [1, 1], [-1], [9]] as [[Int32]] {
                #expect(try client.reassign(to: brokers) == .invalidReplicaAssignment)
            }
            #expect(try client.reassign("absent", to: [1]) == .unknownTopicOrPartition)
            #expect(try client.reassign("orders", 7, to: [1]) == .unknownTopicOrPartition)
            #expect(try client.reassign(to: nil) == .noReassignmentInProgress)
            #expect(
                try client.reassign(to: [1, 2, 3], allowsChange: false) == .invalidReplicationFactor
            )
            #expect(try client.reassignments().isEmpty)
        }
    }

    @Test("A second reassignment takes the place of the one under way (ADM-2)")
    func replacedReassignment() throws {
        let cluster = try TestCluster()
        try cluster.join()
        let topic = try cluster.connect(to: 0).createTopic(on: [[1, 2]])
        let client = cluster.connect(to: 0)
        cluster.isolate(3)
        #expect(try client.reassign(to: [4, 1]) == .noError)
        cluster.advance(by: .seconds(2))
        #expect(try client.reassignments(of: ["orders"]).count == 1)
        #expect(try client.reassignments(of: ["other"]).isEmpty)
        #expect(try client.reassign(to: [3, 1], version: 0) == .noError)
        #expect(cluster.wait { (try? client.reassignments().isEmpty) == true })
        #expect(try client.describe().partitions[0].replicaNodes == [3, 1])
        cluster.heal(3)
        #expect(cluster.wait { cluster.image().removedReplicas.isEmpty })
        #expect(cluster.partition(topic, at: 3) == nil)
    }

    // MARK: Leaders

    @Test("A preferred election brings leadership to the first replica, whoever is asked (ADM-1)")
    func preferredElection() throws {
        let cluster = try TestCluster(configs: [.init("auto.leader.rebalance.enable", "false")])
        let topic = try cluster.connect(to: 0).createTopic(on: [[1, 2, 3]])
        for place in 0..<3 {
            let client = cluster.connect(to: place)
            // Another order is another preferred leader, and no movement.
            let wanted = Int32((place + 1) % 3 + 1)
            let order = [wanted] + [1, 2, 3].filter { $0 != wanted }
            #expect(try client.reassign(to: order) == .noError)
            cluster.advance(by: .milliseconds(300))
            #expect(try client.elect(partitions: [0]) == [.noError])
            #expect(try client.describe().partitions[0].leaderId == wanted)
            #expect(cluster.leaders(topic) == [Int(wanted) - 1])
            #expect(try client.elect(partitions: [0]) == [.electionNotNeeded])
            #expect(try client.elect(partitions: nil) == [])
            #expect(try client.elect(partitions: [4]) == [.unknownTopicOrPartition])
        }
    }

    @Test("A preferred replica that is not there cannot be elected (ADM-1)")
    func absentPreferred() throws {
        let cluster = try TestCluster()
        let topic = try cluster.connect(to: 0).createTopic(on: [[1, 2, 3]])
        #expect(cluster.leaders(topic) == [0])
        cluster.kill(0)
        cluster.advance(by: .seconds(3))
        let client = cluster.connect(to: 1)
        #expect(try client.elect(partitions: [0]) == [.preferredLeaderNotAvailable])
        #expect(try client.elect(partitions: nil) == [.preferredLeaderNotAvailable])
    }

    @Test("An unclean election is never held (ADM-1)")
    func uncleanElection() throws {
        let cluster = try TestCluster()
        try cluster.connect(to: 0).createTopic(on: [[2, 3]])
        let client = cluster.connect(to: 0)
        #expect(try client.elect(partitions: [0], isUnclean: true) == [.electionNotNeeded])
        cluster.kill(1)
        cluster.advance(by: .seconds(3))
        #expect(
            try client.elect(partitions: [0], isUnclean: true) == [.eligibleLeadersNotAvailable]
        )
        #expect(try client.elect(partitions: [0]) == [.preferredLeaderNotAvailable])
    }

    // MARK: The metadata group

    @Test("Every broker describes the metadata group (ADM-6)")
    func describeQuorum() throws {
        let cluster = try TestCluster()
        try cluster.join()
        cluster.advance(by: .seconds(3))
        let controller = try #require(cluster.controller)
        for place in 0..<4 {
            let answer = try cluster.connect(to: place).describeQuorum()
            #expect(answer.errorCode == 0)
            #expect(answer.nodes.map(\.nodeId).sorted() == [1, 2, 3])
            let told = try only(only(answer.topics).partitions)
            #expect(told.leaderId == cluster.brokers[controller].id.rawValue)
            #expect(told.leaderEpoch > 0)
            #expect(told.currentVoters.map(\.replicaId).sorted() == [1, 2, 3])
            #expect(told.observers.map(\.replicaId) == [4])
            #expect(told.highWatermark > 1)
            #expect(told.currentVoters.allSatisfy { $0.logEndOffset == told.highWatermark })
        }
        let other = try cluster.connect(to: 0).describeQuorum(of: "orders")
        #expect(code(try only(only(other.topics).partitions).errorCode) == .unknownTopicOrPartition)
    }

    @Test("Members of a metadata group at rest are told as heard, those that do not answer are not")
    func describeQuorumAtRest() throws {
        let cluster = try TestCluster()
        cluster.advance(by: .seconds(60))
        let controller = try #require(cluster.controller)
        let client = cluster.connect(to: controller)
        var silences = try silences(client)
        #expect(silences.count == 3 && silences.values.allSatisfy { $0 <= 1_000 })
        let other = (controller + 1) % 3
        cluster.kill(other)
        cluster.advance(by: .seconds(20))
        silences = try self.silences(client)
        for place in 0..<3 {
            let silence = try #require(silences[cluster.brokers[place].id.rawValue])
            #expect(place == other ? silence >= 15_000 : silence <= 1_000)
        }
    }

    @Test(
        "What a member has of which a new leader never heard is not known, and told as -1 (ADM-6)"
    )
    func describeUnheardMember() throws {
        let cluster = try TestCluster()
        let first = try #require(cluster.controller)
        cluster.kill(first)
        cluster.advance(by: .seconds(3))
        let controller = try #require(cluster.controller)
        let answer = try cluster.connect(to: controller).describeQuorum()
        let told = try only(only(answer.topics).partitions)
        #expect(told.leaderId == cluster.brokers[controller].id.rawValue)
        for voter in told.currentVoters {
            let isDead = voter.replicaId == cluster.brokers[first].id.rawValue
            #expect(voter.logEndOffset == (isDead ? -1 : told.highWatermark))
            #expect((voter.lastCaughtUpTimestamp == -1) == isDead)
        }
    }

    @Test("That nobody leads the metadata is told within a second or so, and not waited for")
    func describeLeaderlessQuorum() throws {
        let cluster = try TestCluster()
        let controller = try #require(cluster.controller)
        cluster.kill(controller)
        cluster.kill((controller + 1) % 3)
        cluster.advance(by: .seconds(5))
        let begin = cluster.clock.now
        let answer = try cluster.connect(to: (controller + 2) % 3).describeQuorum()
        #expect(code(answer.errorCode) == .notLeaderOrFollower)
        #expect(cluster.clock.now - begin <= .milliseconds(1_500))
    }

    @Test(
        "A change of the metadata waits for a leader as long as the client says, and ten seconds at most"
    )
    func commandPatience() throws {
        let cluster = try TestCluster()
        let controller = try #require(cluster.controller)
        cluster.kill(controller)
        cluster.kill((controller + 1) % 3)
        cluster.advance(by: .seconds(5))
        let client = cluster.connect(to: (controller + 2) % 3)
        for (millis, expected) in [(1_500, 1_500), (60_000, 10_000), (0, 10_000)] as [(Int32, Int)]
        {
            let begin = cluster.clock.now
            let answer = try client.ask(
                CreateTopicsRequest(
                    topics: [.init(name: "t", numPartitions: 1, replicationFactor: 1)],
                    timeoutMs: millis
                ),
                version: 7
            )
            #expect(try code(only(answer.topics).errorCode) == .requestTimedOut)
            let taken = cluster.clock.now - begin
            #expect(taken >= .milliseconds(expected) && taken <= .milliseconds(expected + 500))
        }
    }

    @Test("Brokers that do not answer are named as fenced to whoever asks for them (KIP-1073)")
    func describeFencedBrokers() throws {
        let cluster = try TestCluster()
        let client = cluster.connect(to: 0)
        cluster.kill(2)
        cluster.advance(by: .seconds(10))
        func ask(_ isWithFenced: Bool) throws -> [Int32: Bool] {
            let request = DescribeClusterRequest(
                endpointType: 1,
                includeFencedBrokers: isWithFenced
            )
            let answer = try client.ask(request, version: 2)
            return Dictionary(
                uniqueKeysWithValues: answer.brokers.map { ($0.brokerId, $0.isFenced) }
            )
        }
        #expect(try ask(false) == [1: false, 2: false])
        #expect(try ask(true) == [1: false, 2: false, 3: true])
    }

    /// Since when each voter of the metadata's group is silent, in milliseconds before the last that was heard.
    private func silences(_ client: TestClient) throws -> [Int32: Int64] {
        let told = try only(only(try client.describeQuorum().topics).partitions)
        let newest = told.currentVoters.map(\.lastFetchTimestamp).max() ?? 0
        return Dictionary(
            uniqueKeysWithValues: told.currentVoters.map {
                ($0.replicaId, newest - $0.lastFetchTimestamp)
            }
        )
    }

    @Test("Brokers that join learn the metadata, with five of them there are five voters")
    func metadataGroup() throws {
        let cluster = try TestCluster()
        try cluster.join(through: 1)
        try cluster.join(through: 2)
        #expect(cluster.wait { (try? self.voters(in: cluster)) == [1, 2, 3, 4, 5] })
        // Two of five may go now.
        cluster.kill(0)
        cluster.kill(1)
        cluster.advance(by: .seconds(5))
        try cluster.connect(to: 4).createTopic("after", on: [[4, 5]])
        #expect(try cluster.connect(to: 3).describe("after").partitions[0].leaderId == 4)
    }

    private func voters(in cluster: TestCluster) throws -> [Int32] {
        let place = try #require(cluster.controller)
        let answer = try cluster.connect(to: place).describeQuorum()
        return try only(only(answer.topics).partitions).currentVoters.map(\.replicaId).sorted()
    }

    @Test(
        "A broker that is unregistered leaves the metadata group, and another takes its vote (ADM-9)"
    )
    func unregisterBroker() throws {
        let cluster = try TestCluster()
        try cluster.join()
        cluster.advance(by: .seconds(2))
        try cluster.connect(to: 0).createTopic(on: [[3]])
        let controller = try #require(cluster.controller)
        let client = cluster.connect(to: (controller + 1) % 3)
        #expect(try client.unregister(9) == .brokerIdNotRegistered)
        #expect(try client.unregister(3) == .policyViolation)
        #expect(try client.reassign(to: [1]) == .noError)
        #expect(cluster.wait { (try? client.reassignments().isEmpty) == true })
        cluster.advance(by: .seconds(6))
        #expect(try client.unregister(3) == .noError)
        let rest = controller == 2 ? 0 : controller
        #expect(cluster.wait { (try? self.voters(in: cluster)) == [1, 2, 4] })
        #expect(cluster.image(at: rest).brokers.map(\.key.rawValue) == [1, 2, 4])
        cluster.advance(by: .seconds(5))
        // It runs on, and does not come back by itself.
        #expect(cluster.image(at: rest).brokers.map(\.key.rawValue) == [1, 2, 4])
    }

    @Test("Where the metadata group would lose its quorum no broker is unregistered (ADM-9)")
    func lastQuorum() throws {
        let cluster = try TestCluster()
        let controller = try #require(cluster.controller)
        let dead = (controller + 1) % 3
        cluster.kill(dead)
        cluster.advance(by: .seconds(2))
        let client = cluster.connect(to: controller)
        let other = Int32((controller + 2) % 3 + 1)
        #expect(try client.unregister(other) == .policyViolation)
        #expect(try client.unregister(Int32(dead + 1)) == .noError)
    }

    // MARK: Features

    @Test("The feature level rises to what the program knows, and never falls (ADM-7)")
    func features() throws {
        let cluster = try TestCluster()
        for place in try askers(of: cluster) {
            let client = cluster.connect(to: place)
            #expect(try client.updateFeature(level: 99) == .invalidUpdateVersion)
            #expect(try client.updateFeature("nothing", level: 1) == .invalidUpdateVersion)
            #expect(try client.updateFeature(level: 1, validateOnly: true) == .noError)
            #expect(try client.updateFeature(level: 1, version: 0) == .noError)
            #expect(try client.updateFeature(level: 1) == .noError)
            #expect(try client.updateFeature(level: 0) == .invalidUpdateVersion)
        }
        cluster.advance(by: .seconds(1))
        #expect(cluster.image(at: 0).featureLevel == 1)
    }
}

extension TestClient {
    /// Adds partitions.
    func grow(_ name: String = topic, to count: Int32, on brokers: [[Int32]]?) throws -> ErrorCode?
    {
        let answer = try ask(
            CreatePartitionsRequest(topics: [
                .init(
                    name: name,
                    count: count,
                    assignments: brokers.map { $0.map { .init(brokerIds: $0) } }
                )
            ]),
            version: 3
        )
        return code(try only(answer.results).errorCode)
    }

    /// Asks for elections of one topic, or with nil of all partitions.
    func elect(
        _ name: String = topic,
        partitions: [Int32]?,
        isUnclean: Bool = false
    ) throws -> [ErrorCode?] {
        let answer = try ask(
            ElectLeadersRequest(
                electionType: isUnclean ? 1 : 0,
                topicPartitions: partitions.map { [.init(topic: name, partitions: $0)] }
            ),
            version: 2
        )
        return answer.replicaElectionResults.flatMap(\.partitionResult).map { code($0.errorCode) }
    }

    /// Describes a Raft group as Kafka's tools do.
    func describeQuorum(of name: String = "__cluster_metadata") throws -> DescribeQuorumResponse {
        try ask(
            DescribeQuorumRequest(topics: [
                .init(topicName: name, partitions: [.init(partitionIndex: 0)])
            ]),
            version: 2
        )
    }

    /// Takes a broker out of the cluster.
    func unregister(_ broker: Int32) throws -> ErrorCode? {
        code(try ask(UnregisterBrokerRequest(brokerId: broker), version: 0).errorCode)
    }

    /// Sets the level of a feature.
    func updateFeature(
        _ name: String = "metadata.version",
        level: Int16,
        validateOnly: Bool = false,
        version: Int16 = 2
    ) throws -> ErrorCode? {
        let answer = try ask(
            UpdateFeaturesRequest(
                featureUpdates: [.init(feature: name, maxVersionLevel: level)],
                validateOnly: validateOnly
            ),
            version: version
        )
        return code(version <= 1 ? try only(answer.results).errorCode : answer.errorCode)
    }
}
