import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// What clients know of topics: told by whoever created one, and by brokers.
final class TopicDirectory {
    /// A topic that clients use.
    struct Topic {
        var name: String
        var id: TopicID
        var partitionCount: Int
        var isDeleted = false
        /// Whether nothing of it may be deleted: somebody processes every record.
        var isKept = false
        /// Whether its name was another topic's before, or may be another one's later: clients ask for it by its id.
        var isNameShared = false
        /// From when on nobody writes to it any more, so that its groups come to rest while faults go on; nil for never.
        var restsFrom: Instant?

        /// The version of Produce that names it rightly: from 13 on by its id.
        var produceVersion: Int16 { isNameShared ? 13 : 11 }

        /// The version of Fetch that names it rightly: from 13 on by its id.
        var fetchVersion: Int16 { isNameShared ? 17 : 12 }
    }

    private unowned let world: World
    private let client: SimulatedClient
    private(set) var topics: [Topic] = []
    /// Who leads which partition, as far as was heard.
    private var leaders: [TopicPartition: Int] = [:]
    private var isAsking = false

    init(world: World) {
        self.world = world
        client = SimulatedClient("directory", world: world)
    }

    /// The topics that are there.
    var present: [Topic] { topics.filter { !$0.isDeleted } }

    /// The topics that producers write to.
    var busy: [Topic] {
        present.filter { topic in topic.restsFrom.map { $0 > world.now } ?? true }
    }

    func add(_ topic: Topic) {
        var topic = topic
        if world.random.chance(40) {
            topic.restsFrom = world.now + world.random.draw(.seconds(1), .seconds(8))
        }
        topics.append(topic)
    }

    func delete(_ id: TopicID) {
        for place in topics.indices where topics[place].id == id { topics[place].isDeleted = true }
    }

    /// Whether a topic is or was there.
    func knows(_ id: TopicID) -> Bool { topics.contains { $0.id == id } }

    func isDeleted(_ id: TopicID) -> Bool { topics.contains { $0.id == id && $0.isDeleted } }

    /// The broker to ask about a partition: its leader if one is known, else any.
    func broker(for partition: TopicPartition) -> Int {
        leaders[partition] ?? world.random.draw(0...(world.brokers.count - 1))
    }

    /// The leader of a partition, as far as was heard.
    func leader(of partition: TopicPartition) -> Int? { leaders[partition] }

    func name(of id: TopicID) -> String? { topics.first { $0.id == id }?.name }

    /// A broker said that it does not lead, or did not answer.
    func forget(_ partition: TopicPartition) {
        leaders[partition] = nil
        refresh()
    }

    /// Asks some broker who leads what.
    func refresh() {
        guard !isAsking else { return }
        isAsking = true
        let broker = world.random.draw(0...(world.brokers.count - 1))
        client.ask(MetadataRequest(topics: nil), version: 12, of: broker, within: .seconds(1)) {
            [unowned self] result in
            self.isAsking = false
            guard case .success(let answer) = result else { return }
            for topic in answer.topics {
                for part in topic.partitions where part.leaderId > 0 {
                    let id = TopicPartition(topic: topic.topicId, partition: part.partitionIndex)
                    self.leaders[id] = Int(part.leaderId) - 1
                }
            }
        }
    }
}
