@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import Testing

/// Partitions whose groups follow the metadata by the guide, each leader with an image of its own age.
private struct World {
    struct Group {
        var fact: GroupFact
        var seen: MetadataImage
        var caughtUp: Set<GroupMember> = []
    }

    let leader: LeadingController
    var groups: [Group]
    var reports: [(number: Int, revision: UInt64)] = []
    /// Deleted from disk, by partition and member.
    var deleted: Set<RemovedReplica> = []
    /// Each broker's lives so far.
    var registrations: [BrokerRegistration]
    /// Members whose data went with a disk.
    var lost: Set<GroupMember> = []
    let topic: TopicID
    var random: SeededRandom

    init(seed: UInt64) throws {
        random = SeededRandom(seed: seed)
        leader = try LeadingController(brokerCount: 6, seed: seed)
        let topic = try leader.topic("t", on: [[1, 2, 3], [2, 3, 4], [4, 5, 6], [1]])
        self.topic = topic.id
        registrations = leader.image.brokers.map(\.value)
        let image = leader.image
        groups = topic.partitions.map { Group(fact: GroupFact(voters: $0.replicas), seen: image) }
    }

    func id(_ number: Int) -> TopicPartition {
        TopicPartition(topic: topic, partition: Int32(number))
    }

    func hasData(_ member: GroupMember, _ number: Int) -> Bool {
        !lost.contains(member)
            && !deleted.contains(RemovedReplica(member: member, partition: id(number)))
    }

    /// One turn of a group's leader.
    mutating func lead(_ number: Int) {
        guard let place = groups[number].seen.place(of: id(number)) else { return }
        let group = groups[number]
        switch PartitionGuide.step(of: place, from: group.fact, isCaughtUp: group.caughtUp.contains)
        {
        case .nothing: break
        case .reportFinished(let revision): reports.append((number, revision))
        case .group(.nothing): Issue.record("the guide says nothing in two ways")
        case .group(.awaitChange):
            groups[number].fact.outgoingVoters = []
            groups[number].fact.isCommitted = true
        case .group(.awaitLearners(let laggards)):
            let ready = laggards.filter { hasData($0, number) }
            if let member = ready.randomElement(using: &random) {
                groups[number].caughtUp.insert(member)
            }
        case .group(.change(let voters, let learners)):
            let before = group.fact
            groups[number].fact = GroupFact(
                voters: voters,
                outgoingVoters: voters == before.voters.sorted() ? [] : before.voters,
                learners: learners,
                isCommitted: false
            )
            // Whoever begins as a learner has everything before it.
            groups[number].caughtUp.formIntersection(voters + learners)
        }
    }

    /// A member that votes has never lost or deleted what it promised, except one whose disk was lost.
    func check() {
        for (number, group) in groups.enumerated() {
            for member in group.fact.voters + group.fact.outgoingVoters {
                let removed = RemovedReplica(member: member, partition: id(number))
                #expect(!deleted.contains(removed), "\(member) votes and was deleted")
            }
        }
        leader.controller.checkInvariants()
    }
}

@Suite("Movements against groups that follow them")
struct MovementPropertyTests {
    @Test(
        "Reassignments, cancels, lost disks, late images and stale reports in any order: no voter is deleted, and all comes to rest",
        arguments: 0..<24 as Range<UInt64>
    )
    func anyOrder(seed: UInt64) throws {
        var world = try World(seed: seed)
        for _ in 0..<400 {
            try step(&world)
            world.check()
        }
        for _ in 0..<60 {
            for number in world.groups.indices {
                world.groups[number].seen = world.leader.image
                world.lead(number)
            }
            try deliver(&world, all: true)
            world.check()
        }
        for (number, group) in world.groups.enumerated() {
            let place = try world.leader.place("t", number)
            #expect(!place.isMoving && group.fact.voters.sorted() == place.replicas.sorted())
            #expect(group.fact.learners.isEmpty && group.fact.outgoingVoters.isEmpty)
        }
    }

    private func step(_ world: inout World) throws {
        let number = Int.random(in: 0..<world.groups.count, using: &world.random)
        switch Int.random(in: 0..<20, using: &world.random) {
        case 0, 1:
            let count = Int.random(in: 1...3, using: &world.random)
            let brokers = ((1...6) as ClosedRange<Int32>).shuffled(using: &world.random).prefix(
                count
            )
            try world.leader.reassign("t", Int32(number), to: brokers.map { BrokerID($0) })
        case 2:
            try world.leader.reassign("t", Int32(number), to: nil)
        case 3:
            // A new leader first hears of everything that is committed, and only then guides.
            world.groups[number].seen = world.leader.image
        case 4, 5:
            // The image of a leader only grows, in its own time.
            if Bool.random(using: &world.random) { world.groups[number].seen = world.leader.image }
        case 6:
            try deliver(&world, all: false)
        case 7:
            let removed = world.leader.image.removedReplicas.map(\.key)
            guard let replica = removed.randomElement(using: &world.random) else { return }
            world.deleted.insert(replica)
            try world.leader.run { try $0.confirmReplicaRemoval(replica) }
        case 8 where Int.random(in: 0..<8, using: &world.random) == 0:
            try loseDisk(&world)
        default:
            world.lead(number)
        }
    }

    /// A disk is lost where every group that knows of it keeps its quorum; others could never move again.
    private func loseDisk(_ world: inout World) throws {
        let index = Int.random(in: 0..<world.registrations.count, using: &world.random)
        let broker = world.registrations[index].id
        for group in world.groups {
            for side in [group.fact.voters, group.fact.outgoingVoters] where !side.isEmpty {
                let staying = side.count { $0.broker != broker && !world.lost.contains($0) }
                guard staying > side.count / 2 else { return }
            }
        }
        for number in world.groups.indices {
            let place = try world.leader.place("t", number)
            let known = place.members + world.groups[number].fact.voters
            world.lost.formUnion(known.filter { $0.broker == broker })
            world.groups[number].caughtUp = world.groups[number].caughtUp.filter {
                $0.broker != broker
            }
        }
        let registration = world.registrations[index].reborn()
        world.registrations[index] = registration
        try world.leader.run { try $0.registerBroker(registration) }
        let renewed = world.leader.image.topic(world.topic)?.partitions.flatMap(\.replicas) ?? []
        #expect(!renewed.contains(where: world.lost.contains), "no lost member is wanted")
    }

    private func deliver(_ world: inout World, all: Bool) throws {
        while !world.reports.isEmpty {
            let place = Int.random(in: 0..<world.reports.count, using: &world.random)
            let report = world.reports.remove(at: place)
            try world.leader.finish("t", Int32(report.number), revision: report.revision)
            if !all { return }
        }
    }
}
