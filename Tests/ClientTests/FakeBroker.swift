import FlotillaKafkaWire
import FlotillaModel
import FlotillaRecords
import NIOCore
import NIOPosix
import Synchronization

/// A broker in memory that goes wrong on demand: it checks sequence numbers as Kafka does, and may break the
/// connection before or after it appended, or refuse with an error that passes.
final class FakeBroker: Sendable {
    /// How often things go wrong, in percent of the Produce requests.
    struct Faults: Sendable {
        var dropsBefore = 0
        var dropsAfter = 0
        var refusals = 0
        /// How many of the next answers to Metadata name a controller that they do not list.
        var strangeControllers = 0
    }

    /// What a producer has written to a partition.
    private struct Sequence {
        var epoch: Int16
        /// What must come next; nil where anything may be the first.
        var next: Int32?
        var recent: [(base: Int32, count: Int32, offset: Int64)] = []
    }

    private struct SequenceKey: Hashable {
        var producer: ProducerID
        var partition: Int32
    }

    private struct State {
        var logs: [[(offset: Int64, batch: RecordBatch)]]
        var ends: [Int64]
        var sequences: [SequenceKey: Sequence] = [:]
        var producerCount: Int64 = 0
        var random: SystemRandomNumberGenerator = SystemRandomNumberGenerator()
        var faults = Faults()
        var requests: [String] = []
        var fetches: [Fetch] = []
        var replica: Int32?
        var fetchScript: [FetchStep] = []
        var produceScript: [ProduceStep] = []
        var leader: (id: Int32, epoch: Int32) = (1, 0)
        /// Connections on which a request was left without an answer.
        var silent: [any Channel] = []
    }

    /// A fetch that came: on which connection, from where, and what it said of the rack.
    struct Fetch: Hashable, Sendable {
        var connection: ObjectIdentifier
        var offset: Int64
        var rack: String
    }

    /// What becomes of the next fetch, in place of records.
    enum FetchStep: Sendable {
        case records
        case error(Int16)
        case sentOn(to: Int32)
    }

    /// What becomes of the next Produce request.
    enum ProduceStep: Sendable {
        /// Appended, and the connection ends.
        case loseAnswer
        /// Neither looked at nor answered; the connection stays.
        case silence
        /// The partition's first batch ever is refused, another is appended.
        case refuseOldest
    }

    let address: BrokerPort
    /// The newest version of ApiVersions that it knows.
    private let apiVersionsLimit: Int16
    /// What a test answers itself: the body and its version in, the answer out, or nothing.
    private let extras: [APIKey: Extra]
    private let state: Mutex<State>
    private let channel: any Channel

    /// Where it listens.
    struct BrokerPort: Sendable {
        var port: Int
    }

    static let topic = "t"

    typealias Extra = @Sendable (ByteBuffer, Int16) throws -> (any KafkaResponse)?

    private init(
        channel: any Channel,
        holder: Holder,
        partitions: Int,
        apiVersionsLimit: Int16,
        extras: [APIKey: Extra]
    ) {
        self.channel = channel
        self.extras = extras
        address = BrokerPort(port: channel.localAddress?.port ?? 0)
        self.apiVersionsLimit = apiVersionsLimit
        state = Mutex(
            State(
                logs: Array(repeating: [], count: partitions),
                ends: Array(repeating: 0, count: partitions)
            )
        )
        holder.broker.withLock { $0 = self }
    }

    /// Lets connections find the broker that is made after the port is known.
    final class Holder: Sendable {
        let broker = Mutex<FakeBroker?>(nil)
    }

    static func start(
        partitions: Int = 1,
        apiVersionsLimit: Int16 = 4,
        extras: [APIKey: Extra] = [:]
    ) async throws -> FakeBroker {
        let holder = Holder()
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Handler(holder: holder))
                }
            }
            .bind(host: "127.0.0.1", port: 0)
            .get()
        return FakeBroker(
            channel: channel,
            holder: holder,
            partitions: partitions,
            apiVersionsLimit: apiVersionsLimit,
            extras: extras
        )
    }

    func stop() async throws {
        try await channel.close()
    }

    func set(_ faults: Faults) {
        state.withLock { $0.faults = faults }
    }

    /// Another broker leads, which is this one under its other name: see `set(replica:fetches:)`.
    func set(leader: Int32, epoch: Int32) {
        state.withLock { $0.leader = (leader, epoch) }
    }

    /// Ends the connections on which it kept silent.
    func dropSilent() {
        let channels = state.withLock { state in
            defer { state.silent = [] }
            return state.silent
        }
        for channel in channels { channel.close(promise: nil) }
    }

    fileprivate func note(silent channel: any Channel) {
        state.withLock { $0.silent.append(channel) }
    }

    func set(produce script: [ProduceStep]) {
        state.withLock { $0.produceScript = script }
    }

    /// Names another broker in the metadata, reached here by another name, and scripts the next fetches.
    func set(replica: Int32, fetches: [FetchStep]) {
        state.withLock { state in
            state.replica = replica
            state.fetchScript = fetches
        }
    }

    /// The fetches so far.
    var fetches: [Fetch] {
        state.withLock { $0.fetches }
    }

    /// The requests so far, as `Name/version`.
    var requests: [String] {
        state.withLock { $0.requests }
    }

    /// The values of a partition in order.
    func values(of partition: Int) throws -> [String] {
        let batches = state.withLock { $0.logs[partition].map(\.batch) }
        var values: [String] = []
        for batch in batches {
            var iterator = try RecordIterator(batch, using: Decompressor(), limit: 1 << 24)
            while let record = try iterator.next() {
                values.append(record.value.map { String(buffer: $0) } ?? "")
            }
        }
        return values
    }

    // MARK: Answers

    private func note(_ header: RequestHeader) {
        let name = header.api?.name ?? "?"
        state.withLock { $0.requests.append("\(name)/\(header.requestApiVersion)") }
    }

    /// The answer to a frame, empty for none; nil ends the connection.
    fileprivate func answer(_ frame: ByteBuffer, on connection: ObjectIdentifier) throws
        -> ByteBuffer?
    {
        let prefix = try RequestPrefix(peeking: frame)
        if prefix.apiKey == APIKey.apiVersions.rawValue { return try apiVersions(prefix) }
        var body = frame
        let header = try RequestHeader(consuming: &body)
        note(header)
        let version = header.requestApiVersion
        func reply(_ response: some KafkaResponse) throws -> ByteBuffer {
            try response.frame(version: version, correlationId: header.correlationId)
                .contiguousBytes()
        }
        switch header.api {
        case .metadata: return try reply(metadata(version))
        case .initProducerId: return try reply(initProducerID())
        case .produce:
            let request = try ProduceRequest(from: body, version: version)
            if state.withLock({ $0.produceScript.first == .silence }) {
                state.withLock { _ = $0.produceScript.removeFirst() }
                return ByteBuffer()
            }
            guard let response = try produce(request) else { return nil }
            return try reply(response)
        case .listOffsets:
            return try reply(listOffsets(ListOffsetsRequest(from: body, version: version)))
        case .fetch:
            return try reply(fetch(FetchRequest(from: body, version: version), on: connection))
        default:
            guard let extra = header.api.flatMap({ extras[$0] }) else { return nil }
            guard let response = try extra(body, version) else { return ByteBuffer() }
            return try reply(response)
        }
    }

    private func apiVersions(_ prefix: RequestPrefix) throws -> ByteBuffer {
        state.withLock { $0.requests.append("ApiVersions/\(prefix.apiVersion)") }
        var response = ApiVersionsResponse()
        let known: [APIKey] = [.metadata, .initProducerId, .produce, .listOffsets, .fetch]
        response.apiKeys = (known + extras.keys).map { api in
            .init(
                apiKey: api.rawValue,
                minVersion: api.stableVersions.lowerBound,
                maxVersion: api.stableVersions.upperBound
            )
        }
        response.apiKeys.append(.init(apiKey: 18, minVersion: 0, maxVersion: apiVersionsLimit))
        let isKnown = prefix.apiVersion <= apiVersionsLimit
        if !isKnown { response.errorCode = 35 }
        return try response.frame(
            version: isKnown ? prefix.apiVersion : 0,
            correlationId: prefix.correlationId
        )
        .contiguousBytes()
    }

    private func metadata(_ version: Int16) -> MetadataResponse {
        let (count, replica, leader) = state.withLock { ($0.logs.count, $0.replica, $0.leader) }
        var response = MetadataResponse()
        response.brokers = [.init(nodeId: 1, host: "127.0.0.1", port: Int32(address.port))]
        if let replica {
            response.brokers.append(
                .init(nodeId: replica, host: "localhost", port: Int32(address.port))
            )
        }
        response.controllerId = state.withLock { state in
            state.faults.strangeControllers -= 1
            return state.faults.strangeControllers >= 0 ? 9 : 1
        }
        response.topics = [
            .init(
                name: Self.topic,
                partitions: (0..<count).map {
                    .init(
                        partitionIndex: Int32($0),
                        leaderId: leader.id,
                        leaderEpoch: leader.epoch
                    )
                }
            )
        ]
        return response
    }

    private func initProducerID() -> InitProducerIdResponse {
        state.withLock { state in
            state.producerCount += 1
            var response = InitProducerIdResponse()
            response.producerId = state.producerCount
            return response
        }
    }

    private func produce(_ request: ProduceRequest) throws -> ProduceResponse? {
        try state.withLock { state in
            let chance = Int.random(in: 0..<100, using: &state.random)
            let faults = state.faults
            let step = state.produceScript.isEmpty ? nil : state.produceScript.removeFirst()
            if chance < faults.dropsBefore { return nil }
            var response = ProduceResponse()
            for topic in request.topicData {
                var parts: [ProduceResponse.PartitionProduceResponse] = []
                for part in topic.partitionData {
                    let isOldest = try Self.batch(of: part).header.baseSequence == 0
                    let isRefused =
                        Int.random(in: 0..<100, using: &state.random) < faults.refusals
                        || step == .refuseOldest && isOldest
                    let (code, offset) =
                        isRefused
                        ? try Self.refuse(part, &state) : try Self.append(part, &state)
                    parts.append(.init(index: part.index, errorCode: code, baseOffset: offset))
                }
                response.responses.append(.init(name: topic.name, partitionResponses: parts))
            }
            if chance < faults.dropsBefore + faults.dropsAfter || step == .loseAnswer { return nil }
            return response
        }
    }

    private static func batch(
        of part: ProduceRequest.PartitionProduceData
    ) throws -> RecordBatch {
        try RecordBatch(parsing: part.records?.buffer ?? ByteBuffer())
    }

    /// Refuses a batch for the moment; of a producer that is not known yet its first must come again first.
    private static func refuse(
        _ part: ProduceRequest.PartitionProduceData,
        _ state: inout State
    ) throws -> (Int16, Int64) {
        let header = try batch(of: part).header
        let key = SequenceKey(producer: header.producerID, partition: part.index)
        if header.hasProducerID, state.sequences[key] == nil {
            state.sequences[key] = Sequence(epoch: header.producerEpoch, next: header.baseSequence)
        }
        return (6, -1)
    }

    private static func append(
        _ part: ProduceRequest.PartitionProduceData,
        _ state: inout State
    ) throws -> (Int16, Int64) {
        let batch = try batch(of: part)
        let index = Int(part.index)
        let header = batch.header
        let key = SequenceKey(producer: header.producerID, partition: part.index)
        if header.hasProducerID {
            var sequence = state.sequences[key] ?? Sequence(epoch: header.producerEpoch)
            guard header.producerEpoch >= sequence.epoch else { return (47, -1) }
            if header.producerEpoch > sequence.epoch {
                sequence = Sequence(epoch: header.producerEpoch, next: 0)
            }
            if let known = sequence.recent.first(where: {
                $0.base == header.baseSequence && $0.count == header.recordCount
            }) {
                return (0, known.offset)
            }
            guard header.baseSequence == sequence.next ?? header.baseSequence else {
                return (45, -1)
            }
            sequence.next = header.baseSequence + header.recordCount
            sequence.recent.append((header.baseSequence, header.recordCount, state.ends[index]))
            if sequence.recent.count > 5 { sequence.recent.removeFirst() }
            state.sequences[key] = sequence
        }
        let offset = state.ends[index]
        let placed = batch.rewritten { $0.baseOffset = Offset(offset) }
        state.logs[index].append((offset, placed))
        state.ends[index] += Int64(header.recordCount)
        return (0, offset)
    }

    private func listOffsets(_ request: ListOffsetsRequest) -> ListOffsetsResponse {
        state.withLock { state in
            var response = ListOffsetsResponse()
            for topic in request.topics {
                let parts = topic.partitions.map { part in
                    let offset = part.timestamp == -1 ? state.ends[Int(part.partitionIndex)] : 0
                    return ListOffsetsResponse.ListOffsetsPartitionResponse(
                        partitionIndex: part.partitionIndex,
                        timestamp: -1,
                        offset: offset
                    )
                }
                response.topics.append(.init(name: topic.name, partitions: parts))
            }
            return response
        }
    }

    private func fetch(_ request: FetchRequest, on connection: ObjectIdentifier) -> FetchResponse {
        state.withLock { state in
            var response = FetchResponse()
            for part in request.topics.flatMap(\.partitions) {
                state.fetches.append(
                    Fetch(
                        connection: connection,
                        offset: part.fetchOffset,
                        rack: request.rackId
                    )
                )
            }
            let step = state.fetchScript.isEmpty ? .records : state.fetchScript.removeFirst()
            for topic in request.topics {
                var parts: [FetchResponse.PartitionData] = []
                for part in topic.partitions {
                    var told = FetchResponse.PartitionData(
                        partitionIndex: part.partition,
                        highWatermark: -1
                    )
                    switch step {
                    case .records: break
                    case .error(let code):
                        told.errorCode = code
                        parts.append(told)
                        continue
                    case .sentOn(let broker):
                        told.preferredReadReplica = broker
                        parts.append(told)
                        continue
                    }
                    let index = Int(part.partition)
                    var bytes = ByteBuffer()
                    for (offset, batch) in state.logs[index]
                    where offset + Int64(batch.header.recordCount) > part.fetchOffset
                        && bytes.readableBytes < 100_000
                    {
                        bytes.writeImmutableBuffer(batch.bytes)
                    }
                    // Cut off within the last batch, as a broker may.
                    if state.logs[index].count > 1, bytes.readableBytes > 100_000 {
                        bytes.writeImmutableBuffer(
                            state.logs[index][0].batch.bytes.getSlice(at: 0, length: 20)
                                ?? ByteBuffer()
                        )
                    }
                    parts.append(
                        .init(
                            partitionIndex: part.partition,
                            highWatermark: state.ends[index],
                            records: Records(bytes)
                        )
                    )
                }
                response.responses.append(.init(topic: topic.topic, partitions: parts))
            }
            return response
        }
    }
}

/// One connection to the fake broker.
private final class Handler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let holder: FakeBroker.Holder
    private var inbound = ByteBuffer()

    init(holder: FakeBroker.Holder) {
        self.holder = holder
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        inbound.writeBuffer(&bytes)
        guard let broker = holder.broker.withLock({ $0 }) else {
            return context.close(promise: nil)
        }
        while let length = inbound.getInteger(at: inbound.readerIndex, as: Int32.self),
            inbound.readableBytes >= Int(length) + 4
        {
            inbound.moveReaderIndex(forwardBy: 4)
            // A copy: the frame's slices outlive this buffer.
            let frame = ByteBuffer(bytes: inbound.readBytes(length: Int(length)) ?? [])
            guard let answer = try? broker.answer(frame, on: ObjectIdentifier(self)) else {
                return context.close(promise: nil)
            }
            guard answer.readableBytes > 0 else {
                broker.note(silent: context.channel)
                continue
            }
            context.writeAndFlush(wrapOutboundOut(answer), promise: nil)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
