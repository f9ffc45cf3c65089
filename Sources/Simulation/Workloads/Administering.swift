import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaStorage

/// Somebody who creates and deletes topics, moves replicas and leaders, deletes records and changes settings.
final class Administering: Workload {
    private unowned let world: World
    private let topics: TopicDirectory
    private let history: History
    private let client: SimulatedClient
    private var random: SeededRandom
    private var topicCount = 0
    private var isFinishing = false
    /// Names of topics that were deleted, and whose requests by name have all come to their end.
    private var freeNames: [String] = []
    /// How many deletions of records are under way, by the topic's name.
    private var openRequests: [String: Int] = [:]
    /// The topics whose deletion was asked for, and whether it was confirmed.
    private var deletions: [TopicID: Bool] = [:]
    /// The start that a broker confirmed, by partition.
    private var confirmedStarts: [TopicPartition: Int64] = [:]
    /// The partitions whose start has yet to be read in the end.
    private var unreadStarts: Set<TopicPartition> = []
    /// Whether topics are made, and nothing else is done.
    private let isOnlyCreating: Bool
    /// How soon topics roll their segments.
    private let segmentMillis: Int

    init(world: World, topics: TopicDirectory, history: History) {
        self.world = world
        self.topics = topics
        self.history = history
        client = SimulatedClient("admin", world: world)
        random = SeededRandom(seed: world.plan.seed ^ 0xAD)
        segmentMillis = random.draw(500...10_000)
        isOnlyCreating = !world.plan.workloads.contains(.administer)
    }

    func start() {
        for _ in 0..<random.draw(2...4) { create() }
        guard !isOnlyCreating else { return }
        planNext()
    }

    func finish() {
        guard !isFinishing else { return }
        isFinishing = true
        for partition in confirmedStarts.keys.sorted() where !topics.isDeleted(partition.topic) {
            unreadStarts.insert(partition)
            readStart(of: partition)
        }
    }

    var whatIsLeft: String? {
        guard isFinishing else { return nil }
        if let partition = unreadStarts.min() { return "nobody tells the start of \(partition)" }
        let unconfirmed = deletions.filter { !$0.value }.keys.min()
        return unconfirmed.map { "topic \($0) is not deleted" } ?? remains
    }

    private func planNext() {
        world.act("admin", after: random.draw(.milliseconds(300), .seconds(3))) { [weak self] in
            guard let self, !self.isFinishing else { return }
            self.step()
            self.planNext()
        }
    }

    private func step() {
        switch random.draw(0...10) {
        case 0: create()
        case 1, 10: if topics.present.count(where: { !$0.isKept }) > 1 { delete() }
        case 2, 3: deleteRecords()
        case 4, 5, 6: move()
        case 7, 8: elect()
        default: configure()
        }
    }

    private var anyBroker: Int { random.draw(0...(world.brokers.count - 1)) }

    /// `isDeleted`: whether something of it is to be deleted.
    private func anyTopic(isDeleted: Bool = false) -> TopicDirectory.Topic? {
        let present = topics.present.filter { !isDeleted || !$0.isKept }
        return present.isEmpty ? nil : present[random.draw(0...(present.count - 1))]
    }

    // MARK: Topics

    private func create() {
        create(isNameShared: random.chance(60))
    }

    private func create(isNameShared: Bool) {
        topicCount += 1
        // As soon as a topic is gone its name is free.
        let free = isNameShared ? freeNames.popLast() : nil
        let topic = TopicDirectory.Topic(
            name: free ?? "topic-\(topicCount)",
            id: .zero,
            partitionCount: random.draw(1...4),
            isNameShared: isNameShared
        )
        create(topic)
    }

    private func create(_ topic: TopicDirectory.Topic) {
        let configs = ["segment.bytes": "1048576", "segment.ms": "\(segmentMillis)"]
        client.create(
            topic.name,
            partitions: Int32(topic.partitionCount),
            configs: configs,
            &random
        ) { [weak self] id in
            guard let self else { return }
            // The answer was lost, and who was asked for the id had yet to hear of the deletion of the topic before.
            guard !self.topics.knows(id) else {
                return self.later { $0.create(topic) }
            }
            var topic = topic
            topic.id = id
            self.topics.add(topic)
        }
    }

    private func later(_ body: @escaping (Administering) -> Void) {
        world.act("admin", after: .milliseconds(300)) { [weak self] in
            if let self { body(self) }
        }
    }

    private func delete() {
        guard let topic = anyTopic(isDeleted: true) else { return }
        topics.delete(topic.id)
        deletions[topic.id] = false
        deleteUntilGone(topic)
    }

    /// So often must a topic be unknown to be gone.
    private static let unknownLimit = 5

    private func deleteUntilGone(_ topic: TopicDirectory.Topic, _ unknownCount: Int = 0) {
        let request = DeleteTopicsRequest(topics: [.init(topicId: topic.id)], timeoutMs: 3_000)
        client.ask(request, version: 6, of: anyBroker) { [weak self] result in
            guard let self else { return }
            var unknownCount = unknownCount
            if case .success(let answer) = result, let one = answer.responses.first {
                switch ErrorCode(rawValue: one.errorCode) {
                case .noError: return self.isGone(topic)
                case .unknownTopicId:
                    // An earlier attempt was decided, or a leader of the metadata that is none any more has yet to hear of it.
                    unknownCount += 1
                    if unknownCount == Self.unknownLimit { return self.isGone(topic) }
                default: break
                }
            }
            self.later { $0.deleteUntilGone(topic, unknownCount) }
        }
    }

    private func isGone(_ topic: TopicDirectory.Topic) {
        deletions[topic.id] = true
        guard topic.isNameShared, openRequests[topic.name] == nil, !isFinishing else { return }
        freeNames.append(topic.name)
        create(isNameShared: true)
    }

    /// What is left of deleted topics on the disk of a broker that runs, and hears of their deletion.
    private var remains: String? {
        for (number, broker) in world.brokers.enumerated()
        where broker.isUp && number != world.leftOut {
            for directory in broker.replicaDirectories {
                guard let group = GroupID(directoryName: directory),
                    deletions[group.partition.topic] != nil
                else { continue }
                return "broker \(broker.id) still has \(directory), of a topic that was deleted"
            }
        }
        return nil
    }

    // MARK: Partitions

    private func deleteRecords() {
        guard let topic = anyTopic(isDeleted: true) else { return }
        let number = Int32(random.draw(0...(topic.partitionCount - 1)))
        let partition = TopicPartition(topic: topic.id, partition: number)
        let log = history.log(partition)
        guard log.endOffset > log.startOffset else { return }
        let offset = Int64.random(in: log.startOffset...log.endOffset, using: &random)
        // From now on it may be gone.
        log.note(askedStart: offset)
        let request = DeleteRecordsRequest(
            topics: [
                .init(name: topic.name, partitions: [.init(partitionIndex: number, offset: offset)])
            ],
            timeoutMs: 3_000
        )
        openRequests[topic.name, default: 0] += 1
        client.ask(request, version: 2, of: topics.broker(for: partition)) { [weak self] result in
            guard let self else { return }
            let left = (self.openRequests[topic.name] ?? 1) - 1
            self.openRequests[topic.name] = left > 0 ? left : nil
            guard case .success(let answer) = result,
                let part = answer.topics.first?.partitions.first, part.errorCode == 0
            else { return }
            let known = self.confirmedStarts[partition] ?? 0
            self.confirmedStarts[partition] = max(known, offset)
            if part.lowWatermark < offset {
                self.world.violate(
                    "\(partition): records below \(offset) were deleted, and the start is \(part.lowWatermark)"
                )
            }
        }
    }

    /// Asks for the start of a partition until its leader tells it.
    private func readStart(of partition: TopicPartition) {
        guard let name = topics.name(of: partition.topic) else { return }
        // Answers come in the order of the requests: what is confirmed meanwhile, this one need not know.
        let confirmed = confirmedStarts[partition] ?? 0
        let request = ListOffsetsRequest(
            replicaId: -1,
            topics: [
                .init(
                    name: name,
                    partitions: [
                        .init(
                            partitionIndex: partition.partition,
                            timestamp: PartitionReader.earliest
                        )
                    ]
                )
            ]
        )
        client.ask(request, version: 7, of: topics.broker(for: partition)) { [weak self] result in
            guard let self else { return }
            if case .success(let answer) = result,
                let part = answer.topics.first?.partitions.first, part.errorCode == 0
            {
                self.judge(start: part.offset, of: partition, confirmed: confirmed)
                guard confirmed == self.confirmedStarts[partition] ?? 0 else {
                    return self.readStart(of: partition)
                }
                self.unreadStarts.remove(partition)
            } else {
                self.topics.forget(partition)
                self.later { $0.readStart(of: partition) }
            }
        }
    }

    private func judge(start: Int64, of partition: TopicPartition, confirmed: Int64) {
        guard start < confirmed else { return }
        world.lose(
            "\(partition): records below \(confirmed) were deleted, and the start is \(start)",
            of: partition
        )
    }

    private func move() {
        guard let topic = anyTopic() else { return }
        var brokers = Array(world.brokers.indices)
        brokers.shuffle(using: &random)
        let replicas = brokers.prefix(3).map { Int32($0 + 1) }
        let request = AlterPartitionReassignmentsRequest(
            timeoutMs: 3_000,
            topics: [
                .init(
                    name: topic.name,
                    partitions: [
                        .init(
                            partitionIndex: Int32(random.draw(0...(topic.partitionCount - 1))),
                            replicas: random.chance(15) ? nil : replicas
                        )
                    ]
                )
            ]
        )
        client.ask(request, version: 1, of: anyBroker) { _ in }
    }

    private func elect() {
        client.ask(
            ElectLeadersRequest(electionType: 0, topicPartitions: nil, timeoutMs: 2_000),
            version: 2,
            of: anyBroker
        ) { _ in }
    }

    private func configure() {
        guard let topic = anyTopic() else { return }
        let value = "\(random.draw(1...4) * 1_048_576)"
        let request = IncrementalAlterConfigsRequest(resources: [
            .init(
                resourceType: 2,
                resourceName: topic.name,
                configs: [.init(name: "segment.bytes", configOperation: 0, value: value)]
            )
        ])
        client.ask(request, version: 1, of: anyBroker) { _ in }
    }
}
