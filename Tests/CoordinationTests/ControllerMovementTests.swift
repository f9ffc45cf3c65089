@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import Testing

@Suite("Movements")
struct ControllerMovementTests {
    private func cluster(_ brokers: [[BrokerID]] = [[1, 2, 3]]) throws -> LeadingController {
        let leader = try LeadingController(brokerCount: 6)
        _ = try leader.topic("a", on: brokers)
        return leader
    }

    @Test("A reassignment says who comes and who goes, and those who stay are the same members")
    func begin() throws {
        let leader = try cluster()
        let before = try leader.place("a")
        #expect(try leader.reassign("a", to: [4, 2, 1]) == nil)
        let place = try leader.place("a")
        #expect(place.brokers == [4, 2, 1] && place.isMoving && place.isCancellable)
        #expect(place.adding == [place.replicas[0]] && place.removing == [before.replicas[2]])
        #expect(place.replicas[1] == before.replicas[1] && place.replicas[2] == before.replicas[0])
        #expect(leader.image.movingPartitionCount == 1)
        #expect(leader.image.replicas(on: 3).count == 1, "who goes holds data until the end")
        #expect(leader.image.replicasToDelete(on: 3).isEmpty)
    }

    @Test(
        "When the leader says that it is done, what left the group is deleted, and confirmed, and only then"
    )
    func finish() throws {
        let leader = try cluster()
        let old = try #require(try leader.place("a").replica(on: 3))
        try leader.reassign("a", to: [1, 2, 4])
        #expect(try leader.finish("a"))
        #expect(try !leader.place("a").isMoving && leader.image.replicas(on: 3).isEmpty)
        #expect(leader.image.replicasToDelete(on: 3).map(\.epoch) == [old.epoch])
        let id = try #require(leader.image.topic(named: "a")?.id)
        let removed = RemovedReplica(
            member: old,
            partition: TopicPartition(topic: id, partition: 0)
        )
        try leader.run { try $0.confirmReplicaRemoval(removed) }
        #expect(leader.image.replicasToDelete(on: 3).isEmpty)
        #expect(try leader.controller.confirmReplicaRemoval(removed).records.isEmpty)
    }

    @Test("A report about an older wish ends nothing, also when the wish is the same again")
    func staleReport() throws {
        let leader = try cluster()
        try leader.reassign("a", to: [1, 2, 4])
        let first = try leader.place("a").revision
        try leader.reassign("a", to: nil)
        try leader.reassign("a", to: [1, 2, 4])
        #expect(try !leader.finish("a", revision: first))
        #expect(try leader.place("a").isMoving)
        #expect(try leader.finish("a"))
        #expect(try !leader.finish("a"), "a second report ends nothing")
    }

    @Test("A replica that comes back to a broker after it was removed is another member (bug 13)")
    func returning() throws {
        let leader = try cluster()
        let before = try #require(try leader.place("a").replica(on: 3))
        try leader.reassign("a", to: [1, 2])
        try leader.finish("a")
        try leader.reassign("a", to: [1, 2, 3])
        let after = try #require(try leader.place("a").replica(on: 3))
        #expect(after.epoch > before.epoch)
        #expect(
            leader.image.replicasToDelete(on: 3).map(\.epoch) == [before.epoch],
            "the old one still goes"
        )
        #expect(try leader.place("a").initialVoters(for: after).isEmpty)
    }

    @Test(
        "Cancelling leads back to the members and the order before, whatever was asked in between"
    )
    func cancel() throws {
        let leader = try cluster()
        let before = try leader.place("a")
        try leader.reassign("a", to: [4, 5, 1])
        try leader.reassign("a", to: [6, 5])
        let middle = try leader.place("a")
        #expect(middle.previous == before.replicas)
        #expect(Set(middle.removing.map(\.broker)) == [1, 2, 3, 4])
        #expect(try leader.reassign("a", to: nil) == nil)
        let place = try leader.place("a")
        #expect(place.replicas == before.replicas && place.isMoving && !place.isCancellable)
        #expect(Set(place.removing.map(\.broker)) == [4, 5, 6])
        #expect(place.adding == before.replicas, "all of them may have left the group already")
        #expect(try leader.reassign("a", to: nil) == .noReassignmentInProgress)
        try leader.finish("a")
        #expect(try leader.place("a").replicas == before.replicas)
        #expect(leader.image.removedReplicas.count == 3)
    }

    @Test(
        "A founding member that comes late begins with all founders, whatever has moved since; nobody else does"
    )
    func founders() throws {
        let leader = try cluster()
        let founders = try leader.place("a").replicas
        try leader.reassign("a", to: [4, 2, 3])
        try leader.finish("a")
        let place = try leader.place("a")
        #expect(place.initialVoters(for: founders[2]) == founders)
        #expect(place.initialVoters(for: place.replicas[0]).isEmpty)
        let local = try #require(leader.image.replicas(on: 3).first)
        #expect(local.members == founders)
        #expect(leader.image.replicas(on: 4).first?.members == [])
    }

    @Test(
        "Another order of the same brokers is no movement, and asking for what is changes nothing"
    )
    func reorder() throws {
        let leader = try cluster()
        try leader.reassign("a", to: [3, 1, 2])
        let place = try leader.place("a")
        #expect(place.brokers == [3, 1, 2] && !place.isMoving && place.revision == 0)
        let logged = leader.log.count
        #expect(try leader.reassign("a", to: [3, 1, 2]) == nil)
        #expect(leader.log.count == logged)
    }

    @Test(
        "A reassignment that cannot be is refused (ADM-2)",
        arguments: [
            ("b", 0, [1], .unknownTopicOrPartition), ("a", 1, [1], .unknownTopicOrPartition),
            ("a", -1, [1], .unknownTopicOrPartition), ("a", 0, [], .invalidReplicaAssignment),
            ("a", 0, [1, 1], .invalidReplicaAssignment),
            ("a", 0, [1, 9], .invalidReplicaAssignment),
            ("a", 0, [-1], .invalidReplicaAssignment), ("a", 0, nil, .noReassignmentInProgress),
        ] as [(String, Int32, [BrokerID]?, ErrorCode)]
    )
    func refused(topic: String, partition: Int32, brokers: [BrokerID]?, code: ErrorCode) throws {
        let leader = try cluster()
        #expect(try leader.reassign(topic, partition, to: brokers) == code)
    }

    @Test("One bad partition does not stop the others, one that comes twice is refused both times")
    func several() throws {
        let leader = try cluster([[1, 2, 3], [1, 2, 3], [1, 2, 3]])
        let requests = [(0, [1, 2, 4]), (1, [1, 1]), (2, [4, 5, 6]), (2, [1])].map {
            ReassignmentRequest(
                topic: "a",
                partition: Int32($0.0),
                brokers: $0.1.map { BrokerID($0) }
            )
        }
        let outcomes = try leader.run { try $0.alterReassignments(requests) }
        #expect(
            outcomes.map(\.refusal) == [
                nil, .invalidReplicaAssignment, .invalidRequest, .invalidRequest,
            ]
        )
        #expect(try leader.place("a", 0).isMoving && !leader.place("a", 2).isMoving)
    }

    @Test("Another number of replicas needs leave; during a movement the number before it counts")
    func replicationFactor() throws {
        let leader = try cluster()
        let fewer = ReassignmentRequest(topic: "a", partition: 0, brokers: [1, 2])
        let same = ReassignmentRequest(topic: "a", partition: 0, brokers: [4, 5, 6])
        #expect(
            try leader.run {
                try $0.alterReassignments([fewer], allowsReplicationFactorChange: false)
            }
            .map(\.refusal) == [.invalidReplicationFactor]
        )
        try leader.run { try $0.alterReassignments([fewer]) }
        #expect(
            try leader.run {
                try $0.alterReassignments([same], allowsReplicationFactorChange: false)
            }
            .map(\.refusal) == [nil]
        )
    }

    @Test(
        "A member whose promises are lost is replaced on its own broker, and its remains are deleted (bugs 2, 13)"
    )
    func renewed() throws {
        let leader = try cluster()
        let old = try #require(try leader.place("a").replica(on: 2))
        let id = TopicPartition(
            topic: try #require(leader.image.topic(named: "a")?.id),
            partition: 0
        )
        let fresh = try #require(try leader.run { try $0.renewReplica(old, of: id) }[0])
        let place = try leader.place("a")
        #expect(place.replica(on: 2) == fresh && place.adding == [fresh] && place.removing == [old])
        #expect(try leader.run { try $0.renewReplica(old, of: id) } == [nil])
        try leader.finish("a")
        #expect(leader.image.replicasToDelete(on: 2).map(\.epoch) == [old.epoch])
    }

    @Test(
        "A member whose promises are lost stays where the others are no quorum: its log may be all there is"
    )
    func notRenewed() throws {
        let leader = try cluster()
        let id = TopicPartition(
            topic: try #require(leader.image.topic(named: "a")?.id),
            partition: 0
        )
        let members = try leader.place("a").replicas
        try leader.run { try $0.renewReplica(members[0], of: id) }
        // One that lost its promises gives no quorum before its successor is whole.
        #expect(throws: Refusal.self) {
            try leader.controller.renewReplica(members[1], of: id)
        }
        try leader.finish("a")
        #expect(try leader.run { try $0.renewReplica(members[1], of: id) }[0] != nil)
    }

    @Test(
        "A topic that is deleted in the middle of a movement goes from all brokers that have or should have it"
    )
    func deletedWhileMoving() throws {
        let leader = try cluster()
        try leader.reassign("a", to: [4, 5, 1])
        try leader.run { try $0.deleteTopics([.name("a")]) }
        #expect(leader.image.deletedTopics.map(\.value.unconfirmedBrokers) == [[1, 2, 3, 4, 5]])
        #expect(leader.image.movingPartitionCount == 0)
        #expect(leader.image.replicasToDelete(on: 4).count == 1)
    }

    @Test("Records that contradict a movement stop the replica")
    func contradictions() throws {
        let leader = try cluster()
        try leader.reassign("a", to: [1, 2, 4])
        leader.controller.stepDown()
        let place = try leader.place("a")
        let topic = try #require(leader.image.topic(named: "a")?.id)
        let id = TopicPartition(topic: topic, partition: 0)
        let old = PartitionImage(replicas: place.replicas)
        let records: [MetadataRecord] = [
            .movementFinished(partition: id, revision: place.revision + 1),
            .movementFinished(partition: TopicPartition(topic: topic, partition: 9), revision: 1),
            .partitionsMoved(topic: topic, changes: [PartitionChange(number: 0, place: old)]),
            .partitionsMoved(topic: topic, changes: [PartitionChange(number: 1, place: place)]),
            .partitionsMoved(
                topic: topic,
                changes: [PartitionChange(number: 0, place: place.moved(to: [5], epoch: 1))]
            ),
            .partitionsMoved(
                topic: topic,
                changes: [PartitionChange(number: 0, place: place.moved(to: [9], epoch: 99))]
            ),
            .replicaRemovalConfirmed(RemovedReplica(member: place.removing[0], partition: id)),
            .brokerUnregistered(1), .brokerUnregistered(9),
            .brokerStateChanged(broker: 1, state: .active),
            .metadataMemberAdded(GroupMember(broker: 1, epoch: 1)), .clusterFounded([]),
        ]
        let before = leader.image
        for record in records {
            #expect(throws: CoordinationError.self) {
                try leader.controller.apply([record], at: before.appliedIndex.next)
            }
        }
        #expect(leader.image == before)
    }
}
