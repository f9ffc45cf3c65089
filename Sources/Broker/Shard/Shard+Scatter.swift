import FlotillaCoordination
import FlotillaModel

/// A request's partitions, each asked on the shard where it lives.
extension Shard {
    /// Finds a partition by the topic's name.
    func resolve(_ name: String, _ partition: Int32) -> Result<TopicPartition, Refusal> {
        resolve(image.topic(named: name), partition, unknown: .unknownTopicOrPartition)
    }

    /// Finds a partition by the topic's id.
    func resolve(_ id: TopicID, _ partition: Int32) -> Result<TopicPartition, Refusal> {
        resolve(image.topic(id), partition, unknown: .unknownTopicId)
    }

    private func resolve(
        _ topic: TopicImage?,
        _ partition: Int32,
        unknown: ErrorCode
    ) -> Result<TopicPartition, Refusal> {
        guard let topic else {
            return .failure(Refusal(unknown, "this broker does not know the topic"))
        }
        guard partition >= 0, Int(partition) < topic.partitions.count else {
            return .failure(
                Refusal(
                    .unknownTopicOrPartition,
                    "\(topic.name) has \(topic.partitions.count) partitions"
                )
            )
        }
        return .success(TopicPartition(topic: topic.id, partition: partition))
    }

    /// Asks about partitions wherever they live, and tells the answers in the order of the items.
    ///
    /// `items`: each with its partition, or with the answer where there is nothing to ask.
    func scatter<Item, Answer: Sendable>(
        _ items: [Result<Item, Settled<Answer>>],
        partition: (Item) -> TopicPartition,
        call: ([Item]) -> ShardCall,
        answers: @escaping (ShardReply) -> [Answer]?,
        then completion: @escaping ([Answer]) -> Void
    ) {
        let gathering = Gathering<Answer>(count: items.count, completion)
        var places: [[Int]] = Array(repeating: [], count: settings.shardCount)
        var questions: [[Item]] = Array(repeating: [], count: settings.shardCount)
        for (place, item) in items.enumerated() {
            switch item {
            case .success(let item):
                let shard = settings.shard(of: partition(item))
                places[shard].append(place)
                questions[shard].append(item)
            case .failure(let settled):
                gathering.put(settled.answer, at: place)
            }
        }
        for shard in questions.indices where !questions[shard].isEmpty {
            let asked = places[shard]
            ask(shard, call(questions[shard])) { reply in
                guard let answers = answers(reply), answers.count == asked.count else {
                    preconditionFailure("a shard answers every item of a call, in order")
                }
                for (place, answer) in zip(asked, answers) { gathering.put(answer, at: place) }
            }
        }
        gathering.finishIfComplete()
    }
}

/// An answer that is known without asking.
struct Settled<Answer: Sendable>: Error {
    var answer: Answer
}
