@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import Testing

/// The slow, obvious model: topics by name, in a dictionary, as a client would see them if each command took effect at once.
private struct Model {
    struct Topic: Equatable {
        var partitionCount: Int
        var configs: [String: String]
    }

    var topics: [String: Topic] = [:]

    mutating func create(_ name: String, partitions: Int) -> ErrorCode? {
        if topics[name] != nil { return .topicAlreadyExists }
        let form = name.replacing(".", with: "_")
        if topics.keys.contains(where: { $0.replacing(".", with: "_") == form }) {
            return .invalidTopicException
        }
        if partitions < 1 { return .invalidPartitions }
        topics[name] = Topic(partitionCount: partitions, configs: [:])
        return nil
    }

    mutating func delete(_ name: String) -> ErrorCode? {
        topics.removeValue(forKey: name) == nil ? .unknownTopicOrPartition : nil
    }

    mutating func grow(_ name: String, to count: Int) -> ErrorCode? {
        guard let topic = topics[name] else { return .unknownTopicOrPartition }
        if count <= topic.partitionCount { return .invalidPartitions }
        topics[name]?.partitionCount = count
        return nil
    }

    mutating func configure(_ name: String, _ value: String?) -> ErrorCode? {
        guard topics[name] != nil else { return .unknownTopicOrPartition }
        topics[name]?.configs["segment.ms"] = value
        return nil
    }

    func matches(_ image: MetadataImage) -> Bool {
        let seen = image.topics.map { name, topic in
            (
                name,
                Topic(
                    partitionCount: topic.partitions.count,
                    configs: Dictionary(
                        uniqueKeysWithValues: topic.configs.entries.map { ($0.name, $0.value) }
                    )
                )
            )
        }
        return Dictionary(uniqueKeysWithValues: seen) == topics
    }
}

@Suite("Controller against a model")
struct ControllerPropertyTests {
    private static let names = ["a", "b", "a.b", "a_b", "c", "d-e", "x.y.z", "x_y_z"]

    @Test(
        "Commands, commits, losses of leadership and restarts in any order: answers and state are the model's, on every replica",
        arguments: 0..<20 as Range<UInt64>
    )
    func model(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let leader = try LeadingController(brokerCount: 3, seed: seed)
        // What the log holds, and what it will hold if nothing is lost.
        var committed = Model()
        var proposed = Model()
        var pending: [Model] = []
        for _ in 0..<400 {
            switch Int.random(in: 0..<13, using: &random) {
            case 0..<8:
                let before = leader.waiting.count
                try command(leader, &proposed, &random)
                if leader.waiting.count > before {
                    pending.append(proposed)
                }
            case 8..<10:
                guard !leader.waiting.isEmpty else { continue }
                let before = leader.image
                try leader.commitNext()
                committed = pending.removeFirst()
                #expect(committed.matches(leader.image))
                expectChanges(from: before, to: leader.image)
            case 10:
                let count = Int.random(in: 0...pending.count, using: &random)
                leader.failLast(count)
                pending.removeLast(count)
                proposed = pending.last ?? committed
            case 11:
                leader.controller.stepDown()
                leader.waiting = []
                pending = []
                proposed = committed
                leader.controller.becomeLeader()
                leader.controller.checkInvariants()
            default:
                let restored = try Controller(
                    snapshot: leader.controller.snapshot(),
                    random: SeededRandom(seed: 5)
                )
                restored.checkInvariants()
                #expect(restored.image == leader.image)
                #expect(restored.snapshot() == leader.controller.snapshot())
            }
        }
        try leader.commitAll()
        #expect(proposed.matches(leader.image))
        try replay(leader, random: &random)
    }

    /// What the walk finds is what a comparison of all with all finds.
    private func expectChanges(from before: MetadataImage, to after: MetadataImage) {
        let changes = after.changes(since: before)
        #expect(changes.topics == after.topics.map(\.value).filter { before.topic($0.id) != $0 })
        #expect(
            changes.goneTopics == before.topics.map(\.value).filter { after.topic($0.id) == nil }
        )
        #expect(changes.hasOtherDeletions == (before.deletedTopics != after.deletedTopics))
        #expect(!changes.hasOtherBrokers && !changes.hasOtherConfigs)
        #expect(
            after.changes(since: after).topics.isEmpty
                && after.changes(since: after).goneTopics.isEmpty
        )
    }

    /// Another replica applies the same log, decoded from bytes, restarting from a snapshot in the middle.
    private func replay(_ leader: LeadingController, random: inout SeededRandom) throws {
        var follower = Controller(random: SeededRandom(seed: 99))
        let restart = Int.random(in: 0...leader.log.count, using: &random)
        for (place, entry) in leader.log.enumerated() {
            if place == restart {
                follower = try Controller(
                    snapshot: follower.snapshot(),
                    random: SeededRandom(seed: 98)
                )
            }
            let records = try entry.records.map { try MetadataRecord(decoding: $0.encoded()) }
            #expect(records == entry.records)
            try follower.apply(records, at: entry.index)
        }
        follower.checkInvariants()
        #expect(follower.image == leader.image)
        #expect(follower.snapshot() == leader.controller.snapshot())
    }

    private func command(
        _ leader: LeadingController,
        _ model: inout Model,
        _ random: inout SeededRandom
    ) throws {
        let name = Self.names[Int.random(in: 0..<Self.names.count, using: &random)]
        let count = Int.random(in: 0...6, using: &random)
        switch Int.random(in: 0..<6, using: &random) {
        case 0, 1:
            let request = TopicRequest(
                name: name,
                partitionCount: Int32(count),
                replicationFactor: 2
            )
            #expect(
                try leader.create(request).map(\.refusal) == [model.create(name, partitions: count)]
            )
        case 2:
            #expect(
                try leader.note(leader.controller.deleteTopics([.name(name)])).map(\.refusal) == [
                    model.delete(name)
                ]
            )
        case 3:
            let request = PartitionsRequest(name: name, partitionCount: Int32(count))
            #expect(
                try leader.note(leader.controller.createPartitions([request])).map(\.refusal) == [
                    model.grow(name, to: count)
                ]
            )
        case 4:
            let value = count == 0 ? nil : String(count)
            let step = ConfigAlteration.Step(value == nil ? .delete : .set, "segment.ms", value)
            let decision = try leader.controller.incrementalAlterConfigs([
                ConfigAlteration(resource: .topic(name), steps: [step])
            ])
            #expect(leader.note(decision).map(\.refusal) == [model.configure(name, value)])
        default:
            let doomed = leader.image.deletedTopics.map(\.key)
            guard let topic = doomed.first else { return }
            _ = try leader.note(
                leader.controller.confirmReplicaDeletion(
                    of: topic,
                    on: BrokerID(Int32(1 + count % 3))
                )
            )
        }
    }
}
