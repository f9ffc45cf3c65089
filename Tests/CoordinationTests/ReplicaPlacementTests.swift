@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import Testing

@Suite("Placement")
struct ReplicaPlacementTests {
    private func image(racks: [String?]) -> MetadataImage {
        var image = MetadataImage.withBrokers([])
        for (number, rack) in racks.enumerated() {
            image = image.applying(
                .brokerRegistered(.example(BrokerID(Int32(number + 1)), rack: rack))
            )
        }
        return image
    }

    @Test(
        "Replicas are spread over racks and brokers, leaders too, whatever the seed",
        arguments: [
            (["a", "b", "c"], 3), ([nil, nil, nil], 3), (["a", "a", "b", "b", "c", "c"], 3),
            ([nil, nil, nil, nil, nil], 2),
            (["a", "a", "b", "b"], 2), (["a"], 1), (["a", "b", "c"], 1), (["a", "a", "a", "b"], 3),
        ] as [([String?], Int)],
        0..<10 as Range<UInt64>
    )
    func spread(cluster: ([String?], Int), seed: UInt64) {
        let (racks, replicationFactor) = cluster
        var random = SeededRandom(seed: seed)
        var placement = ReplicaPlacement(image: image(racks: racks), random: &random)
        var replicas: [BrokerID: Int] = [:]
        var leaders: [BrokerID: Int] = [:]
        let partitionCount = 60
        for _ in 0..<partitionCount {
            let brokers = placement.place(replicationFactor: replicationFactor)
            #expect(brokers.count == replicationFactor && Set(brokers).count == replicationFactor)
            let reached = Set(brokers.map { racks[Int($0.rawValue) - 1] ?? "" }).count
            #expect(
                reached == min(replicationFactor, Set(racks.map { $0 ?? "" }).count),
                "as many racks as can be"
            )
            leaders[brokers[0], default: 0] += 1
            for broker in brokers {
                replicas[broker, default: 0] += 1
            }
        }
        let leaderCounts = (1...racks.count).map { leaders[BrokerID(Int32($0))] ?? 0 }
        #expect((leaderCounts.max() ?? 0) - (leaderCounts.min() ?? 0) <= 2 || Set(racks).count == 2)
        if racks.count(where: { $0 == racks[0] }) * Set(racks.map { $0 ?? "" }).count == racks.count
        {
            let counts = (1...racks.count).map { replicas[BrokerID(Int32($0))] ?? 0 }
            #expect(
                (counts.max() ?? 0) - (counts.min() ?? 0) <= 2,
                "racks of one size carry the same"
            )
        }
    }

    @Test("Six partitions on three brokers have two leaders on each, as a person expects")
    func leaders() throws {
        let leader = try LeadingController(brokerCount: 3)
        let topic = try leader.create(
            TopicRequest(name: "a", partitionCount: 6, replicationFactor: 3)
        )[0].result.get()
        let leaders = topic.partitions.map { $0.replicas[0].broker }.sorted()
        #expect(leaders == [1, 1, 2, 2, 3, 3])
    }

    @Test("A broker that came later fills up: new topics prefer it, and not with every replica")
    func newcomer() throws {
        let leader = try LeadingController(brokerCount: 3)
        _ = try leader.create(TopicRequest(name: "old", partitionCount: 90, replicationFactor: 1))
        _ = try leader.note(leader.controller.registerBroker(.example(4)))
        let topic = try leader.create(
            TopicRequest(name: "new", partitionCount: 40, replicationFactor: 1)
        )[0].result.get()
        let share = topic.partitions.count { $0.replicas[0].broker == 4 }
        #expect((11...30).contains(share))
    }

    @Test("One seed gives one placement")
    func determinism() throws {
        let images = try (0..<2).map { _ in
            let leader = try LeadingController(brokerCount: 5, seed: 7)
            _ = try leader.create(
                TopicRequest(name: "a", partitionCount: 20),
                TopicRequest(name: "b")
            )
            try leader.commitAll()
            return leader.image
        }
        #expect(images[0] == images[1])
    }
}
