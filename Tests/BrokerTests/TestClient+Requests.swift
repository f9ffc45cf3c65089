import FlotillaKafkaWire
import FlotillaModel
import FlotillaRecords
import struct NIOCore.ByteBuffer

/// Requests as most tests need them: one topic named `orders`, one partition, versions of the present.
extension TestClient {
    static let topic = "orders"

    /// Creates a topic; its partitions have leaders when this returns.
    @discardableResult
    func createTopic(
        _ name: String = topic,
        partitions: Int32 = 1,
        replicas: Int16 = 1,
        configs: [(String, String)] = []
    ) throws -> TopicID {
        let answer = try ask(
            CreateTopicsRequest(topics: [
                .init(
                    name: name,
                    numPartitions: partitions,
                    replicationFactor: replicas,
                    configs: configs.map { .init(name: $0.0, value: $0.1) }
                )
            ]),
            version: 7
        )
        let topic = try only(answer.topics)
        guard topic.errorCode == 0 else {
            throw TestFailure("\(name): \(topic.errorCode) \(topic.errorMessage ?? "")")
        }
        return topic.topicId
    }

    /// A Produce request for one partition.
    static func produceRequest(
        _ records: ByteBuffer?,
        to topic: String = topic,
        id: TopicID = .zero,
        partition: Int32 = 0,
        acks: Int16 = -1,
        timeout: Int32 = 30_000,
        transactionalID: String? = nil
    ) -> ProduceRequest {
        ProduceRequest(
            transactionalId: transactionalID,
            acks: acks,
            timeoutMs: timeout,
            topicData: [
                .init(
                    name: topic,
                    topicId: id,
                    partitionData: [.init(index: partition, records: records.map { Records($0) })]
                )
            ]
        )
    }

    /// Produces to one partition and returns its part of the answer.
    @discardableResult
    func produce(
        _ records: ByteBuffer?,
        to topic: String = topic,
        id: TopicID = .zero,
        partition: Int32 = 0,
        acks: Int16 = -1,
        version: Int16 = 11
    ) throws -> ProduceResponse.PartitionProduceResponse {
        let request = Self.produceRequest(
            records,
            to: topic,
            id: id,
            partition: partition,
            acks: acks
        )
        return try Self.part(of: try ask(request, version: version))
    }

    /// Puts a Produce request on the wire without waiting.
    func sendProduce(
        _ records: ByteBuffer?,
        to topic: String = topic,
        partition: Int32 = 0,
        acks: Int16 = -1,
        timeout: Int32 = 30_000
    ) throws -> Int32 {
        try send(
            Self.produceRequest(
                records,
                to: topic,
                partition: partition,
                acks: acks,
                timeout: timeout
            ),
            version: 11
        )
    }

    /// The answer to `sendProduce`.
    func produced(_ id: Int32) throws -> ProduceResponse.PartitionProduceResponse {
        try Self.part(of: answer(to: ProduceRequest.self, version: 11, id: id))
    }

    private static func part(
        of response: ProduceResponse
    ) throws -> ProduceResponse.PartitionProduceResponse {
        try only(only(response.responses).partitionResponses)
    }

    /// A Fetch request for one partition, without a session.
    static func fetchRequest(
        from offset: Int64 = 0,
        of topic: String = topic,
        id: TopicID = .zero,
        partition: Int32 = 0,
        wait: Int32 = 0,
        minBytes: Int32 = 1,
        maxBytes: Int32 = 1 << 20,
        partitionMaxBytes: Int32 = 1 << 20,
        isolation: Int8 = 0,
        epoch: Int32 = -1,
        lastEpoch: Int32 = -1,
        rack: String = ""
    ) -> FetchRequest {
        FetchRequest(
            maxWaitMs: wait,
            minBytes: minBytes,
            maxBytes: maxBytes,
            isolationLevel: isolation,
            topics: [
                .init(
                    topic: topic,
                    topicId: id,
                    partitions: [
                        .init(
                            partition: partition,
                            currentLeaderEpoch: epoch,
                            fetchOffset: offset,
                            lastFetchedEpoch: lastEpoch,
                            partitionMaxBytes: partitionMaxBytes
                        )
                    ]
                )
            ],
            rackId: rack
        )
    }

    /// Fetches one partition and returns its part of the answer.
    func fetch(
        _ request: FetchRequest = fetchRequest(),
        version: Int16 = 12
    ) throws -> FetchResponse.PartitionData {
        let answer = try ask(request, version: version)
        return try only(only(answer.responses).partitions)
    }

    /// Everything from an offset on, as values with their offsets.
    func read(
        from offset: Int64 = 0,
        of topic: String = topic,
        partition: Int32 = 0
    ) throws -> [Int64: String] {
        let part = try fetch(Self.fetchRequest(from: offset, of: topic, partition: partition))
        guard part.error == .noError else { throw TestFailure("fetch: \(part.errorCode)") }
        return try part.values()
    }

    /// Looks an offset up by time.
    func listOffset(
        _ timestamp: Int64,
        of topic: String = topic,
        partition: Int32 = 0,
        isolation: Int8 = 0,
        epoch: Int32 = -1,
        version: Int16 = 11
    ) throws -> ListOffsetsResponse.ListOffsetsPartitionResponse {
        let answer = try ask(
            ListOffsetsRequest(
                replicaId: -1,
                isolationLevel: isolation,
                topics: [
                    .init(
                        name: topic,
                        partitions: [
                            .init(
                                partitionIndex: partition,
                                currentLeaderEpoch: epoch,
                                timestamp: timestamp
                            )
                        ]
                    )
                ]
            ),
            version: version
        )
        return try only(only(answer.topics).partitions)
    }

    /// What the broker says of one topic.
    func describe(
        _ topic: String = topic,
        mayCreate: Bool = false,
        version: Int16 = 12
    ) throws -> MetadataResponse.MetadataResponseTopic {
        let answer = try ask(
            MetadataRequest(topics: [.init(name: topic)], allowAutoTopicCreation: mayCreate),
            version: version
        )
        return try only(answer.topics)
    }
}

/// The one element of a list that must have one.
func only<Element>(_ elements: [Element]) throws -> Element {
    guard elements.count == 1 else { throw TestFailure("one expected, \(elements)") }
    return elements[0]
}

/// The error that a number stands for.
func code(_ number: Int16) -> ErrorCode? { ErrorCode(rawValue: number) }

extension ProduceResponse.PartitionProduceResponse {
    var error: ErrorCode? { ErrorCode(rawValue: errorCode) }
}

extension FetchResponse.PartitionData {
    var error: ErrorCode? { ErrorCode(rawValue: errorCode) }

    /// The bytes of the records.
    var bytes: ByteBuffer { records?.buffer ?? ByteBuffer() }

    /// The batches that arrived whole.
    func batches() throws -> [RecordBatch] {
        var bytes = bytes
        var batches: [RecordBatch] = []
        while let batch = try RecordBatch.next(from: &bytes) { batches.append(batch) }
        return batches
    }

    /// The records' values by their offsets.
    func values() throws -> [Int64: String] {
        var values: [Int64: String] = [:]
        for batch in try batches() {
            var iterator = try RecordIterator(batch, using: Decompressor(), limit: 1 << 24)
            while let record = try iterator.next() {
                values[record.offset.rawValue] = record.value.map { String(buffer: $0) } ?? ""
            }
        }
        return values
    }
}

/// Batches as producers send them.
enum Batches {
    /// What the virtual clock shows at its start.
    static let now: Int64 = 1_700_000_000_000

    /// A batch with a record for each value.
    static func batch(
        _ values: String...,
        key: String? = nil,
        at timestamp: Int64 = now,
        step: Int64 = 0,
        codec: CompressionCodec = .none
    ) -> ByteBuffer {
        var builder = RecordBatchBuilder(codec: codec)
        add(values, key, timestamp, step, to: &builder)
        return builder.build(using: Compressor()).bytes
    }

    /// A batch of an idempotent producer.
    static func batch(
        _ values: String...,
        producer: Int64,
        epoch: Int16 = 0,
        sequence: Int32
    ) -> ByteBuffer {
        var builder = RecordBatchBuilder()
        builder.producerID = ProducerID(producer)
        builder.producerEpoch = epoch
        builder.baseSequence = sequence
        add(values, nil, now, 0, to: &builder)
        return builder.build(using: Compressor()).bytes
    }

    /// A batch of one record of about this size.
    static func large(_ byteCount: Int, letter: String = "x") -> ByteBuffer {
        batch(String(repeating: letter, count: byteCount))
    }

    /// A batch with bytes changed after it was sealed, and sealed again.
    static func resealed(_ batch: ByteBuffer, _ change: (inout ByteBuffer) -> Void) -> ByteBuffer {
        var bytes = batch
        change(&bytes)
        let covered = bytes.getSlice(at: bytes.readerIndex + 21, length: bytes.readableBytes - 21)
        bytes.setInteger(CRC32C.checksum(covered ?? ByteBuffer()), at: bytes.readerIndex + 17)
        return bytes
    }

    private static func add(
        _ values: [String],
        _ key: String?,
        _ timestamp: Int64,
        _ step: Int64,
        to builder: inout RecordBatchBuilder
    ) {
        for (place, value) in values.enumerated() {
            builder.append(
                key: key.map { ByteBuffer(string: $0) },
                value: ByteBuffer(string: value),
                timestamp: Timestamp(timestamp + Int64(place) * step)
            )
        }
    }
}

extension TestClient {
    /// Moves the start of a log.
    func deleteRecords(
        before offset: Int64,
        of topic: String = topic,
        partition: Int32 = 0
    ) throws -> DeleteRecordsResponse.DeleteRecordsPartitionResult {
        let answer = try ask(
            DeleteRecordsRequest(
                topics: [
                    .init(
                        name: topic,
                        partitions: [.init(partitionIndex: partition, offset: offset)]
                    )
                ],
                timeoutMs: 1_000
            ),
            version: 2
        )
        return try only(only(answer.topics).partitions)
    }
}
