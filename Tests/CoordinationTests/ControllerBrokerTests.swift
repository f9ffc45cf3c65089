@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import Testing

@Suite("Brokers of a cluster")
struct ControllerBrokerTests {
    private func member(_ broker: BrokerID, _ epoch: CreationEpoch) -> GroupMember {
        GroupMember(broker: broker, epoch: epoch)
    }

    /// A cluster that these brokers formed; only those registered so far are told.
    private func formed(by founders: [BrokerID], registering: [BrokerID]? = nil) throws
        -> LeadingController
    {
        let leader = try LeadingController(brokers: [])
        leader.controller = Controller(random: SeededRandom(seed: 3))
        leader.controller.becomeLeader()
        leader.log = []
        try leader.run {
            try $0.initialiseCluster(
                format: 1,
                founders: founders.map {
                    ClusterFounder(
                        member: member($0, 1),
                        incarnation: BrokerRegistration.example($0).incarnation
                    )
                }
            )
        }
        for broker in registering ?? founders {
            try leader.run { try $0.registerBroker(.example(broker)) }
        }
        return leader
    }

    @Test(
        "Founders keep the metadata members that they founded with; who joins later gets a new one"
    )
    func founders() throws {
        let leader = try formed(by: [1, 2, 3])
        let joined = try leader.run { try $0.registerBroker(.example(9)) }[0]
        #expect(leader.image.metadataWish.voters == [member(1, 1), member(2, 1), member(3, 1)])
        #expect(leader.image.metadataWish.learners == [joined.metadataMember])
        #expect(joined.metadataMember.epoch > 1 && joined.clusterID == leader.image.clusterID)
        let again = try leader.controller.registerBroker(.example(9))
        #expect(again.records.isEmpty && again.outcomes == [joined])
    }

    @Test(
        "A founder that has not registered yet is a voter all the same: nobody shrinks a group that is forming"
    )
    func unregisteredFounder() throws {
        let leader = try formed(by: [1, 2, 3], registering: [2])
        #expect(leader.image.metadataWish.voters.map(\.broker) == [1, 2, 3])
    }

    @Test("A founder whose disk was lost before it registered gets a new metadata member (bug 13)")
    func rebornFounder() throws {
        let leader = try formed(by: [1, 2, 3], registering: [1, 2])
        let outcome = try leader.run { try $0.registerBroker(.example(3).reborn()) }[0]
        #expect(outcome.metadataMember.epoch > 1)
        #expect(leader.image.metadataWish.voters.contains(outcome.metadataMember))
        #expect(!leader.image.metadataWish.voters.contains(member(3, 1)))
    }

    @Test(
        "The metadata group has up to three voters of four brokers, five of five and more, founders first",
        arguments: [(1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (6, 5), (9, 5)]
    )
    func voters(brokerCount: Int, voterCount: Int) throws {
        let brokers = (1...brokerCount).map { BrokerID(Int32($0)) }
        let founders = Array(brokers.suffix(3))
        let leader = try formed(by: founders, registering: brokers)
        let wish = leader.image.metadataWish
        #expect(
            wish.voters.count == voterCount
                && wish.voters.count + wish.learners.count == brokerCount
        )
        #expect(founders.allSatisfy { wish.voters.map(\.broker).contains($0) })
        #expect(Set(wish.voters).isDisjoint(with: wish.learners))
    }

    @Test(
        "A voter that is unregistered is replaced by the learner that is longest there; a newcomer replaces nobody"
    )
    func replacedVoter() throws {
        let leader = try formed(by: [1, 2, 3])
        try leader.run { try $0.registerBroker(.example(8)) }
        #expect(leader.image.metadataWish.voters.map(\.broker) == [1, 2, 3])
        try leader.run { try $0.unregisterBroker(2) }
        #expect(leader.image.metadataWish.voters.map(\.broker) == [1, 3, 8])
        #expect(leader.image.metadataWish.learners.isEmpty)
    }

    @Test("A draining broker gives its seat in the metadata group to one that stays")
    func drainingVoter() throws {
        let leader = try formed(by: [1, 2, 3])
        try leader.run { try $0.registerBroker(.example(4)) }
        try leader.run { try $0.setBrokerState(1, .draining) }
        #expect(leader.image.metadataWish.voters.map(\.broker) == [2, 3, 4])
        try leader.run { try $0.setBrokerState(1, .active) }
        #expect(leader.image.metadataWish.voters.map(\.broker) == [1, 2, 3])
    }

    @Test(
        "A broker that comes back with an empty disk has new members everywhere, and never its old ones (bug 13)"
    )
    func reborn() throws {
        let leader = try LeadingController(brokerCount: 3)
        let before = try leader.topic("a", on: [[1, 2, 3], [3, 1, 2], [1, 2]]).partitions
        let outcome = try leader.run { try $0.registerBroker(.example(3).reborn()) }[0]
        #expect(outcome.renewedPartitionCount == 2 && outcome.lostPartitions.isEmpty)
        for number in 0..<2 {
            let place = try leader.place("a", number)
            #expect(place.brokers == before[number].brokers, "the order stays")
            let fresh = try #require(place.replica(on: 3))
            #expect(!before[number].replicas.contains(fresh) && place.adding == [fresh])
            #expect(
                place.removing == before[number].replicas.filter { $0.broker == 3 },
                "what the old one may have left is deleted when the new one is whole"
            )
            #expect(place.initialVoters(for: fresh).isEmpty, "it begins with nobody")
            #expect(!place.isCancellable)
            #expect(try leader.reassign("a", Int32(number), to: nil) == .noReassignmentInProgress)
        }
        #expect(try leader.place("a", 2) == before[2])
        #expect(try leader.finish("a"))
        #expect(try !leader.place("a").isMoving)
        let old = try #require(before[0].replica(on: 3))
        #expect(leader.image.replicasToDelete(on: 3).map(\.epoch) == [old.epoch])
    }

    @Test(
        "Partitions whose quorum went with a broker's disk are named, and the old member is not revived"
    )
    func lost() throws {
        let leader = try LeadingController(brokerCount: 3)
        let before = try leader.topic("a", on: [[3], [3, 1], [1, 2, 3]]).partitions
        let outcome = try leader.run { try $0.registerBroker(.example(3).reborn()) }[0]
        #expect(outcome.lostPartitions == ["a-0", "a-1"])
        #expect(try leader.place("a", 0).replica(on: 3) != before[0].replica(on: 3))
    }

    @Test(
        "One broker goes on alone: the others' lives, members and numbers are none that anybody may remember"
    )
    func recovered() throws {
        let leader = try LeadingController(brokerCount: 3)
        let before = try leader.topic("a", on: [[1, 2, 3], [3, 1], [1, 2]]).partitions
        let old = leader.image
        let outcome = try leader.run {
            try $0.recoverAlone(3, as: "another") { BrokerIncarnation(high: 9, low: 9) }
        }[0]
        #expect(outcome.lostBrokers == [1, 2] && outcome.lostPartitions == ["a-2"])
        let image = leader.image
        #expect(image.clusterID == "another")
        #expect(image.brokers[1]?.incarnation == BrokerIncarnation(high: 9, low: 9))
        #expect(image.brokers[3] == old.brokers[3])
        for number in 0..<2 {
            let place = try leader.place("a", number)
            #expect(place.brokers == before[number].brokers, "the order stays")
            #expect(place.replica(on: 3) == before[number].replica(on: 3))
            #expect(place.adding.map(\.broker) == place.brokers.filter { $0 != 3 })
            #expect(
                place.adding.allSatisfy { $0.epoch.rawValue > 1 << 32 },
                "epochs are passed over"
            )
            #expect(
                place.hasQuorum { $0.broker == 3 },
                "the survivor is a quorum of what is certain"
            )
        }
        #expect(leader.image.nextProducerID > old.nextProducerID)
        #expect(throws: Refusal.self) {
            try leader.controller.recoverAlone(7, as: "third") {
                BrokerIncarnation(high: 1, low: 1)
            }
        }
    }

    @Test("A recovery that was cut short behind its first records is done once more")
    func recoveredAgain() throws {
        let leader = try LeadingController(brokerCount: 3)
        _ = try leader.topic("a", on: [[1, 2, 3]])
        var life: UInt64 = 9
        for _ in 0..<2 {
            let outcome = try leader.run {
                try $0.recoverAlone(3, as: "another") {
                    life += 1
                    return BrokerIncarnation(high: life, low: life)
                }
            }[0]
            #expect(outcome.lostBrokers == [1, 2])
            #expect(leader.image.clusterID == "another")
            #expect(try leader.place("a").hasQuorum { $0.broker == 3 })
        }
    }

    @Test("A survivor that was on its way into a group is all that is left of it")
    func recoveredWhileMoving() throws {
        let leader = try LeadingController(brokerCount: 3)
        _ = try leader.topic("a", on: [[1, 2]])
        try leader.reassign("a", to: [3])
        let member = try #require(try leader.place("a").replica(on: 3))
        try leader.run {
            try $0.recoverAlone(3, as: "another") { BrokerIncarnation(high: 9, low: 9) }
        }
        let place = try leader.place("a")
        #expect(
            place.replicas == [member] && place.adding.isEmpty && place.hasQuorum { $0 == member }
        )
    }

    @Test("One broker id on two machines is refused while both run")
    func duplicate() throws {
        let leader = try LeadingController(brokerCount: 1)
        let refusal = #expect(throws: Refusal.self) {
            try leader.controller.registerBroker(.example(1).reborn(), isOtherAlive: true)
        }
        #expect(refusal?.code == .duplicateBrokerRegistration)
    }

    @Test(
        "A broker that loses its disk in the middle of a movement comes back into the same movement"
    )
    func rebornInMovement() throws {
        let leader = try LeadingController(brokerCount: 5)
        _ = try leader.topic("a", on: [[1, 2, 3]])
        try leader.reassign("a", to: [1, 2, 4])
        let leaving = try #require(try leader.place("a").replica(on: 3))
        try leader.run { try $0.registerBroker(.example(4).reborn()) }
        try leader.run { try $0.registerBroker(.example(3).reborn()) }
        let place = try leader.place("a")
        #expect(place.brokers == [1, 2, 4] && place.adding == [place.replicas[2]])
        #expect(place.replica(on: 3) != leaving)
        #expect(try leader.reassign("a", to: nil) == nil)
        #expect(try leader.place("a").brokers == [1, 2, 3])
        #expect(try leader.place("a").replica(on: 3) != leaving)
    }

    @Test(
        "A draining broker gets no new replica, neither placed nor named; drained twice is drained once"
    )
    func draining() throws {
        let leader = try LeadingController(brokerCount: 4)
        try leader.run { try $0.setBrokerState(2, .draining) }
        #expect(leader.image.state(of: 2) == .draining && leader.image.state(of: 9) == nil)
        #expect(try leader.controller.setBrokerState(2, .draining).records.isEmpty)
        let topic = try leader.create(
            TopicRequest(name: "a", partitionCount: 20, replicationFactor: 3)
        )[0]
        .result.get()
        #expect(topic.partitions.allSatisfy { !$0.brokers.contains(2) })
        let named = TopicRequest(name: "b", assignments: [.init(partition: 0, brokers: [2])])
        #expect(try leader.create(named).map(\.refusal) == [.invalidReplicaAssignment])
        let tooMany = TopicRequest(name: "c", partitionCount: 1, replicationFactor: 4)
        #expect(try leader.create(tooMany).map(\.refusal) == [.invalidReplicationFactor])
        try leader.commitAll()
        #expect(try leader.reassign("a", to: [2, 1, 3]) == .invalidReplicaAssignment)
    }

    @Test(
        "Draining is refused, with names, where a replica has no other place or no quorum to move it; partial draining is asked for"
    )
    func undrainable() throws {
        let leader = try LeadingController(brokerCount: 3)
        _ = try leader.topic("a", on: [[1, 2, 3], [1, 2], [3, 2]])
        let noPlace = #expect(throws: Refusal.self) {
            try leader.controller.setBrokerState(1, .draining)
        }
        #expect(
            noPlace?.message.contains("a-0") == true && noPlace?.message.contains("a-1") == false
        )
        let noQuorum = #expect(throws: Refusal.self) {
            try leader.controller.setBrokerState(2, .draining, liveBrokers: [1, 3])
        }
        #expect(noQuorum?.message.contains("a-0, a-1, a-2") == true)
        try leader.run { try $0.setBrokerState(1, .draining, allowsPartial: true) }
        #expect(leader.image.state(of: 1) == .draining)
    }

    @Test(
        "A broker that holds replicas, wanted or leaving, is not unregistered, and the partitions are named"
    )
    func unregisterHolding() throws {
        let leader = try LeadingController(brokerCount: 4)
        _ = try leader.topic("a", on: [[1, 2, 3], [1, 2, 4]])
        let refusal = #expect(throws: Refusal.self) { try leader.controller.unregisterBroker(3) }
        #expect(
            refusal?.message.contains("a-0") == true && refusal?.message.contains("a-1") == false
        )
        try leader.reassign("a", to: [1, 2, 4])
        #expect(throws: Refusal.self) { try leader.controller.unregisterBroker(3) }
        try leader.finish("a")
        #expect(leader.image.replicasToDelete(on: 3).count == 1)
        try leader.run { try $0.unregisterBroker(3) }
        #expect(leader.image.brokers[3] == nil && leader.image.removedReplicas.isEmpty)
        #expect(throws: Refusal.self) { try leader.controller.unregisterBroker(3) }
    }

    @Test("The broker that would take the metadata group's quorum with it is not unregistered")
    func unregisterQuorum() throws {
        let leader = try formed(by: [1, 2, 3])
        let refusal = #expect(throws: Refusal.self) {
            try leader.controller.unregisterBroker(2, liveBrokers: [1, 2])
        }
        #expect(refusal?.message.contains("quorum") == true)
        try leader.run { try $0.unregisterBroker(3, liveBrokers: [1, 2]) }
        let last = try LeadingController(brokerCount: 1)
        #expect(throws: Refusal.self) { try last.controller.unregisterBroker(1) }
    }

    @Test(
        "What an unregistered broker still had to delete is forgotten with it, also of deleted topics"
    )
    func unregisterObligations() throws {
        let leader = try LeadingController(brokerCount: 3)
        _ = try leader.topic("a", on: [[1, 3]])
        try leader.run { try $0.deleteTopics([.name("a")]) }
        try leader.run { try $0.unregisterBroker(3) }
        #expect(leader.image.deletedTopics.map(\.value.unconfirmedBrokers) == [[1]])
        let id = try #require(leader.image.deletedTopics.map(\.key).first)
        try leader.run { try $0.confirmReplicaDeletion(of: id, on: 1) }
        #expect(leader.image.deletedTopics.isEmpty)
    }

    @Test(
        "A broker that comes back after it was unregistered is a new member of the metadata group"
    )
    func returning() throws {
        let leader = try LeadingController(brokerCount: 3)
        let before = leader.image.metadataMembers[3]?.epoch
        try leader.run { try $0.unregisterBroker(3) }
        let outcome = try leader.run { try $0.registerBroker(.example(3)) }[0]
        #expect(outcome.metadataMember.epoch != before)
    }

    @Test(
        "Brokers that are down get replicas only where too few are up, and no preferred leadership"
    )
    func placementOnLive() throws {
        let leader = try LeadingController(brokerCount: 4)
        let two = try leader.create(
            TopicRequest(name: "a", partitionCount: 12, replicationFactor: 2),
            liveBrokers: [1, 2, 3]
        )[0].result.get()
        #expect(two.partitions.allSatisfy { !$0.brokers.contains(4) })
        let four = try leader.create(
            TopicRequest(name: "b", partitionCount: 12, replicationFactor: 4),
            liveBrokers: [1, 2, 3]
        )[0].result.get()
        #expect(four.partitions.allSatisfy { $0.brokers.contains(4) && $0.brokers[0] != 4 })
        let named = TopicRequest(name: "c", assignments: [.init(partition: 0, brokers: [4, 1])])
        #expect(
            try leader.create(named, liveBrokers: [1, 2, 3]).map(\.refusal) == [
                .invalidReplicaAssignment
            ]
        )
    }

    @Test(
        "A default replication factor of 0 or -1 is 3, or the number of brokers that take replicas",
        arguments: [0, -1] as [Int16],
        [(1, 1), (2, 2), (3, 3), (5, 3)] as [(Int32, Int)]
    )
    func defaultFactor(setting: Int16, cluster: (brokers: Int32, replicas: Int)) throws {
        let leader = try LeadingController(brokerCount: cluster.brokers)
        let topic = try leader.create(
            TopicRequest(name: "a"),
            defaults: TopicDefaults(partitionCount: 1, replicationFactor: setting)
        )[0].result.get()
        #expect(topic.replicationFactor == cluster.replicas)
        let entry = ConfigEntry("default.replication.factor", "\(setting)")
        #expect(throws: Never.self) { try BrokerConfigTable.table.validated([entry]) }
    }
}
