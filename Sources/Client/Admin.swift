import FlotillaKafkaWire
public import FlotillaModel
import NIOCore

/// Administration of a cluster: topics, partitions, settings, offsets.
///
/// Calls about several things return an error for each that failed, so that the others are not lost.
public struct Admin: Sendable {
    let client: KafkaClient

    /// Administration over a client's connections.
    public init(_ client: KafkaClient) {
        self.client = client
    }

    /// How long a broker may wait for what it is asked: a little less than we wait, so that it can still say what it
    /// waited for.
    var timeoutMillis: Int32 {
        let left = client.deadline() - .now()
        return Int32(clamping: max(1, left.nanoseconds / 1_000_000 * 4 / 5))
    }

    /// A topic to create.
    public struct NewTopic: Hashable, Sendable {
        /// The name.
        public var name: String
        /// How many partitions; nil for the cluster's default.
        public var partitionCount: Int32?
        /// How many copies of each; nil for the cluster's default.
        public var replicationFactor: Int16?
        /// Settings by Kafka's names.
        public var configs: [String: String]

        /// A topic with everything by default.
        public init(
            name: String,
            partitionCount: Int32? = nil,
            replicationFactor: Int16? = nil,
            configs: [String: String] = [:]
        ) {
            self.name = name
            self.partitionCount = partitionCount
            self.replicationFactor = replicationFactor
            self.configs = configs
        }
    }

    // MARK: Topics

    /// Creates topics, or only checks whether that would be possible; nil stands for success.
    public func createTopics(
        _ topics: [NewTopic],
        isDryRun: Bool = false
    ) async throws(ClientError) -> [String: ClientError?] {
        let timeout = timeoutMillis
        let response = try await onController { (version: Int16) in
            CreateTopicsRequest(
                topics: topics.map { topic in
                    // "By default" is -1 from version 4 on; before that a number is needed.
                    CreateTopicsRequest.CreatableTopic(
                        name: topic.name,
                        numPartitions: topic.partitionCount ?? (version >= 4 ? -1 : 1),
                        replicationFactor: topic.replicationFactor ?? (version >= 4 ? -1 : 1),
                        configs: topic.configs.sorted { $0.key < $1.key }.map {
                            .init(name: $0.key, value: $0.value)
                        }
                    )
                },
                timeoutMs: timeout,
                validateOnly: isDryRun
            )
        } needsRetry: { response in
            response.topics.contains { $0.errorCode == ErrorCode.notController.rawValue }
        }
        return Self.outcomes(response.topics.map { ($0.name, $0.errorCode, $0.errorMessage) })
    }

    /// Deletes topics with everything in them; nil stands for success.
    public func deleteTopics(_ names: [String]) async throws(ClientError) -> [String: ClientError?]
    {
        let timeout = timeoutMillis
        let response = try await onController { (version: Int16) in
            version >= 6
                ? DeleteTopicsRequest(topics: names.map { .init(name: $0) }, timeoutMs: timeout)
                : DeleteTopicsRequest(topicNames: names, timeoutMs: timeout)
        } needsRetry: { response in
            response.responses.contains { $0.errorCode == ErrorCode.notController.rawValue }
        }
        return Self.outcomes(
            response.responses.map { ($0.name ?? "", $0.errorCode, $0.errorMessage) }
        )
    }

    /// Raises a topic's number of partitions to `count`.
    ///
    /// Keys move: a key's partition depends on the number of partitions.
    public func createPartitions(
        topic: String,
        count: Int32,
        isDryRun: Bool = false
    ) async throws(ClientError) {
        let timeout = timeoutMillis
        let response = try await onController { (_: Int16) in
            CreatePartitionsRequest(
                topics: [.init(name: topic, count: count, assignments: nil)],
                timeoutMs: timeout,
                validateOnly: isDryRun
            )
        } needsRetry: { response in
            response.results.contains { $0.errorCode == ErrorCode.notController.rawValue }
        }
        for result in response.results {
            if let error = ClientError(
                code: result.errorCode,
                topic: topic,
                message: result.errorMessage
            ) {
                throw error
            }
        }
    }

    private static func outcomes(_ results: [(String, Int16, String?)]) -> [String: ClientError?] {
        var outcomes: [String: ClientError?] = [:]
        for (name, code, message) in results {
            outcomes.updateValue(
                ClientError(code: code, topic: name, message: message),
                forKey: name
            )
        }
        return outcomes
    }

    /// Asks the controller, and the next one where it has moved.
    func onController<Request: KafkaRequest>(
        _ make: @escaping @Sendable (Int16) -> Request,
        needsRetry: (Request.Response) -> Bool
    ) async throws(ClientError) -> Request.Response {
        var last: Request.Response?
        do throws(ClientError) {
            return try await client.retrying { () async throws(ClientError) in
                let response = try await client.request(to: .controller, make)
                last = nil
                if needsRetry(response) {
                    _ = try await client.metadata(topics: [])
                    last = response
                    throw .refused(.notController, subject: Request.apiKey.name, message: nil)
                }
                return response
            }
        } catch {
            // It says in its own words why nobody decided.
            if case .refused(.notController, _, _) = error, let last { return last }
            throw error
        }
    }

    // MARK: Offsets

    /// Finds places in partitions.
    ///
    /// - Throws: the first partition's error where one fails.
    public func offsets(
        _ places: [NamedPartition: StartOffset],
        isolationLevel: IsolationLevel = .readUncommitted
    ) async throws(ClientError) -> [NamedPartition: Offset] {
        var found: [NamedPartition: Offset] = [:]
        var wanted: [NamedPartition: Int64] = [:]
        for (partition, place) in places {
            switch place {
            case .offset(let offset): found[partition] = offset
            case .earliest: wanted[partition] = -2
            case .latest: wanted[partition] = -1
            case .time(let time): wanted[partition] = time.rawValue
            }
        }
        var missing: [NamedPartition: Int64] = [:]
        for (partition, answer) in try await listOffsets(wanted, isolationLevel) {
            if answer < 0 { missing[partition] = -1 } else { found[partition] = Offset(answer) }
        }
        // No record at or after the time: the end.
        for (partition, answer) in try await listOffsets(missing, isolationLevel) {
            found[partition] = Offset(max(answer, 0))
        }
        return found
    }

    private func listOffsets(
        _ wanted: [NamedPartition: Int64],
        _ isolationLevel: IsolationLevel
    ) async throws(ClientError) -> [NamedPartition: Int64] {
        guard !wanted.isEmpty else { return [:] }
        return try await client.retrying { () async throws(ClientError) in
            var found: [NamedPartition: Int64] = [:]
            for (leader, partitions) in try await leaders(of: Array(wanted.keys)) {
                var topics: [String: [ListOffsetsRequest.ListOffsetsPartition]] = [:]
                for partition in partitions {
                    topics[partition.topic, default: []].append(
                        .init(partitionIndex: partition.index, timestamp: wanted[partition] ?? -1)
                    )
                }
                let list = topics.map {
                    ListOffsetsRequest.ListOffsetsTopic(name: $0, partitions: $1)
                }
                let response = try await client.request(to: .broker(leader), limit: 10) { version in
                    ListOffsetsRequest(
                        replicaId: -1,
                        isolationLevel: version >= 2 ? isolationLevel.rawValue : 0,
                        topics: list
                    )
                }
                for topic in response.topics {
                    for answer in topic.partitions {
                        let partition = NamedPartition(
                            topic: topic.name,
                            index: answer.partitionIndex
                        )
                        if let error = ClientError(
                            code: answer.errorCode,
                            subject: partition.description
                        ) {
                            throw error
                        }
                        found[partition] = answer.offset
                    }
                }
            }
            return found
        }
    }

    /// Groups partitions by who leads them.
    private func leaders(
        of partitions: [NamedPartition]
    ) async throws(ClientError) -> [BrokerID: [NamedPartition]] {
        let metadata = try await client.metadata(topics: Set(partitions.map(\.topic)).sorted())
        var leaders: [BrokerID: [NamedPartition]] = [:]
        for partition in partitions.sorted() {
            guard let topic = metadata.topic(partition.topic), topic.error == .noError else {
                let code = metadata.topic(partition.topic)?.error ?? .unknownTopicOrPartition
                throw .refused(code, subject: "topic \(partition.topic)", message: nil)
            }
            guard let known = topic.partitions.first(where: { $0.index == partition.index }) else {
                throw .noSuchPartition(partition)
            }
            guard let leader = known.leader else {
                throw .refused(.leaderNotAvailable, subject: partition.description, message: nil)
            }
            leaders[leader, default: []].append(partition)
        }
        return leaders
    }

    /// Deletes the records before the given offsets, and returns the new first offsets.
    ///
    /// `.latest` deletes all.
    public func deleteRecords(
        _ places: [NamedPartition: StartOffset]
    ) async throws(ClientError) -> [NamedPartition: Offset] {
        var offsets = try await offsets(places)
        for (partition, place) in places where place == .latest { offsets[partition] = Offset(-1) }
        let timeout = timeoutMillis
        var starts: [NamedPartition: Offset] = [:]
        for (leader, partitions) in try await leaders(of: Array(places.keys)) {
            var topics: [String: [DeleteRecordsRequest.DeleteRecordsPartition]] = [:]
            for partition in partitions {
                guard let offset = offsets[partition] else { continue }
                topics[partition.topic, default: []].append(
                    .init(partitionIndex: partition.index, offset: offset.rawValue)
                )
            }
            let list = topics.map {
                DeleteRecordsRequest.DeleteRecordsTopic(name: $0, partitions: $1)
            }
            let response = try await client.request(to: .broker(leader)) { _ in
                DeleteRecordsRequest(topics: list, timeoutMs: timeout)
            }
            for topic in response.topics {
                for answer in topic.partitions {
                    let partition = NamedPartition(topic: topic.name, index: answer.partitionIndex)
                    if let error = ClientError(
                        code: answer.errorCode,
                        subject: partition.description
                    ) {
                        throw error
                    }
                    starts[partition] = Offset(answer.lowWatermark)
                }
            }
        }
        return starts
    }
}
