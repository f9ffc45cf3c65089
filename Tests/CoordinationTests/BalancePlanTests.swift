@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import Testing

@Suite("Balance")
struct BalancePlanTests {
    private func leader(racks: [String?]) throws -> LeadingController {
        try LeadingController(
            brokers: racks.enumerated().map { .example(BrokerID(Int32($0 + 1)), rack: $1) }
        )
    }

    private func plan(
        _ leader: LeadingController,
        live: Set<BrokerID>? = nil,
        leaders: [TopicPartition: BrokerID]? = nil,
        limits: BalanceLimits = BalanceLimits()
    ) -> [Move] {
        BalancePlan.plan(
            image: leader.image,
            leaders: leaders ?? preferred(leader.image),
            liveBrokers: live ?? Set(leader.image.brokers.map(\.key)),
            limits: limits
        )
    }

    /// Every partition is led by its preferred broker.
    private func preferred(_ image: MetadataImage) -> [TopicPartition: BrokerID] {
        var leaders: [TopicPartition: BrokerID] = [:]
        for (_, topic) in image.topics {
            for (number, place) in topic.partitions.enumerated() {
                leaders[TopicPartition(topic: topic.id, partition: Int32(number))] =
                    place.brokers[0]
            }
        }
        return leaders
    }

    /// Carries out the replica moves of a plan to their end.
    private func carryOut(_ moves: [Move], _ leader: LeadingController) throws {
        for move in moves {
            guard case .replica(let partition, _, _, _, let brokers, _) = move else { continue }
            let name = try #require(leader.image.topic(partition.topic)?.name)
            #expect(try leader.reassign(name, partition.partition, to: brokers) == nil)
            try leader.finish(name, partition.partition)
        }
    }

    private func counts(_ image: MetadataImage) -> [Int] {
        image.activeBrokers.map { image.loads[$0]?.replicaCount ?? 0 }
    }

    @Test("A cluster without a reason has an empty plan")
    func stable() throws {
        let leader = try leader(racks: ["a", "b", "c"])
        _ = try leader.create(TopicRequest(name: "t", partitionCount: 12, replicationFactor: 3))
        try leader.commitAll()
        #expect(plan(leader).isEmpty)
    }

    @Test("A plan reads as sentences")
    func sentences() throws {
        let leader = try leader(racks: [nil, nil, nil])
        _ = try leader.topic("t", on: [[1, 2], [1, 2], [1, 2]])
        let moves = plan(leader, limits: BalanceLimits(movementCount: 1))
        #expect(
            moves.map(\.description) == [
                "move a replica of t-0 from broker 1 to broker 3: broker 1 has 3 more replicas"
            ]
                || moves.map(\.description) == [
                    "move a replica of t-0 from broker 2 to broker 3: broker 2 has 3 more replicas"
                ]
        )
        let id = try #require(leader.image.topic(named: "t")?.id)
        let place = TopicPartition(topic: id, partition: 1)
        let transfer = plan(leader, leaders: [place: 2], limits: BalanceLimits(movementCount: 0))
        #expect(transfer.map(\.description) == ["let broker 1 lead t-1 instead of broker 2"])
    }

    @Test("A broker that came later gets its share, a few at a time, and then it is quiet")
    func newcomer() throws {
        let leader = try leader(racks: [nil, nil, nil])
        _ = try leader.create(TopicRequest(name: "t", partitionCount: 20, replicationFactor: 3))
        try leader.commitAll()
        try leader.run { try $0.registerBroker(.example(4)) }
        var rounds = 0
        while case let moves = plan(leader), !moves.isEmpty, rounds < 30 {
            #expect(moves.count <= 8)
            try carryOut(moves, leader)
            rounds += 1
        }
        #expect(counts(leader.image) == [15, 15, 15, 15] && rounds == 2)
        let preferredCounts = leader.image.activeBrokers.map {
            leader.image.loads[$0]?.leaderCount ?? 0
        }
        #expect(preferredCounts.max()! - preferredCounts.min()! <= 3)
    }

    @Test("Replicas leave a draining broker first, to racks that have none, and it ends empty")
    func draining() throws {
        let leader = try leader(racks: ["a", "b", "c", "a", "b"])
        _ = try leader.create(TopicRequest(name: "t", partitionCount: 12, replicationFactor: 3))
        try leader.commitAll()
        try leader.run { try $0.setBrokerState(1, .draining) }
        for _ in 0..<10 {
            try carryOut(plan(leader), leader)
        }
        #expect(leader.image.loads[1] == nil)
        let racks = leader.image.topic(named: "t")?.partitions.map { place in
            Set(place.brokers.map { leader.image.brokers[$0]?.rack ?? "" }).count
        }
        #expect(racks == Array(repeating: 3, count: 12))
        try leader.run { try $0.unregisterBroker(1) }
    }

    @Test(
        "Movements under way count against the limit, and partitions that move or have no quorum are left alone"
    )
    func limits() throws {
        let leader = try leader(racks: [nil, nil, nil, nil])
        _ = try leader.topic("t", on: Array(repeating: [1, 2, 3], count: 8))
        try leader.reassign("t", 0, to: [1, 2, 4])
        let moves = plan(leader, limits: BalanceLimits(movementCount: 3, transferCount: 0))
        #expect(moves.count == 2 && !moves.contains { $0.partition.partition == 0 })
        #expect(plan(leader, limits: BalanceLimits(movementCount: 1, transferCount: 0)).isEmpty)
        #expect(plan(leader, live: [1, 4], limits: BalanceLimits(transferCount: 0)).isEmpty)
    }

    @Test("Nothing moves to or from a broker that is down: it may come back")
    func down() throws {
        let leader = try leader(racks: [nil, nil, nil])
        _ = try leader.topic("t", on: Array(repeating: [1, 2], count: 6))
        #expect(plan(leader, live: [1, 2]).isEmpty)
    }

    @Test(
        "Leaders go to their preferred brokers where these are up, stay, and hold the replica for certain"
    )
    func leaders() throws {
        let leader = try leader(racks: [nil, nil, nil, nil])
        let topic = try leader.topic("t", on: [[1, 2, 3], [1, 2, 3], [2, 3, 1], [3, 1, 2]])
        let place = { (number: Int32) in TopicPartition(topic: topic.id, partition: number) }
        let leaders: [TopicPartition: BrokerID] = [place(0): 2, place(1): 1, place(2): 3]
        let limits = BalanceLimits(movementCount: 0)
        let moves = plan(leader, leaders: leaders, limits: limits)
        #expect(
            moves == [
                .leader(place(0), name: "t-0", from: 2, to: topic.partitions[0].replicas[0]),
                .leader(place(2), name: "t-2", from: 3, to: topic.partitions[2].replicas[0]),
            ]
        )
        #expect(plan(leader, live: [2, 3], leaders: [place(0): 3], limits: limits).isEmpty)
        #expect(
            plan(
                leader,
                leaders: leaders,
                limits: BalanceLimits(movementCount: 0, transferCount: 1)
            )
            .count == 1
        )
        try leader.run { try $0.setBrokerState(1, .draining) }
        #expect(
            plan(leader, leaders: [place(0): 2], limits: limits).isEmpty,
            "not to one that drains"
        )
        let away = plan(leader, leaders: [place(0): 1], limits: limits)
        #expect(
            away == [.leader(place(0), name: "t-0", from: 1, to: topic.partitions[0].replicas[1])]
        )
        try leader.run { try $0.setBrokerState(1, .active) }
        try leader.reassign("t", 0, to: [4, 2, 3])
        #expect(
            plan(leader, leaders: [place(0): 2], limits: limits).isEmpty,
            "not to one that comes"
        )
    }

    @Test("Two replicas in one rack are separated when another rack is there")
    func racks() throws {
        let leader = try leader(racks: ["a", "a", "b", "b"])
        _ = try leader.topic("t", on: [[1, 2], [3, 4]])
        try carryOut(plan(leader), leader)
        let places = try #require(leader.image.topic(named: "t")?.partitions)
        #expect(
            places.allSatisfy { place in
                Set(place.brokers.map { leader.image.brokers[$0]?.rack ?? "" }).count == 2
            }
        )
        #expect(plan(leader).isEmpty)
    }

    @Test(
        "Carried out again and again, a plan makes nothing worse and comes to rest",
        arguments: 0..<60 as Range<UInt64>
    )
    func property(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let racks = (0..<Int.random(in: 3...7, using: &random)).map { _ in
            [nil, "a", "b", "c"][Int.random(in: 0..<4, using: &random)]
        }
        let leader = try leader(racks: racks)
        let brokers = leader.image.brokers.map(\.key)
        for number in 0..<Int.random(in: 1...4, using: &random) {
            let count = Int.random(in: 1...3, using: &random)
            _ = try leader.topic(
                "t\(number)",
                on: (0..<Int.random(in: 1...9, using: &random)).map { _ in
                    Array(brokers.shuffled(using: &random).prefix(count))
                }
            )
        }
        let spread = { (image: MetadataImage) in
            let counts = counts(image)
            return (counts.max() ?? 0) - (counts.min() ?? 0)
        }
        var rounds = 0
        while case let moves = plan(leader), !moves.isEmpty {
            #expect(Set(moves.map(\.partition)).count == moves.count, "one move per partition")
            let before = leader.image
            try carryOut(moves, leader)
            let isRackMove = moves.contains {
                if case .replica(_, _, _, _, _, .rack) = $0 { true } else { false }
            }
            #expect(isRackMove || spread(leader.image) <= spread(before))
            for (name, topic) in before.topics {
                for (old, new) in zip(
                    topic.partitions,
                    leader.image.topic(named: name)?.partitions ?? []
                ) {
                    let reach = { (place: PartitionImage) in
                        Set(place.brokers.map { before.brokers[$0]?.rack ?? "" }).count
                    }
                    #expect(reach(new) >= reach(old) && new.brokers.count == old.brokers.count)
                }
            }
            rounds += 1
            try #require(rounds < 60, "it comes to rest")
        }
    }
}
