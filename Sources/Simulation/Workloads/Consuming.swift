import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// Readers, one for each partition, from its start on; each compares what it gets with what everybody else saw.
final class Consuming: Workload {
    private unowned let world: World
    private let topics: TopicDirectory
    private let history: History
    private var readers: [TopicPartition: PartitionReader] = [:]
    private var isFinishing = false

    init(world: World, topics: TopicDirectory, history: History) {
        self.world = world
        self.topics = topics
        self.history = history
    }

    func start() { lookForTopics() }

    private func lookForTopics() {
        guard !isFinishing else { return }
        for topic in topics.present {
            for number in 0..<topic.partitionCount {
                let id = TopicPartition(topic: topic.id, partition: Int32(number))
                guard readers[id] == nil else { continue }
                let reader = PartitionReader(
                    topic,
                    id,
                    seed: world.random.next(),
                    world: world,
                    topics: topics,
                    history: history
                )
                readers[id] = reader
                reader.start()
            }
        }
        world.act("readers look for topics", after: .milliseconds(500)) { [weak self] in
            self?.lookForTopics()
        }
    }

    /// All that is there when nothing new comes any more is read to its end.
    func finish() {
        lookForTopics()
        isFinishing = true
        for id in readers.keys.sorted() { readers[id]?.readToEnd() }
    }

    var whatIsMissing: String? {
        guard history.acknowledgedCount >= Self.fewRecords else { return nil }
        return readers.values.contains { $0.hasRead }
            ? nil : "\(history.acknowledgedCount) records were acknowledged, and no reader got any"
    }

    /// So few may all have stood in topics that are deleted.
    private static let fewRecords = 200

    var whatIsLeft: String? {
        readers.values.filter { !$0.isDone }.min { $0.partition < $1.partition }.map(\.state)
    }
}

/// Reads one partition from start to end.
final class PartitionReader {
    let partition: TopicPartition
    private let topic: TopicDirectory.Topic
    private unowned let world: World
    private let topics: TopicDirectory
    private let history: History
    private let client: SimulatedClient
    private var random: SeededRandom
    private let cursor: PartitionCursor
    /// The rack that it says it stands in, if it says one.
    private let rack: String?
    /// The follower that the leader sent it to.
    private var nearBroker: Int?
    /// What was read in the last pass from the start.
    private var read: [Int64: String] = [:]
    private var passStart: Int64 = 0
    /// In which life of its process a broker was read from last.
    private var lives: [Int: Int] = [:]
    private var isFinalPass = false
    private var isFinishing = false
    private(set) var isDone = false

    init(
        _ topic: TopicDirectory.Topic,
        _ partition: TopicPartition,
        seed: UInt64,
        world: World,
        topics: TopicDirectory,
        history: History
    ) {
        self.topic = topic
        self.partition = partition
        self.world = world
        self.topics = topics
        self.history = history
        client = SimulatedClient("reader-\(partition)", world: world)
        var random = SeededRandom(seed: seed)
        cursor = PartitionCursor(partition, world: world, history: history)
        rack =
            random.chance(60)
            ? SimulatedBroker.rack(of: random.draw(0...(world.brokers.count - 1))) : nil
        self.random = random
    }

    var state: String {
        "\(partition) is read up to \(cursor.offset) of \(history.log(partition).endOffset)"
    }

    func start() { fetch() }

    func readToEnd() { isFinishing = true }

    /// Whether it got any record in its last pass.
    var hasRead: Bool { !read.isEmpty }

    private func later(_ delay: Duration) {
        world.act("reader", after: delay) { [weak self] in self?.fetch() }
    }

    private func fetch() {
        guard !topics.isDeleted(partition.topic) else {
            isDone = true
            return
        }
        if isFinishing, !isFinalPass {
            // Once more, now that nothing fails any more.
            isFinalPass = true
            beginPass()
        }
        let request = FetchRequest(
            maxWaitMs: Int32(random.draw(0...500)),
            minBytes: 1,
            maxBytes: 1 << 20,
            isolationLevel: Int8(random.draw(0...1)),
            topics: [
                .init(
                    topic: topic.name,
                    topicId: topic.id,
                    partitions: [
                        .init(
                            partition: partition.partition,
                            fetchOffset: cursor.offset,
                            partitionMaxBytes: Int32(random.draw(1_000...300_000))
                        )
                    ]
                )
            ],
            rackId: rack ?? ""
        )
        let broker = nearBroker ?? topics.broker(for: partition)
        let source = PartitionCursor.Source(broker, in: world)
        client.ask(request, version: topic.fetchVersion, of: broker) { [weak self] result in
            self?.answered(result, source)
        }
    }

    /// Whether the broker has started again since it was read from last: what lay on its disk then is worth another look.
    private func isNewLife(of source: PartitionCursor.Source) -> Bool {
        let before = lives.updateValue(source.life, forKey: source.broker)
        return before.map { $0 != source.life } ?? false
    }

    /// Reads from the start.
    private func beginPass() {
        cursor.move(to: 0)
        passStart = 0
        read.removeAll()
    }

    private func answered(
        _ result: Result<FetchResponse, ClientFailure>,
        _ source: PartitionCursor.Source
    ) {
        guard case .success(let response) = result,
            let part = response.responses.first?.partitions.first
        else { return lookForLeader() }
        switch ErrorCode(rawValue: part.errorCode) {
        case .noError where part.preferredReadReplica >= 0:
            // Once in a while it goes on asking the leader, as a client does that has lost its way.
            nearBroker = random.chance(90) ? Int(part.preferredReadReplica) - 1 : nil
            later(.zero)
        case .noError: take(part, source)
        case .offsetOutOfRange where nearBroker != nil: lookForLeader()
        case .offsetOutOfRange: lookForStart()
        default: lookForLeader()
        }
    }

    private func lookForLeader() {
        nearBroker = nil
        topics.forget(partition)
        later(random.draw(.milliseconds(20), .milliseconds(200)))
    }

    /// Records before the start were deleted; nothing else excuses that an offset is not there.
    private func lookForStart() {
        let request = ListOffsetsRequest(
            replicaId: -1,
            topics: [
                .init(
                    name: topic.name,
                    partitions: [
                        .init(partitionIndex: partition.partition, timestamp: Self.earliest)
                    ]
                )
            ]
        )
        client.ask(request, version: 7, of: topics.broker(for: partition)) { [weak self] result in
            guard let self else { return }
            if case .success(let answer) = result, !self.topics.isDeleted(self.partition.topic),
                let part = answer.topics.first?.partitions.first, part.errorCode == 0
            {
                let log = self.history.log(self.partition)
                if let problem = log.startViolation(part.offset) {
                    self.world.lose("\(self.partition): \(problem)", of: self.partition)
                }
                log.note(start: part.offset)
                if part.offset > self.cursor.offset {
                    self.cursor.move(to: part.offset)
                    self.passStart = max(self.passStart, part.offset)
                }
            } else {
                self.topics.forget(self.partition)
            }
            self.later(self.random.draw(.milliseconds(5), .milliseconds(100)))
        }
    }

    /// ListOffsets' word for the first offset.
    static let earliest: Int64 = -2

    private func take(_ part: FetchResponse.PartitionData, _ source: PartitionCursor.Source) {
        let before = cursor.offset
        switch cursor.take(part, from: source, found: { self.read[$0] = $1 }) {
        case .violation: return
        case .unreadable: return later(.milliseconds(200))
        case .taken: break
        }
        let log = history.log(partition)
        if isFinalPass, cursor.offset >= log.endOffset, part.highWatermark <= cursor.offset {
            isDone = true
            if let loss = log.lossViolation(read: read, from: passStart) {
                world.lose("\(partition): \(loss)", of: partition)
            }
            history.judge(log.orderViolation(), partition)
            return
        }
        let isCaughtUp = cursor.offset == before
        if isCaughtUp, !isFinalPass, isNewLife(of: source) { beginPass() }
        later(isCaughtUp ? .milliseconds(20) : random.draw(.zero, .milliseconds(20)))
    }
}
