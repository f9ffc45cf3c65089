import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// Somebody who creates and deletes topics, moves replicas and leaders, deletes records and changes settings.
final class Administering: Workload {
    private unowned let world: World
    private let topics: TopicDirectory
    private let history: History
    private let client: SimulatedClient
    private var random: SeededRandom
    private var topicCount = 0
    private var isFinishing = false
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

    func finish() { isFinishing = true }

    /// Nobody waits for what an administrator asked.
    var whatIsLeft: String? { nil }

    private func planNext() {
        world.act("admin", after: random.draw(.milliseconds(300), .seconds(3))) { [weak self] in
            guard let self, !self.isFinishing else { return }
            self.step()
            self.planNext()
        }
    }

    private func step() {
        switch random.draw(0...9) {
        case 0: create()
        case 1: if topics.present.count(where: { !$0.isKept }) > 2 { delete() }
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
        topicCount += 1
        let name = "topic-\(topicCount)"
        let count = random.draw(1...4)
        let configs = ["segment.bytes": "1048576", "segment.ms": "\(segmentMillis)"]
        client.create(name, partitions: Int32(count), configs: configs, &random) {
            [weak self] topic in
            self?.topics.add(TopicDirectory.Topic(name: name, id: topic, partitionCount: count))
        }
    }

    private func delete() {
        guard let topic = anyTopic(isDeleted: true) else { return }
        topics.delete(topic.id)
        deleteUntilGone(topic)
    }

    private func deleteUntilGone(_ topic: TopicDirectory.Topic) {
        let request = DeleteTopicsRequest(topics: [.init(topicId: topic.id)], timeoutMs: 3_000)
        client.ask(request, version: 6, of: anyBroker) { [weak self] result in
            if case .success(let answer) = result, let one = answer.responses.first {
                switch ErrorCode(rawValue: one.errorCode) {
                case .noError, .unknownTopicId, .unknownTopicOrPartition: return
                default: break
                }
            }
            self?.world.act("admin deletes again", after: .milliseconds(300)) { [weak self] in
                self?.deleteUntilGone(topic)
            }
        }
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
        log.note(start: offset)
        let request = DeleteRecordsRequest(
            topics: [
                .init(name: topic.name, partitions: [.init(partitionIndex: number, offset: offset)])
            ],
            timeoutMs: 3_000
        )
        client.ask(request, version: 2, of: topics.broker(for: partition)) { _ in }
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
