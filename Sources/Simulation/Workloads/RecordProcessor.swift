import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// Reads records for a member of a group and processes them; what it commits then is where it goes on.
final class RecordProcessor {
    private unowned let world: World
    private let topic: TopicDirectory.Topic
    private let group: String
    private let topics: TopicDirectory
    private let history: History
    private let checker: ProcessingChecker
    private let client: SimulatedClient

    init(
        _ topic: TopicDirectory.Topic,
        of group: String,
        name: String,
        world: World,
        topics: TopicDirectory,
        history: History,
        checker: ProcessingChecker
    ) {
        self.world = world
        self.topic = topic
        self.group = group
        self.topics = topics
        self.history = history
        self.checker = checker
        client = SimulatedClient("\(name), reading", world: world)
    }

    /// Processes some records of each partition, one after the other.
    ///
    /// - Parameters:
    ///   - positions: where to go on, by partition; -1 where nothing was committed.
    ///   - completion: told where to go on then; what could not be read is left out.
    func process(
        _ positions: [Int32: Int64],
        then completion: @escaping ([Int32: Int64]) -> Void
    ) {
        process(positions.sorted { $0.key < $1.key }[...], [:], then: completion)
    }

    private func process(
        _ positions: ArraySlice<(key: Int32, value: Int64)>,
        _ ends: [Int32: Int64],
        then completion: @escaping ([Int32: Int64]) -> Void
    ) {
        guard let next = positions.first else { return completion(ends) }
        fetch(next.key, from: max(0, next.value)) { [weak self] end in
            var ends = ends
            ends[next.key] = end
            self?.process(positions.dropFirst(), ends, then: completion)
        }
    }

    private func fetch(
        _ number: Int32,
        from offset: Int64,
        then completion: @escaping (Int64?) -> Void
    ) {
        let partition = TopicPartition(topic: topic.id, partition: number)
        let request = FetchRequest(
            maxWaitMs: 0,
            minBytes: 1,
            maxBytes: 1 << 20,
            topics: [
                .init(
                    topic: topic.name,
                    partitions: [
                        .init(
                            partition: number,
                            fetchOffset: offset,
                            partitionMaxBytes: 1 << 20
                        )
                    ]
                )
            ]
        )
        let broker = topics.broker(for: partition)
        let source = PartitionCursor.Source(broker, in: world)
        client.ask(request, version: 12, of: broker, within: .seconds(1)) { [weak self] result in
            guard let self else { return }
            guard case .success(let answer) = result,
                let part = answer.responses.first?.partitions.first
            else {
                self.topics.forget(partition)
                return completion(nil)
            }
            completion(self.take(part, of: partition, at: offset, from: source))
        }
    }

    /// - Returns: where to go on; nil if nothing could be read.
    private func take(
        _ part: FetchResponse.PartitionData,
        of partition: TopicPartition,
        at offset: Int64,
        from source: PartitionCursor.Source
    ) -> Int64? {
        switch ErrorCode(rawValue: part.errorCode) {
        case .noError: break
        case .offsetOutOfRange:
            // Nothing of the topic is ever deleted, and what was processed was committed.
            world.lose(
                "\(partition): there is nothing at \(offset), where \(group) is",
                of: partition
            )
            return nil
        default:
            topics.forget(partition)
            return nil
        }
        let cursor = PartitionCursor(partition, world: world, history: history)
        cursor.move(to: offset)
        let outcome = cursor.take(part, from: source) { [unowned self] place, _ in
            self.checker.processed(place, of: partition, by: self.group)
        }
        guard case .taken = outcome else { return nil }
        if cursor.offset > offset { checker.commits(cursor.offset, of: partition, by: group) }
        return cursor.offset
    }
}
