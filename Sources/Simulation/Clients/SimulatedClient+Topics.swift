import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

extension SimulatedClient {
    /// Makes a topic, however often that takes.
    ///
    /// `completion`: told its id.
    func create(
        _ topic: String,
        partitions: Int32,
        replicas: Int16 = 3,
        configs: [String: String] = [:],
        _ random: inout SeededRandom,
        then completion: @escaping (TopicID) -> Void
    ) {
        let request = CreateTopicsRequest(
            topics: [
                .init(
                    name: topic,
                    numPartitions: partitions,
                    replicationFactor: replicas,
                    configs: configs.sorted { $0.key < $1.key }.map {
                        .init(name: $0.key, value: $0.value)
                    }
                )
            ],
            timeoutMs: 3_000
        )
        create(request, SeededRandom(seed: random.next()), then: completion)
    }

    private func create(
        _ request: CreateTopicsRequest,
        _ random: SeededRandom,
        then completion: @escaping (TopicID) -> Void
    ) {
        var random = random
        let broker = random.draw(0...(world.brokers.count - 1))
        ask(request, version: 7, of: broker) { [weak self] result in
            guard let self else { return }
            if case .success(let answer) = result, let topic = answer.topics.first {
                switch ErrorCode(rawValue: topic.errorCode) {
                case .noError: return completion(topic.topicId)
                // An earlier attempt was decided, and its answer lost.
                case .topicAlreadyExists: return self.find(topic.name, random, then: completion)
                default: break
                }
            }
            self.world.act("\(self.name) creates again", after: .milliseconds(300)) {
                [weak self] in
                self?.create(request, random, then: completion)
            }
        }
    }

    private func find(
        _ topic: String,
        _ random: SeededRandom,
        then completion: @escaping (TopicID) -> Void
    ) {
        var random = random
        let broker = random.draw(0...(world.brokers.count - 1))
        let request = MetadataRequest(topics: [.init(name: topic)], allowAutoTopicCreation: false)
        ask(request, version: 12, of: broker) { [weak self] result in
            guard let self else { return }
            if case .success(let answer) = result, let topic = answer.topics.first,
                topic.errorCode == 0, !topic.partitions.isEmpty
            {
                return completion(topic.topicId)
            }
            self.world.act("\(self.name) looks again", after: .milliseconds(300)) {
                [weak self] in
                self?.find(topic, random, then: completion)
            }
        }
    }
}
