@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRaft
import FlotillaReplication
import FlotillaStorage
import FlotillaSimulation
import Testing

@Suite("Partitions that move")
struct MovementTests {
    /// A cluster of three and one that came later, and a topic with one partition on the first three.
    private func start(_ brokers: [Int32] = [1, 2, 3]) throws -> (TestCluster, TopicID) {
        let cluster = try TestCluster()
        try cluster.join()
        let topic = try cluster.connect(to: 0).createTopic(on: [brokers])
        return (cluster, topic)
    }

    private func settled(_ topic: TopicID, in cluster: TestCluster) -> Bool {
        let image = cluster.image(at: cluster.controller ?? 0)
        let place = image.place(of: TopicPartition(topic: topic, partition: 0))
        return place?.isMoving == false && image.removedReplicas.isEmpty
    }

    /// The values of the whole partition, read at its leader.
    private func values(_ topic: TopicID, in cluster: TestCluster) throws -> [String] {
        let leader = try #require(cluster.leaders(topic).first)
        return try cluster.connect(to: leader).read().sorted { $0.key < $1.key }.map(\.value)
    }

    @Test("A reassigned partition has its new replicas, all records, and no data where it was")
    func reassignment() throws {
        let (cluster, topic) = try start()
        let leader = try #require(cluster.leaders(topic).first)
        let client = cluster.connect(to: leader)
        for number in 0..<20 { try client.produce(Batches.batch("\(number)")) }
        #expect(try client.reassign(to: [4, 2, 3]) == .noError)
        #expect(cluster.wait { settled(topic, in: cluster) })
        let told = try cluster.connect(to: 1).describe().partitions[0]
        #expect(told.replicaNodes == [4, 2, 3])
        #expect(cluster.partition(topic, at: 0) == nil)
        #expect(cluster.partition(topic, at: 3) != nil)
        let replica = try #require(cluster.partition(topic, at: cluster.leaders(topic)[0])?.replica)
        #expect(replica.membership.voters.map(\.broker.rawValue) == [2, 3, 4])
        #expect(replica.membership.learners.isEmpty)
        #expect(try cluster.brokers[0].holds(topic) == false)
        #expect(try values(topic, in: cluster) == (0..<20).map { "\($0)" })
        // Two of the three now suffice, and the newcomer is one of them.
        cluster.kill(1)
        cluster.advance(by: .seconds(4))
        #expect(try values(topic, in: cluster) == (0..<20).map { "\($0)" })
    }

    @Test("A partition leaves the broker that leads it, and comes back as another member")
    func awayAndBack() throws {
        let (cluster, topic) = try start()
        let first = try #require(cluster.leaders(topic).first)
        let others = [0, 1, 2, 3].filter { $0 != first }.map { Int32($0 + 1) }
        let client = cluster.connect(to: (first + 1) % 4)
        try cluster.connect(to: first).produce(Batches.batch("before"))
        let before = try #require(cluster.partition(topic, at: first)?.replica.member)
        #expect(try client.reassign(to: others) == .noError)
        #expect(cluster.wait { settled(topic, in: cluster) && cluster.leaders(topic).count == 1 })
        #expect(cluster.leaders(topic) != [first])
        #expect(try cluster.brokers[first].holds(topic) == false)
        #expect(try client.reassign(to: [Int32(first + 1)] + others.dropFirst()) == .noError)
        #expect(cluster.wait { settled(topic, in: cluster) })
        let after = try #require(cluster.partition(topic, at: first)?.replica.member)
        #expect(after.broker == before.broker)
        #expect(after.epoch > before.epoch)
        #expect(try values(topic, in: cluster) == ["before"])
    }

    @Test(
        "While the newcomer is away the partition is listed as moving, and cancelling restores it"
    )
    func cancelling() throws {
        let (cluster, topic) = try start()
        let client = cluster.connect(to: 0)
        cluster.isolate(3)
        #expect(try client.reassign(to: [4, 1, 2]) == .noError)
        cluster.advance(by: .seconds(3))
        let listed = try only(client.reassignments())
        #expect(listed.replicas == [4, 1, 2, 3])
        #expect(listed.addingReplicas == [4])
        #expect(listed.removingReplicas == [3])
        #expect(try cluster.connect(to: 1).describe().partitions[0].isrNodes.contains(4) == false)
        #expect(try client.reassign(to: nil) == .noError)
        #expect(cluster.wait { (try? client.reassignments().isEmpty) == true })
        #expect(try client.describe().partitions[0].replicaNodes == [1, 2, 3])
        #expect(try client.reassign(to: nil) == .noReassignmentInProgress)
        // The replica that never came is to be deleted, and its broker confirms when it is back.
        #expect(!cluster.image().removedReplicas.isEmpty)
        cluster.heal(3)
        #expect(cluster.wait { settled(topic, in: cluster) })
        #expect(try cluster.brokers[3].holds(topic) == false)
    }

    @Test("A new leader goes on with the movement that the one before it began")
    func newLeader() throws {
        let (cluster, topic) = try start()
        let leader = try #require(cluster.leaders(topic).first)
        let other = (leader + 1) % 3
        try cluster.connect(to: leader).produce(Batches.batch("kept"))
        cluster.isolate(3)
        let kept = [0, 1, 2].filter { $0 != leader }.map { Int32($0 + 1) }
        #expect(try cluster.connect(to: other).reassign(to: [4] + kept) == .noError)
        cluster.advance(by: .seconds(2))
        cluster.kill(leader)
        cluster.advance(by: .seconds(3))
        cluster.heal(3)
        #expect(cluster.wait { cluster.image(at: other).movingPartitionCount == 0 })
        #expect(try values(topic, in: cluster) == ["kept"])
        // The killed broker finds out that its replica is none any more.
        try cluster.restart(leader)
        #expect(cluster.wait { settled(topic, in: cluster) })
        #expect(try cluster.brokers[leader].holds(topic) == false)
    }

    @Test(
        "A new leader that has missed the cancelling gives no vote to a replica that is being deleted"
    )
    func staleLeader() throws {
        let (cluster, topic) = try start()
        let leader = try #require(cluster.leaders(topic).first)
        let controller = try #require(cluster.controller)
        // Neither the leader nor the controller; it hears of the movement, and not that it is cancelled.
        let stale = try #require([0, 1, 2].first { $0 != leader && $0 != controller })
        let third = try #require([0, 1, 2].first { $0 != leader && $0 != stale })
        let client = cluster.connect(to: third)
        cluster.isolate(3)
        #expect(try client.reassign(to: [4, 1, 2, 3]) == .noError)
        cluster.advance(by: .seconds(1))
        #expect(cluster.image(at: stale).movingPartitionCount == 1)
        cluster.cutOffFromMetadata = stale
        #expect(try client.reassign(to: nil) == .noError)
        // The group keeps no learner that nobody wants, and the controller hears of it.
        #expect(cluster.wait { cluster.image(at: third).movingPartitionCount == 0 })
        #expect(cluster.image(at: stale).movingPartitionCount == 1)
        let member = try #require(cluster.partition(topic, at: leader)).replica
        var isHandedOver = false
        let heir = try #require(cluster.partition(topic, at: stale)?.replica.member)
        member.transferLeadership(to: heir) { result in
            if case .success = result { isHandedOver = true }
        }
        cluster.heal(3)
        cluster.advance(by: .seconds(5))
        #expect(isHandedOver)
        #expect(cluster.leaders(topic) == [stale])
        let replica = try #require(cluster.partition(topic, at: stale)?.replica)
        #expect(replica.membership.allMembers.map(\.broker.rawValue) == [1, 2, 3])
        cluster.cutOffFromMetadata = nil
        #expect(cluster.wait { settled(topic, in: cluster) })
        #expect(try cluster.brokers[3].holds(topic) == false)
    }

    @Test("A partition that gets more replicas takes records before and after")
    func growth() throws {
        let (cluster, topic) = try start([1])
        let client = cluster.connect(to: 0)
        #expect(try client.produce(Batches.batch("before")).error == .noError)
        #expect(try client.reassign(to: [1, 2, 3]) == .noError)
        #expect(cluster.wait { settled(topic, in: cluster) })
        #expect(try client.produce(Batches.batch("after")).error == .noError)
        cluster.kill(0)
        cluster.advance(by: .seconds(4))
        #expect(try values(topic, in: cluster) == ["before", "after"])
    }

    @Test("A deletion is told again to the controller's next leader, which knows nothing of it")
    func confirmations() throws {
        let cluster = try TestCluster()
        let topic = try cluster.connect(to: 0).createTopic(partitions: 2, replicas: 3)
        cluster.advance(by: .seconds(1))
        let controller = try #require(cluster.controller)
        let slow = (controller + 1) % 3
        // On one broker one of the two replicas is gone, and the other not yet.
        let shards = (0..<2).map { number in
            cluster.brokers[slow].shards.firstIndex {
                $0.partition(TopicPartition(topic: topic, partition: Int32(number))) != nil
            }
        }
        #expect(shards[0] != shards[1])
        let held = try #require(shards[1])
        cluster.brokers[slow].environments[held].testWorkers.isHeld = true
        _ = try cluster.connect(to: (controller + 2) % 3).ask(
            DeleteTopicsRequest(topics: [.init(name: "orders")]),
            version: 6
        )
        cluster.advance(by: .seconds(1))
        #expect(cluster.image(at: slow).deletedTopics.count == 1)
        cluster.kill(controller)
        cluster.advance(by: .seconds(3))
        #expect(cluster.controller != controller)
        #expect(
            cluster.image(at: slow).deletedTopics[topic]?.unconfirmedBrokers
                == [cluster.brokers[slow].id]
        )
        cluster.brokers[slow].environments[held].testWorkers.isHeld = false
        #expect(cluster.wait { cluster.image(at: slow).deletedTopics.isEmpty })
        #expect(try cluster.brokers[slow].holds(topic) == false)
    }

    @Test(
        "A broker that starts with metadata from before it deleted a replica deletes it again (simulator, seed 239 of its time)",
        arguments: [true, false]
    )
    func deletedBefore(isTopicDeleted: Bool) throws {
        let (cluster, topic) = try start()
        let controller = try #require(cluster.controller)
        let place = try #require([0, 1, 2].first { $0 != controller })
        let client = cluster.connect(to: controller)
        try cluster.connect(to: try #require(cluster.leaders(topic).first))
            .produce(Batches.batch("once"))
        cluster.advance(by: .seconds(1))
        let before = cluster.brokers[place].disk.copy()
        if isTopicDeleted {
            _ = try client.ask(
                DeleteTopicsRequest(topics: [.init(name: "orders")]),
                version: 6
            )
            #expect(cluster.wait { cluster.image(at: place).deletedTopics.isEmpty })
        } else {
            let others = [0, 1, 2, 3].filter { $0 != place }.map { Int32($0 + 1) }
            #expect(try client.reassign(to: others) == .noError)
            #expect(cluster.wait { settled(topic, in: cluster) })
        }
        #expect(try cluster.brokers[place].holds(topic) == false)
        cluster.kill(place)
        cluster.isolate(place)
        try cluster.rollBack(place, to: before)
        #expect(cluster.partition(topic, at: place) != nil, "it knows of nothing yet")
        cluster.heal(place)
        cluster.advance(by: .seconds(2))
        #expect(cluster.partition(topic, at: place) == nil)
        #expect(try cluster.brokers[place].holds(topic) == false)
    }

    @Test(
        "A replica that was deleted is not made anew by who starts with metadata from before (simulator, seed 200474 of its time)"
    )
    func notMadeAnew() throws {
        let (cluster, topic) = try start()
        let controller = try #require(cluster.controller)
        let place = try #require([0, 1, 2].first { $0 != controller })
        let leader = try #require(cluster.leaders(topic).first)
        try cluster.connect(to: leader).produce(Batches.batch("once"))
        cluster.advance(by: .seconds(2))
        let broker = cluster.brokers[place]
        let id = TopicPartition(topic: topic, partition: 0)
        #expect(try broker.holds(topic))
        // The disk as a power cut would leave it, when the replica is gone and nobody has been told: the deletion lies in the
        // metadata's log, and nothing on the disk says that it is committed.
        var disk: MemoryDisk?
        cluster.onStep = {
            guard disk == nil, (try? broker.holds(topic)) == false,
                !broker.journal.knownGroups.contains(where: { $0.partition == id })
            else { return }
            disk = broker.disk.copy()
        }
        let others = [0, 1, 2, 3].filter { $0 != place }.map { Int32($0 + 1) }
        #expect(try cluster.connect(to: controller).reassign(to: others) == .noError)
        #expect(cluster.wait { settled(topic, in: cluster) })
        cluster.onStep = nil
        let found = try #require(disk)
        found.crash(.dropUnsynced)
        cluster.kill(place)
        cluster.isolate(place)
        try cluster.rollBack(place, to: found)
        cluster.advance(by: .seconds(5))
        #expect(
            cluster.image(at: place).place(of: id)?.replica(on: broker.id) != nil,
            "by what it knows the replica is its own"
        )
        #expect(cluster.partition(topic, at: place) == nil)
        cluster.heal(place)
        cluster.advance(by: .seconds(2))
        #expect(cluster.partition(topic, at: place) == nil)
        #expect(try cluster.brokers[place].holds(topic) == false)
    }

    @Test("A replica is deleted only when the disk knows that it is to be")
    func durableRemoval() throws {
        let (cluster, topic) = try start()
        let controller = try #require(cluster.controller)
        let leaving = try #require([0, 1, 2].first { $0 != controller })
        let others = [0, 1, 2, 3].filter { $0 != leaving }.map { Int32($0 + 1) }
        let client = cluster.connect(to: controller)
        #expect(try client.reassign(to: others) == .noError)
        // The others are enough for all that follows.
        cluster.brokers[leaving].isJournalHeld = true
        #expect(cluster.wait { cluster.image(at: controller).movingPartitionCount == 0 })
        cluster.advance(by: .seconds(3))
        #expect(try cluster.brokers[leaving].holds(topic))
        cluster.brokers[leaving].isJournalHeld = false
        #expect(cluster.wait { settled(topic, in: cluster) })
        #expect(try cluster.brokers[leaving].holds(topic) == false)
    }

    @Test("A broker that lost its disk gets new members, catches up and counts again")
    func wipedBroker() throws {
        let cluster = try TestCluster()
        let topic = try cluster.connect(to: 0).createTopic(partitions: 1, replicas: 3)
        let leader = try #require(cluster.leaders(topic).first)
        let victim = (leader + 1) % 3
        let client = cluster.connect(to: leader)
        for number in 0..<5 { try client.produce(Batches.batch("\(number)")) }
        let before = try #require(cluster.partition(topic, at: victim)?.replica.member)
        cluster.kill(victim)
        cluster.advance(by: .seconds(2))
        try cluster.wipe(victim, through: leader)
        #expect(cluster.wait { cluster.image(at: leader).movingPartitionCount == 0 })
        let after = try #require(cluster.partition(topic, at: victim)?.replica)
        #expect(after.member.epoch > before.epoch)
        #expect(cluster.wait { after.log.logEndOffset == Offset(5) })
        #expect(
            cluster.partition(topic, at: leader)?.replica.membership.voters.contains(before)
                == false
        )
        // The metadata's group has its new member too.
        let life = try #require(
            cluster.image(at: leader).metadataMembers[cluster.brokers[victim].id]
        )
        #expect(
            cluster.wait {
                guard let controller = cluster.controller else { return false }
                let group = cluster.brokers[controller].shards[0].metadata?.replica.membership
                return group?.voters.map(\.epoch).contains(life.epoch) == true
                    && group?.voters.count == 3
            }
        )
        // Without one of the others there is a quorum only if the new member has a vote.
        let third = [0, 1, 2].first { $0 != leader && $0 != victim } ?? 0
        cluster.kill(third)
        cluster.advance(by: .seconds(4))
        #expect(try values(topic, in: cluster) == (0..<5).map { "\($0)" })
        let answer = try cluster.connect(to: try #require(cluster.leaders(topic).first))
            .produce(Batches.batch("5"))
        #expect(answer.error == .noError)
    }

    @Test(
        "A broker that lost its disk never takes up a member of its former life, though the metadata that it reads once named it (bug 13)"
    )
    func formerLife() throws {
        let cluster = try TestCluster()
        let client = cluster.connect(to: 0)
        let topic = try client.createTopic(partitions: 1, replicas: 3)
        let leader = try #require(cluster.leaders(topic).first)
        let victim = (leader + 1) % 3
        try client.produce(Batches.batch("a"))
        let before = try #require(cluster.partition(topic, at: victim)?.replica.member)
        // So much that it is read in parts, the first of which are from before the loss.
        for number in 0..<1_100 {
            let change = IncrementalAlterConfigsRequest(resources: [
                .init(
                    resourceType: 2,
                    resourceName: TestClient.topic,
                    configs: [
                        .init(
                            name: "retention.ms",
                            configOperation: 0,
                            value: "\(100_000_000 + number)"
                        )
                    ]
                )
            ])
            let answer = try client.ask(change, version: 1)
            try #require(answer.responses.allSatisfy { $0.errorCode == 0 })
        }
        let former = cluster.brokers[victim].incarnation
        cluster.kill(victim)
        cluster.advance(by: .seconds(2))
        var members: Set<GroupMember> = []
        cluster.onStep = {
            guard cluster.brokers[victim].incarnation != former,
                let replica = cluster.partition(topic, at: victim)?.replica
            else { return }
            members.insert(replica.member)
        }
        try cluster.wipe(victim, through: leader)
        #expect(cluster.wait { cluster.image(at: leader).movingPartitionCount == 0 })
        #expect(!members.isEmpty && members.allSatisfy { $0.epoch > before.epoch })
    }
}

extension TestClient {
    /// Creates a topic whose partitions lie on these brokers.
    @discardableResult
    func createTopic(_ name: String = topic, on brokers: [[Int32]]) throws -> TopicID {
        let answer = try create(name, on: brokers)
        guard answer.errorCode == 0 else {
            throw TestFailure("\(name): \(answer.errorCode) \(answer.errorMessage ?? "")")
        }
        return answer.topicId
    }

    /// What comes of creating a topic on these brokers.
    func create(
        _ name: String,
        on brokers: [[Int32]],
        partitions: Int32 = -1,
        replicas: Int16 = -1
    ) throws -> CreateTopicsResponse.CreatableTopicResult {
        let answer = try ask(
            CreateTopicsRequest(topics: [
                .init(
                    name: name,
                    numPartitions: partitions,
                    replicationFactor: replicas,
                    assignments: brokers.enumerated().map {
                        .init(partitionIndex: Int32($0.offset), brokerIds: $0.element)
                    }
                )
            ]),
            version: 7
        )
        return try only(answer.topics)
    }

    /// Asks for other brokers for a partition, or cancels.
    func reassign(
        _ name: String = topic,
        _ partition: Int32 = 0,
        to brokers: [Int32]?,
        allowsChange: Bool = true,
        version: Int16 = 1
    ) throws -> ErrorCode? {
        let answer = try ask(
            AlterPartitionReassignmentsRequest(
                allowReplicationFactorChange: allowsChange,
                topics: [
                    .init(
                        name: name,
                        partitions: [.init(partitionIndex: partition, replicas: brokers)]
                    )
                ]
            ),
            version: version
        )
        guard answer.errorCode == 0 else { return code(answer.errorCode) }
        return code(try only(only(answer.responses).partitions).errorCode)
    }

    /// The partitions that are moving.
    func reassignments(
        of topics: [String]? = nil
    ) throws -> [ListPartitionReassignmentsResponse.OngoingPartitionReassignment] {
        let answer = try ask(
            ListPartitionReassignmentsRequest(
                topics: topics.map { $0.map { .init(name: $0, partitionIndexes: [0]) } }
            ),
            version: 0
        )
        return answer.topics.flatMap(\.partitions)
    }
}

extension TestBroker {
    /// Whether a directory of the topic lies on the disk.
    func holds(_ topic: TopicID) throws -> Bool {
        try disk.list("\(Self.directory)/partitions").contains {
            $0.hasPrefix(topic.description)
        }
    }
}
