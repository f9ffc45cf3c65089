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

    func add(_ topic: Topic) { topics.append(topic) }

    func delete(_ id: TopicID) {
        for place in topics.indices where topics[place].id == id { topics[place].isDeleted = true }
    }

    func isDeleted(_ id: TopicID) -> Bool { topics.contains { $0.id == id && $0.isDeleted } }

    /// The broker to ask about a partition: its leader if one is known, else any.
    func broker(for partition: TopicPartition) -> Int {
        leaders[partition] ?? world.random.draw(0...(world.brokers.count - 1))
    }

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
