import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// Readers of many partitions at once, each in a fetch session with one broker after the other (KIP-227).
final class SessionReading: Workload {
    private var readers: [SessionReader] = []

    init(world: World, topics: TopicDirectory, history: History) {
        var random = SeededRandom(seed: world.plan.seed ^ 0x5E55)
        for number in 0..<random.draw(1...2) {
            readers.append(
                SessionReader(
                    number,
                    seed: random.next(),
                    world: world,
                    topics: topics,
                    history: history
                )
            )
        }
    }

    func start() { readers.forEach { $0.start() } }

    func finish() { readers.forEach { $0.finish() } }

    /// Who reads for ever has nothing left to do.
    var whatIsLeft: String? { nil }
}

/// One reader: a full fetch opens its session, and each later one names only what is new.
private final class SessionReader {
    private unowned let world: World
    private let topics: TopicDirectory
    private let history: History
    private let client: SimulatedClient
    private var random: SeededRandom
    /// Whether it asks for topics by id; by name only those are asked for whose name no other topic has had.
    private let isAskingByID: Bool
    private var cursors: [TopicPartition: PartitionCursor] = [:]
    private var session: Session?
    private var isFinishing = false

    private struct Session {
        var broker: Int
        var id: Int32 = 0
        var epoch: Int32 = 0
        /// The offset that the broker was told last, by partition.
        var told: [TopicPartition: Int64] = [:]
        /// Fetches until the reader moves on to another broker.
        var fetchesLeft: Int
    }

    init(
        _ number: Int,
        seed: UInt64,
        world: World,
        topics: TopicDirectory,
        history: History
    ) {
        self.world = world
        self.topics = topics
        self.history = history
        client = SimulatedClient("session-\(number)", world: world)
        random = SeededRandom(seed: seed)
        isAskingByID = random.chance(60)
    }

    func start() { fetch() }

    func finish() { isFinishing = true }

    private func later(_ delay: Duration) {
        world.act("session", after: delay) { [weak self] in self?.fetch() }
    }

    private func fetch() {
        guard !isFinishing else { return }
        if session.map({ $0.fetchesLeft <= 0 }) ?? true {
            session = Session(
                broker: random.draw(0...(world.brokers.count - 1)),
                fetchesLeft: random.draw(3...40)
            )
        }
        guard var session else { return }
        session.fetchesLeft -= 1
        let wanted = wantedPartitions(of: session.broker)
        let changed = wanted.filter { session.told[$0.id] != cursor(of: $0.id).offset }
        let gone = session.told.keys.filter { id in !wanted.contains { $0.id == id } }.sorted()
        for item in changed { session.told[item.id] = cursor(of: item.id).offset }
        for id in gone { session.told[id] = nil }
        self.session = session
        let request = FetchRequest(
            maxWaitMs: Int32(random.draw(0...300)),
            minBytes: 1,
            maxBytes: Int32(random.draw(10_000...1_000_000)),
            sessionId: session.id,
            sessionEpoch: session.epoch,
            topics: changed.map { item in
                .init(
                    topic: item.topic.name,
                    topicId: item.topic.id,
                    partitions: [
                        .init(
                            partition: item.id.partition,
                            fetchOffset: cursor(of: item.id).offset,
                            partitionMaxBytes: 100_000
                        )
                    ]
                )
            },
            forgottenTopicsData: gone.compactMap { id in
                topics.name(of: id.topic).map {
                    .init(topic: $0, topicId: id.topic, partitions: [id.partition])
                }
            }
        )
        let source = PartitionCursor.Source(session.broker, in: world)
        let version: Int16 = isAskingByID ? 17 : 12
        client.ask(request, version: version, of: session.broker) { [weak self] in
            self?.answered($0, source)
        }
    }

    /// The partitions that the broker is believed to lead.
    private func wantedPartitions(
        of broker: Int
    ) -> [(topic: TopicDirectory.Topic, id: TopicPartition)] {
        topics.present.filter { isAskingByID || !$0.isNameShared }.flatMap { topic in
            (0..<topic.partitionCount).compactMap { number in
                let id = TopicPartition(topic: topic.id, partition: Int32(number))
                return topics.leader(of: id) == broker ? (topic, id) : nil
            }
        }
    }

    private func cursor(of id: TopicPartition) -> PartitionCursor {
        if let known = cursors[id] { return known }
        let cursor = PartitionCursor(id, world: world, history: history)
        // Others read from the start; this one begins anywhere, and what is below may be deleted any time.
        cursor.move(to: history.log(id).endOffset)
        cursors[id] = cursor
        return cursor
    }

    private func answered(
        _ result: Result<FetchResponse, ClientFailure>,
        _ source: PartitionCursor.Source
    ) {
        guard case .success(let answer) = result, answer.errorCode == 0, var session else {
            // Whatever became of the session, the next fetch opens another one.
            self.session = nil
            topics.refresh()
            return later(random.draw(.milliseconds(5), .milliseconds(100)))
        }
        session.id = answer.sessionId
        // Without a session each fetch is a full one.
        session.epoch = answer.sessionId == 0 ? 0 : session.epoch + 1
        if answer.sessionId == 0 { session.told.removeAll() }
        self.session = session
        for topic in answer.responses {
            for part in topic.partitions { take(part, of: topic, source) }
        }
        later(random.draw(.zero, .milliseconds(30)))
    }

    private func take(
        _ part: FetchResponse.PartitionData,
        of topic: FetchResponse.FetchableTopicResponse,
        _ source: PartitionCursor.Source
    ) {
        // Only what was asked for counts.
        guard
            let id = session?.told.keys.first(where: {
                $0.partition == part.partitionIndex
                    && (isAskingByID
                        ? $0.topic == topic.topicId : topics.name(of: $0.topic) == topic.topic)
            }), let cursor = cursors[id]
        else { return }
        switch ErrorCode(rawValue: part.errorCode) {
        case .noError: _ = cursor.take(part, from: source)
        case .offsetOutOfRange:
            // Only what somebody asked to delete may be gone; who does not lead any more may not have the rest.
            if cursor.offset < history.log(id).askedStart {
                cursor.move(to: history.log(id).endOffset)
            }
            topics.refresh()
        default: topics.refresh()
        }
    }
}
