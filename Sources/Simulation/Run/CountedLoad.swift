import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRecords
import struct NIOCore.ByteBuffer

/// Work of a known amount in a cluster without faults, one request after the other, for whoever counts what each costs.
///
/// Two runs with different numbers of requests differ by these requests alone: setting up costs the same in both. All is in
/// one thread, so that the number of instructions is the same each time.
package struct CountedLoad {
    /// What is counted.
    package enum Work: String, CaseIterable, Sendable {
        /// Batches are published, and acknowledged when they are durable on a majority.
        case produce
        /// Batches that lie there are read, each by a request of its own.
        case fetch
    }

    /// Why a load came to no end.
    package struct Failure: Error, CustomStringConvertible {
        package let description: String
    }

    private let work: Work
    private let brokerCount: Int
    private let requestCount: Int
    private let recordCount: Int
    private let valueByteCount: Int

    /// Time in which any cluster without faults has a leader and is done.
    private static let limit = Duration.seconds(3_600)
    private static let seed: UInt64 = 1

    /// Describes a load.
    ///
    /// - Parameters:
    ///   - work: what is counted.
    ///   - brokerCount: how many brokers; each has a replica.
    ///   - requestCount: requests, one after the other.
    ///   - recordCount: records in each batch, one batch a request.
    ///   - valueByteCount: bytes of each record's value.
    package init(
        _ work: Work,
        brokerCount: Int,
        requestCount: Int,
        recordCount: Int,
        valueByteCount: Int
    ) {
        self.work = work
        self.brokerCount = brokerCount
        self.requestCount = requestCount
        self.recordCount = recordCount
        self.valueByteCount = valueByteCount
    }

    /// Does the work.
    ///
    /// - Throws: a `Failure` when a broker did not do as asked.
    package func perform() throws(Failure) {
        var plan = FaultPlan(seed: Self.seed, faults: [], brokerCount: brokerCount)
        plan.shardCount = 1
        plan.configs = []
        plan.tailByteCount = 64 << 20
        let world = World(plan)
        let client = CountingClient(
            work,
            world: world,
            requestCount: requestCount,
            batch: makeBatch(),
            recordCount: recordCount
        )
        world.startAll()
        world.run(until: .start + .seconds(3))
        client.start(replicas: Int16(brokerCount))
        while !client.isDone, world.violation == nil, world.now < .start + Self.limit {
            world.run(until: world.now + .milliseconds(10))
        }
        if let sentence = world.violation ?? client.problem { throw Failure(description: sentence) }
        world.end()
    }

    /// A plain batch; its values are noise.
    private func makeBatch() -> ByteBuffer {
        var random = SeededRandom(seed: Self.seed)
        var builder = RecordBatchBuilder(capacity: recordCount * (valueByteCount + 20) + 61)
        for _ in 0..<recordCount {
            var value = ByteBuffer()
            value.reserveCapacity(valueByteCount + 8)
            while value.readableBytes < valueByteCount { value.writeInteger(random.next()) }
            value.moveWriterIndex(to: valueByteCount)
            builder.append(key: nil, value: value, timestamp: Timestamp(1_700_000_000_000))
        }
        return builder.build(using: Compressor()).bytes
    }
}

/// The client of a `CountedLoad`.
private final class CountingClient {
    private static let topic = "counted"
    /// Batches that lie there before they are read, however many requests follow.
    private static let storedCount = 64

    private let work: CountedLoad.Work
    private let client: SimulatedClient
    private let requestCount: Int
    private let batch: ByteBuffer
    private let recordCount: Int
    private var random = SeededRandom(seed: 1)
    private var leader = 0
    private var topicID = TopicID.zero
    private(set) var isDone = false
    /// Why the load did not end as it should.
    private(set) var problem: String? = "the cluster did not answer in time"

    init(
        _ work: CountedLoad.Work,
        world: World,
        requestCount: Int,
        batch: ByteBuffer,
        recordCount: Int
    ) {
        self.work = work
        self.requestCount = requestCount
        self.batch = batch
        self.recordCount = recordCount
        client = SimulatedClient("counter", world: world)
    }

    func start(replicas: Int16) {
        let configs = ["compression.type": "producer"]
        client.create(
            Self.topic,
            partitions: 1,
            replicas: replicas,
            configs: configs,
            &random
        ) { [unowned self] topic in
            topicID = topic
            findLeader()
        }
    }

    private func findLeader() {
        let request = MetadataRequest(
            topics: [.init(name: Self.topic)],
            allowAutoTopicCreation: false
        )
        client.ask(request, version: 12, of: 0) { [unowned self] result in
            guard case .success(let answer) = result,
                let partition = answer.topics.first?.partitions.first, partition.errorCode == 0
            else {
                return client.world.act("looks again", after: .milliseconds(100)) {
                    [unowned self] in findLeader()
                }
            }
            leader = Int(partition.leaderId) - 1
            switch work {
            case .produce: produce(requestCount) { [unowned self] in finish() }
            case .fetch:
                produce(Self.storedCount) { [unowned self] in fetch(requestCount) }
            }
        }
    }

    private func finish(_ problem: String? = nil) {
        self.problem = problem
        isDone = true
    }

    private func produce(_ count: Int, then next: @escaping () -> Void) {
        guard count > 0 else { return next() }
        let data = ProduceRequest.PartitionProduceData(index: 0, records: Records(batch))
        let request = ProduceRequest(
            acks: -1,
            timeoutMs: 3_000,
            topicData: [.init(name: Self.topic, topicId: topicID, partitionData: [data])]
        )
        client.ask(request, version: 11, of: leader) { [unowned self] result in
            switch result {
            case .failure(let failure): finish("a batch has no answer: \(failure.reason)")
            case .success(let response):
                let error = response.responses.first?.partitionResponses.first?.errorCode
                guard error == 0 else {
                    return finish("a batch is refused: \(error.map(String.init) ?? "no answer")")
                }
                produce(count - 1, then: next)
            }
        }
    }

    private func fetch(_ count: Int) {
        guard count > 0 else { return finish() }
        let place = (requestCount - count) % Self.storedCount
        var request = FetchRequest(maxWaitMs: 500, minBytes: 1, maxBytes: 1 << 20)
        request.topics = [
            .init(
                topic: Self.topic,
                topicId: topicID,
                partitions: [
                    .init(
                        partition: 0,
                        fetchOffset: Int64(place * recordCount),
                        // One batch comes in any case, and nothing beside it.
                        partitionMaxBytes: 1
                    )
                ]
            )
        ]
        client.ask(request, version: 12, of: leader) { [unowned self] result in
            switch result {
            case .failure(let failure): finish("nothing is read: \(failure.reason)")
            case .success(let response):
                let part = response.responses.first?.partitions.first
                let byteCount = part?.records?.buffer?.readableBytes ?? 0
                guard part?.errorCode == 0, byteCount == batch.readableBytes else {
                    return finish(
                        "\(byteCount) bytes are read, error \(part?.errorCode ?? -1)"
                    )
                }
                fetch(count - 1)
            }
        }
    }
}
