import DequeModule
import FlotillaKafkaWire
public import FlotillaModel
import FlotillaRecords
public import NIOCore
import Synchronization

/// A record that was read.
public struct ConsumerRecord: Hashable, Sendable {
    /// Its partition.
    public var partition: NamedPartition
    /// Its place there.
    public var offset: Offset
    /// When it happened, or was appended where the topic says so.
    public var timestamp: Timestamp
    /// Whether the broker gave the timestamp.
    public var isLogAppendTime: Bool
    /// The key.
    public var key: ByteBuffer?
    /// The value; nil is a tombstone.
    public var value: ByteBuffer?
    /// The headers in their order.
    public var headers: [Header]

    /// A record with all its parts.
    public init(
        partition: NamedPartition,
        offset: Offset,
        timestamp: Timestamp,
        isLogAppendTime: Bool = false,
        key: ByteBuffer?,
        value: ByteBuffer?,
        headers: [Header] = []
    ) {
        self.partition = partition
        self.offset = offset
        self.timestamp = timestamp
        self.isLogAppendTime = isLogAppendTime
        self.key = key
        self.value = value
        self.headers = headers
    }
}

/// What one fetch brought of one partition.
public struct ConsumedRecords: Sendable {
    /// The partition.
    public var partition: NamedPartition
    /// In the order of their offsets; may be empty where only control records or gaps were passed.
    public var records: [ConsumerRecord]
    /// The records of the batches that came, also those before the offset asked for.
    public var recordCount = 0
    /// The bytes of the batches as they came.
    public var byteCount = 0
    /// Where reading goes on.
    public var nextOffset: Offset
    /// One past the last record that is committed, at the time of the fetch.
    public var highWatermark: Offset
    /// The first offset that can still be read, nil where the broker is too old to say.
    public var logStartOffset: Offset?
    /// Which assignment of the partition it was read under.
    var ticket = 0
}

/// Which records of transactions a consumer sees.
public enum IsolationLevel: Int8, Hashable, Sendable {
    /// All.
    case readUncommitted = 0
    /// Those of committed transactions, and those outside of transactions.
    case readCommitted = 1
}

/// How much a consumer asks for, and how long it waits.
public struct ConsumerConfiguration: Sendable {
    /// How long a broker may wait for `minimumByteCount`.
    public var maximumWait = Duration.milliseconds(500)
    /// A broker answers at once when it has this much.
    public var minimumByteCount = 1
    /// The most bytes of an answer; a single batch may be larger.
    public var maximumByteCount = 16 << 20
    /// The most bytes of one partition in an answer; a single batch may be larger.
    public var maximumPartitionByteCount = 4 << 20
    /// Which records of transactions to return.
    public var isolationLevel = IsolationLevel.readCommitted
    /// Where to go on when an offset does not exist any more; nil throws instead.
    public var resetsTo: StartOffset? = .earliest
    /// The most bytes that one batch may unfold to.
    public var maximumUnfoldedByteCount = 64 << 20

    /// Whether to read the records of batches; else only `recordCount` and `byteCount` tell of them.
    public var decodesRecords = true
    /// The rack or zone that this consumer stands in; from version 2.4 on, brokers have it read from a replica there.
    public var rack: String?

    /// The defaults.
    public init() {}
}

/// A place in a partition, named instead of numbered.
public enum StartOffset: Hashable, Sendable {
    /// The first record that can be read.
    case earliest
    /// Behind the last record.
    case latest
    /// The first record at or after a time, in milliseconds since 1970; the end where there is none.
    case time(Timestamp)
    /// A number.
    case offset(Offset)
}

/// Reads assigned partitions from chosen offsets.
///
/// ```swift
/// let consumer = try await Consumer(client, [NamedPartition(topic: "greetings", index: 0): .earliest])
/// for try await batch in consumer {
///     for record in batch.records { print(record.offset) }
/// }
/// ```
///
/// One fetch is on its way to each broker while the last one is being read.
public actor Consumer: AsyncSequence {
    /// What the sequence gives.
    public typealias Element = ConsumedRecords

    private static let counter = Atomic<Int>(0)

    /// Where reading one partition stands.
    private struct Position {
        var offset: Offset
        var leader: BrokerID?
        /// The replica to read in the leader's place, and until when.
        var near: (replica: BrokerID, until: ContinuousClock.Instant)?
        var isInFlight = false
        /// Another one after each seek: an answer to a question from before is dropped.
        var generation = 0
        var isPaused = false
        /// What the records are to carry, so that those from before a new assignment are known.
        var ticket = 0

        /// Whom to ask for records at a time.
        func source(at time: ContinuousClock.Instant) -> BrokerID? {
            if let near, time < near.until { return near.replica }
            return leader
        }
    }

    /// What a waiting `next()` hears of.
    private enum Event: Sendable {
        case answer(Answer)
        case woken
    }

    /// What the loop hands over.
    private struct Answer: Sendable {
        var broker: BrokerID
        var asked: [(partition: NamedPartition, generation: Int)]
        var result: Result<FetchResponse, ClientError>
    }

    private let client: KafkaClient
    private let configuration: ConsumerConfiguration
    private let number: Int
    private let inbox = Inbox<Event>()
    private let decoder: BatchDecoder
    private var positions: [NamedPartition: Position] = [:]
    private var busyBrokers: Set<BrokerID> = []
    private var decoded: Deque<ConsumedRecords> = []
    private var backoff: Backoff
    private var isRefreshDue = true
    private var refreshedAt = ContinuousClock.now
    private var generationCount = 0

    /// Starts at the given places; names such as `.latest` are looked up now.
    public init(
        _ client: KafkaClient,
        _ assignment: [NamedPartition: StartOffset],
        _ configuration: ConsumerConfiguration = ConsumerConfiguration()
    ) async throws(ClientError) {
        self.init(client, configuration)
        let offsets = try await Admin(client).offsets(
            assignment,
            isolationLevel: configuration.isolationLevel
        )
        for (partition, offset) in offsets { positions[partition] = Position(offset: offset) }
    }

    /// Begins with nothing; see `assign(_:ticket:)`.
    init(_ client: KafkaClient, _ configuration: ConsumerConfiguration) {
        self.client = client
        self.configuration = configuration
        number = Self.counter.add(1, ordering: .relaxed).newValue
        backoff = Backoff(client.configuration)
        decoder = BatchDecoder(
            limit: configuration.maximumUnfoldedByteCount,
            isolationLevel: configuration.isolationLevel,
            isReading: configuration.decodesRecords
        )
    }

    /// Reads these partitions too, from these offsets on; their records carry `ticket`.
    func assign(_ offsets: [NamedPartition: Offset], ticket: Int) {
        drop(offsets.keys)
        for (partition, offset) in offsets {
            generationCount += 1
            positions[partition] = Position(
                offset: offset,
                generation: generationCount,
                ticket: ticket
            )
        }
        isRefreshDue = true
        wake()
    }

    /// Reads these partitions no more, and drops what was fetched of them.
    func drop(_ partitions: some Collection<NamedPartition> & Sendable) {
        for partition in partitions { positions[partition] = nil }
        decoded.removeAll { positions[$0.partition] == nil }
    }

    /// Goes on elsewhere in a partition; what was fetched already of it is dropped.
    public func seek(_ partition: NamedPartition, to place: StartOffset) async throws(ClientError) {
        let found = try await find(place, in: partition)
        guard positions[partition] != nil, let offset = found else {
            throw .noSuchPartition(partition)
        }
        move(partition, to: offset)
    }

    private func find(
        _ place: StartOffset,
        in partition: NamedPartition
    ) async throws(ClientError) -> Offset? {
        try await Admin(client).offsets(
            [partition: place],
            isolationLevel: configuration.isolationLevel
        )[partition]
    }

    private func move(_ partition: NamedPartition, to offset: Offset) {
        generationCount += 1
        positions[partition]?.offset = offset
        positions[partition]?.generation = generationCount
        decoded.removeAll { $0.partition == partition }
        wake()
    }

    /// Stops fetching a partition, for good or until `resume`; what was fetched already still comes.
    public func pause(_ partition: NamedPartition) {
        positions[partition]?.isPaused = true
    }

    /// Fetches a partition again.
    public func resume(_ partition: NamedPartition) {
        positions[partition]?.isPaused = false
        wake()
    }

    /// Has a `next()` that waits look again at what there is to read.
    nonisolated func wake() {
        inbox.put(.woken)
    }

    /// Where reading each partition goes on, behind what `next()` has returned or holds ready.
    public var offsets: [NamedPartition: Offset] {
        positions.mapValues(\.offset)
    }

    /// Waits for the next records of any partition.
    ///
    /// - Returns: never nil: a partition has no last record.
    public func next() async throws(ClientError) -> ConsumedRecords? {
        while true {
            if let records = try await nextOrWoken() { return records }
        }
    }

    /// The same, but nil as soon as somebody calls `wake()`.
    func nextOrWoken() async throws(ClientError) -> ConsumedRecords? {
        while true {
            // Before what is ready leaves: an error must not take it along.
            try await fetch()
            if let ready = decoded.popFirst() { return ready }
            if busyBrokers.isEmpty, positions.values.contains(where: { !$0.isPaused }) {
                // No leader is known.
                try await KafkaClient.sleep(backoff.next())
                continue
            }
            guard let event = await inbox.next() else { throw .cancelled }
            switch event {
            case .answer(let answer): try await take(answer)
            case .woken: return nil
            }
        }
    }

    /// Ends the consumer's connections; a `next()` that waits throws `.closed`.
    public func close() async {
        await client.close(.fetch(consumer: number))
    }

    // MARK: Asking

    /// Sends a fetch to every broker to read from that has none.
    private func fetch() async throws(ClientError) {
        let age = ContinuousClock.now - refreshedAt
        if isRefreshDue || age > client.configuration.metadataMaximumAge { try await refresh() }
        guard decoded.count < 64 else { return }
        var wanted: [BrokerID: [NamedPartition]] = [:]
        let now = ContinuousClock.now
        for (partition, position) in positions where !position.isPaused && !position.isInFlight {
            guard let source = position.source(at: now) else {
                isRefreshDue = true
                continue
            }
            if !busyBrokers.contains(source) { wanted[source, default: []].append(partition) }
        }
        for (broker, partitions) in wanted { send(partitions.shuffled(), to: broker) }
    }

    private func send(_ partitions: [NamedPartition], to broker: BrokerID) {
        var topics: [String: [FetchRequest.FetchPartition]] = [:]
        var asked: [(partition: NamedPartition, generation: Int)] = []
        for partition in partitions {
            guard let position = positions[partition] else { continue }
            positions[partition]?.isInFlight = true
            asked.append((partition, position.generation))
            topics[partition.topic, default: []].append(
                FetchRequest.FetchPartition(
                    partition: partition.index,
                    fetchOffset: position.offset.rawValue,
                    partitionMaxBytes: Int32(clamping: configuration.maximumPartitionByteCount)
                )
            )
        }
        busyBrokers.insert(broker)
        let request = FetchRequest(
            replicaId: -1,
            maxWaitMs: Int32(clamping: configuration.maximumWait.milliseconds),
            minBytes: Int32(clamping: configuration.minimumByteCount),
            maxBytes: Int32(clamping: configuration.maximumByteCount),
            isolationLevel: configuration.isolationLevel.rawValue,
            topics: topics.map { FetchRequest.FetchTopic(topic: $0, partitions: $1) },
            rackId: configuration.rack ?? ""
        )
        let timeout = TimeAmount(client.configuration.requestTimeout + configuration.maximumWait)
        let purpose = Core.Purpose.fetch(consumer: number)
        client.loop.execute { [client, inbox, asked] in
            let core = client.loopCore
            core.send(to: .broker(broker), for: purpose, limit: 12, timeout: timeout) { _ in
                request
            } complete: { result in
                inbox.put(.answer(Answer(broker: broker, asked: asked, result: result)))
            }
        }
    }

    // MARK: Answers

    private func take(_ answer: Answer) async throws(ClientError) {
        busyBrokers.remove(answer.broker)
        for (partition, _) in answer.asked { positions[partition]?.isInFlight = false }
        switch answer.result {
        case .failure(let error):
            guard error.isRetriable else { throw error }
            for (partition, _) in answer.asked { leaveReplica(partition, answer.broker) }
            isRefreshDue = true
            try await KafkaClient.sleep(backoff.next())
        case .success(let response):
            if let error = ClientError(code: response.errorCode, subject: "fetch") {
                guard error.isRetriable else { throw error }
                return try await KafkaClient.sleep(backoff.next())
            }
            let generations = Dictionary(
                uniqueKeysWithValues: answer.asked.map { ($0.partition, $0.generation) }
            )
            for topic in response.responses {
                for data in topic.partitions {
                    let partition = NamedPartition(topic: topic.topic, index: data.partitionIndex)
                    guard let position = positions[partition],
                        position.generation == generations[partition]
                    else {
                        continue
                    }
                    try await take(data, of: partition, at: position.offset, from: answer.broker)
                }
            }
        }
    }

    private func take(
        _ data: FetchResponse.PartitionData,
        of partition: NamedPartition,
        at offset: Offset,
        from broker: BrokerID
    ) async throws(ClientError) {
        let code = ErrorCode(rawValue: data.errorCode) ?? .unknownServerError
        let wasReplica = code != .noError && leaveReplica(partition, broker)
        if code == .offsetOutOfRange {
            // A replica may lag or have been cleaned earlier; only the leader knows.
            guard !wasReplica else { return }
            guard let place = configuration.resetsTo else {
                throw .refused(code, subject: partition.description, message: "offset \(offset)")
            }
            let generation = positions[partition]?.generation
            guard let found = try await find(place, in: partition),
                positions[partition]?.generation == generation
            else { return }
            return move(partition, to: found)
        }
        if let error = ClientError(code: data.errorCode, subject: partition.description) {
            guard error.isRetriable else { throw error }
            positions[partition]?.leader = nil
            isRefreshDue = true
            return try await KafkaClient.sleep(backoff.next())
        }
        backoff.reset()
        if data.preferredReadReplica >= 0 {
            positions[partition]?.near = (
                BrokerID(data.preferredReadReplica),
                ContinuousClock.now + client.configuration.metadataMaximumAge
            )
            return
        }
        guard var consumed = try decoder.decode(data, of: partition, from: offset) else { return }
        consumed.ticket = positions[partition]?.ticket ?? 0
        positions[partition]?.offset = consumed.nextOffset
        decoded.append(consumed)
    }

    /// Goes back to the leader, if this is the replica that was read in its place.
    @discardableResult
    private func leaveReplica(_ partition: NamedPartition, _ broker: BrokerID) -> Bool {
        guard positions[partition]?.near?.replica == broker else { return false }
        positions[partition]?.near = nil
        return true
    }

    private func refresh() async throws(ClientError) {
        isRefreshDue = false
        refreshedAt = .now
        let topics = Set(positions.filter { !$1.isPaused }.keys.map(\.topic)).sorted()
        guard !topics.isEmpty else { return }
        let metadata = try await client.metadata(topics: topics)
        for name in topics {
            guard let topic = metadata.topic(name), topic.error == .noError else {
                let code = metadata.topic(name)?.error ?? .unknownTopicOrPartition
                // A topic that was deleted stays away; a leader that is missing comes back.
                if code == .unknownTopicOrPartition { throw .noSuchTopic(name) }
                guard code.isRetriable else {
                    throw .refused(code, subject: "topic \(name)", message: nil)
                }
                continue
            }
            for partition in topic.partitions {
                positions[NamedPartition(topic: name, index: partition.index)]?.leader =
                    partition.leader
            }
        }
    }

    /// Reads on from where the consumer stands.
    public nonisolated func makeAsyncIterator() -> Iterator {
        Iterator(consumer: self)
    }

    /// Reads a consumer batch by batch.
    public struct Iterator: AsyncIteratorProtocol {
        let consumer: Consumer

        /// Waits for the next records.
        public func next() async throws(ClientError) -> ConsumedRecords? {
            try await consumer.next()
        }

        /// Waits for the next records.
        public func next(isolation actor: isolated (any Actor)?) async throws(ClientError)
            -> ConsumedRecords?
        {
            try await consumer.next()
        }
    }
}

extension Duration {
    /// Whole milliseconds.
    var milliseconds: Int64 {
        components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000
    }
}
