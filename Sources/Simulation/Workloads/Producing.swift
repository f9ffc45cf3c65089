import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRecords
import struct NIOCore.ByteBuffer

/// Producers of all kinds, each with its own partition after the other.
final class Producing: Workload {
    private unowned let world: World
    private let topics: TopicDirectory
    private let history: History
    private var producers: [SimulatedProducer] = []
    private var random: SeededRandom

    init(world: World, topics: TopicDirectory, history: History) {
        self.world = world
        self.topics = topics
        self.history = history
        random = SeededRandom(seed: world.plan.seed ^ 0x9807)
    }

    func start() {
        let count = random.draw(3...8)
        for number in 0..<count {
            let producer = SimulatedProducer(
                number,
                seed: random.next(),
                world: world,
                topics: topics,
                history: history
            )
            producers.append(producer)
            producer.start()
        }
    }

    func finish() { producers.forEach { $0.finish() } }

    var whatIsMissing: String? {
        let count = producers.reduce(0) { $0 + $1.durableBatchCount }
        guard count >= Self.fewBatches, history.acknowledgedCount == 0 else { return nil }
        return "of \(count) batches that were to be durable none was ever acknowledged"
    }

    /// So few may all have been refused for a clock that jumped, or gone with their topics.
    private static let fewBatches = 50

    var whatIsLeft: String? {
        producers.first { !$0.isDone }.map { "producer \($0.number) has no answer: \($0.state)" }
    }
}

/// One producer: one batch at a time, or a few if it is idempotent, repeated until they are answered.
final class SimulatedProducer {
    let number: Int
    private unowned let world: World
    private let topics: TopicDirectory
    private let history: History
    private let client: SimulatedClient
    private var random: SeededRandom
    private let isIdempotent: Bool
    private let acks: Int16
    private let codec: CompressionCodec
    private let pause: Duration
    private var identity: (id: Int64, epoch: Int16)?
    private var sequences: [TopicPartition: Int32] = [:]
    private var sentCount = 0
    /// The batches that it wanted to be told of as durable, each counted once.
    private(set) var durableBatchCount = 0
    private var isFinishing = false
    private(set) var isDone = false
    /// What it waits for, in words.
    private(set) var state = "not started"

    private struct Batch {
        var topic: TopicDirectory.Topic
        var partition: TopicPartition
        var values: [String]
        var bytes: ByteBuffer
        var attempt = 0
        /// Why the last attempt was in vain.
        var lastAnswer = "nothing"
    }

    init(_ number: Int, seed: UInt64, world: World, topics: TopicDirectory, history: History) {
        self.number = number
        self.world = world
        self.topics = topics
        self.history = history
        client = SimulatedClient("producer-\(number)", world: world)
        random = SeededRandom(seed: seed)
        isIdempotent = random.chance(60)
        acks = isIdempotent ? -1 : [-1, -1, 1, 0][random.draw(0...3)]
        codec = [.none, .none, .gzip, .snappy, .lz4, .zstd][random.draw(0...5)]
        pause = random.draw(.zero, .milliseconds(60))
    }

    func start() {
        state = "begins"
        next()
    }

    func finish() { isFinishing = true }

    private func later(_ delay: Duration, _ body: @escaping () -> Void) {
        world.act("producer \(number)", after: delay, body)
    }

    private func next() {
        guard !isFinishing else {
            isDone = true
            return
        }
        guard !isIdempotent || identity != nil else { return askForIdentity() }
        let busy = topics.busy
        guard !busy.isEmpty else {
            return later(.milliseconds(100)) { [weak self] in self?.next() }
        }
        let topic = busy[random.draw(0...(busy.count - 1))]
        let partition = TopicPartition(
            topic: topic.id,
            partition: Int32(random.draw(0...(topic.partitionCount - 1)))
        )
        // As clients do, an idempotent producer does not wait for the first answer.
        let count = isIdempotent ? random.draw(1...4) : 1
        send((0..<count).map { _ in makeBatch(topic, partition) })
    }

    private func askForIdentity() {
        state = "asks for an identity"
        let broker = random.draw(0...(world.brokers.count - 1))
        client.ask(
            InitProducerIdRequest(transactionalId: nil, transactionTimeoutMs: 60_000),
            version: 4,
            of: broker
        ) {
            [weak self] result in
            guard let self else { return }
            if case .success(let answer) = result, answer.errorCode == 0 {
                self.identity = (answer.producerId, answer.producerEpoch)
            }
            self.later(.milliseconds(50)) { [weak self] in self?.next() }
        }
    }

    private func makeBatch(_ topic: TopicDirectory.Topic, _ partition: TopicPartition) -> Batch {
        // How well it is compressed is not the point.
        var builder = RecordBatchBuilder(codec: codec, level: codec == .gzip ? 1 : nil)
        if let identity {
            builder.producerID = ProducerID(identity.id)
            builder.producerEpoch = identity.epoch
            builder.baseSequence = sequences[partition] ?? 0
        }
        var values: [String] = []
        let time = Timestamp(1_700_000_000_000 + world.now.nanoseconds / 1_000_000)
        let size =
            random.chance(3) ? random.draw(20_000...Self.longestFilling) : random.draw(0...400)
        for _ in 0..<random.draw(1...5) {
            sentCount += 1
            let value = "p\(number)-\(sentCount)"
            history.log(partition).note(
                sent: value,
                ReferenceLog.Sent(producer: number, number: sentCount, isIdempotent: isIdempotent)
            )
            values.append(value)
            builder.append(key: nil, value: filled(value + ":", by: size), timestamp: time)
        }
        sequences[partition, default: 0] += Int32(values.count)
        if acks == -1 { durableBatchCount += 1 }
        return Batch(
            topic: topic,
            partition: partition,
            values: values,
            bytes: builder.build(using: Compressor()).bytes
        )
    }

    /// A text, and behind it some more that does not compress much.
    private func filled(_ text: String, by count: Int) -> ByteBuffer {
        var bytes = ByteBuffer()
        bytes.reserveCapacity(text.utf8.count + count)
        bytes.writeString(text)
        let start = random.draw(0...(Self.noise.readableBytes - count))
        if let part = Self.noise.getSlice(at: start, length: count) {
            bytes.writeImmutableBuffer(part)
        }
        return bytes
    }

    /// The longest filling of a record.
    private static let longestFilling = 120_000
    /// What records are filled with: ASCII, with six random bits in each byte.
    private static let noise: ByteBuffer = {
        var random = SeededRandom(seed: 0x0153)
        var bytes = ByteBuffer()
        for _ in 0..<longestFilling / 4 {
            bytes.writeInteger(random.next() & 0x3F3F_3F3F_3F3F_3F3F &+ 0x3030_3030_3030_3030)
        }
        return bytes
    }()

    /// Sends batches of one partition, one behind the other without waiting for answers.
    private func send(_ batches: [Batch]) {
        state =
            "waits for \(batches[0].values[0]) and \(batches.count - 1) more in \(batches[0].partition), attempt "
            + "\(batches[0].attempt); last it was told \(batches[0].lastAnswer)"
        let broker = topics.broker(for: batches[0].partition)
        guard acks != 0 else {
            // Nothing comes back; the next one follows.
            for batch in batches {
                client.send(request(batch), version: batch.topic.produceVersion, to: broker)
            }
            return later(pause + .milliseconds(5)) { [weak self] in self?.next() }
        }
        var fates: [Fate?] = Array(repeating: nil, count: batches.count)
        for (place, batch) in batches.enumerated() {
            client.ask(request(batch), version: batch.topic.produceVersion, of: broker) {
                [weak self] result in
                guard let self else { return }
                fates[place] = self.fate(of: batch, result)
                let known = fates.compactMap(\.self)
                if known.count == batches.count { self.answered(batches, known) }
            }
        }
    }

    private func request(_ batch: Batch) -> ProduceRequest {
        ProduceRequest(
            acks: acks,
            timeoutMs: 3_000,
            topicData: [
                .init(
                    name: batch.topic.name,
                    topicId: batch.topic.id,
                    partitionData: [
                        .init(
                            index: batch.partition.partition,
                            records: Records(batch.bytes)
                        )
                    ]
                )
            ]
        )
    }

    /// What becomes of a batch after an answer.
    private enum Fate {
        case taken
        case sentAgain(reason: String)
        /// Told that something is missing before it.
        case outOfOrder(Int16)
        /// Nobody knows whether it was taken, and nobody ever will.
        case givenUp
    }

    private func fate(of batch: Batch, _ result: Result<ProduceResponse, ClientFailure>) -> Fate {
        let part: ProduceResponse.PartitionProduceResponse
        switch result {
        case .failure(let failure): return .sentAgain(reason: failure.reason)
        case .success(let response):
            guard let first = response.responses.first?.partitionResponses.first else {
                return .sentAgain(reason: "an empty answer")
            }
            part = first
        }
        switch ErrorCode(rawValue: part.errorCode) {
        case .noError:
            if part.baseOffset < 0 {
                world.violate(
                    "\(batch.partition): \(batch.values[0]) is acknowledged at no offset"
                )
            } else if acks == -1 {
                history.acknowledged(batch.values, batch.partition, at: part.baseOffset)
            }
            return .taken
        case .duplicateSequenceNumber:
            // Whoever is told that does not learn where its batch stands.
            world.violate(
                "\(batch.partition): \(batch.values[0]) is told to be there already"
            )
            return .taken
        case .outOfOrderSequenceNumber, .invalidProducerEpoch:
            return .outOfOrder(part.errorCode)
        case .invalidTimestamp:
            // A clock jumped, and the broker takes no records from so far in the future. An earlier attempt may have been
            // taken all the same, so the sequence is over.
            return .givenUp
        default:
            return .sentAgain(reason: "error \(part.errorCode)")
        }
    }

    private func answered(_ batches: [Batch], _ fates: [Fate]) {
        var rest: [Batch] = []
        for (batch, fate) in zip(batches, fates) {
            switch fate {
            case .taken: break
            case .sentAgain(let reason):
                var batch = batch
                batch.attempt += 1
                batch.lastAnswer = reason
                rest.append(batch)
            case .outOfOrder(let error):
                // Behind a batch that was given up, something is.
                if identity != nil {
                    world.violate(
                        "\(batch.partition): an idempotent producer that skipped nothing is told error \(error)"
                    )
                }
                identity = nil
                sequences.removeAll()
            case .givenUp:
                identity = nil
                sequences.removeAll()
            }
        }
        guard let first = rest.first, identity != nil || !isIdempotent,
            !topics.isDeleted(first.partition.topic)
        else {
            return later(pause) { [weak self] in self?.next() }
        }
        topics.forget(first.partition)
        let delay = random.draw(.milliseconds(10), .milliseconds(150))
        later(delay) { [weak self] in self?.send(rest) }
    }
}
