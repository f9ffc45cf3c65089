@testable import FlotillaCoordination
import FlotillaEnvironment
public import FlotillaModel
import FlotillaRecords
import struct NIOCore.ByteBuffer

extension BrokerID: ExpressibleByIntegerLiteral {
    /// Wraps a literal.
    public init(integerLiteral value: Int32) {
        self.init(value)
    }
}

extension ProducerID: ExpressibleByIntegerLiteral {
    /// Wraps a literal.
    public init(integerLiteral value: Int64) {
        self.init(value)
    }
}

extension CreationEpoch: ExpressibleByIntegerLiteral {
    /// Wraps a literal.
    public init(integerLiteral value: UInt64) {
        self.init(value)
    }
}

extension LogIndex: ExpressibleByIntegerLiteral {
    /// Wraps a literal.
    public init(integerLiteral value: UInt64) {
        self.init(value)
    }
}

extension Offset: ExpressibleByIntegerLiteral {
    /// Wraps a literal.
    public init(integerLiteral value: Int64) {
        self.init(value)
    }
}

extension Timestamp: ExpressibleByIntegerLiteral {
    /// Wraps a literal.
    public init(integerLiteral value: Int64) {
        self.init(value)
    }
}

extension ByteBuffer {
    /// The bytes that hexadecimal digits spell.
    init(hex: String) {
        let digits = hex.compactMap { $0.hexDigitValue.map { UInt8($0) } }
        self.init(
            bytes: stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
        )
    }
}

extension BrokerRegistration {
    /// The broker after it lost its disk.
    func reborn() -> BrokerRegistration {
        var other = self
        other.incarnation.high += 1
        return other
    }

    static func example(_ id: BrokerID, rack: String? = nil, port: UInt16 = 9092)
        -> BrokerRegistration
    {
        BrokerRegistration(
            id: id,
            incarnation: BrokerIncarnation(high: 1, low: UInt64(id.rawValue)),
            endpoints: [BrokerEndpoint(listener: "PLAINTEXT", host: "b\(id).example", port: port)],
            rack: rack
        )
    }
}

extension MetadataImage {
    static func withBrokers(_ brokers: [BrokerID]) -> MetadataImage {
        var image = MetadataImage().applying(.clusterInitialised(clusterID: "test", format: 1))
        for broker in brokers {
            image = image.applying(.brokerRegistered(.example(broker)))
        }
        return image
    }

    func applying(_ record: MetadataRecord) -> MetadataImage {
        var image = self
        do {
            try image.apply(record)
        } catch {
            preconditionFailure(error.reason)
        }
        return image
    }
}

/// A controller that leads a group of one: what it decides is committed when the test says so.
final class LeadingController {
    var controller: Controller
    var waiting: [(number: UInt64, records: [MetadataRecord])] = []
    var log: [(index: LogIndex, records: [MetadataRecord])] = []

    init(brokers: [BrokerRegistration], seed: UInt64 = 1) throws {
        controller = Controller(random: SeededRandom(seed: seed))
        controller.becomeLeader()
        _ = try note(controller.initialiseCluster(format: 1))
        for broker in brokers {
            _ = try note(controller.registerBroker(broker))
        }
        try commitAll()
    }

    convenience init(brokerCount: Int32 = 1, seed: UInt64 = 1) throws {
        try self.init(brokers: (1...brokerCount).map { .example(BrokerID($0)) }, seed: seed)
    }

    var image: MetadataImage {
        controller.image
    }

    func note<Outcome>(_ decision: Decision<Outcome>) -> [Outcome] {
        if !decision.records.isEmpty {
            waiting.append((decision.number, decision.records))
        }
        controller.checkInvariants()
        return decision.outcomes
    }

    func commitNext() throws {
        let records = waiting.removeFirst().records
        let index = controller.image.appliedIndex.next
        try controller.apply(records, at: index)
        log.append((index, records))
        controller.checkInvariants()
    }

    /// The last `count` decisions could not be proposed.
    func failLast(_ count: Int) {
        let failed = waiting.suffix(count)
        waiting.removeLast(failed.count)
        for decision in failed {
            controller.proposalFailed(decision.number)
            controller.checkInvariants()
        }
    }

    func commitAll() throws {
        while !waiting.isEmpty {
            try commitNext()
        }
    }

    /// Runs a command and commits what it decided.
    @discardableResult
    func run<Outcome>(
        _ command: (inout Controller) throws -> Decision<Outcome>
    ) throws -> [Outcome] {
        let outcomes = try note(command(&controller))
        try commitAll()
        return outcomes
    }

    /// A topic that is there, with partitions on these brokers; as from a log, where each may have its own number of replicas.
    func topic(_ name: String, on brokers: [[BrokerID]]) throws -> TopicImage {
        let id = TopicID(high: controller.random.next(), low: 1)
        let epoch = image.nextCreationEpoch
        let partitions = brokers.map { brokers in
            PartitionImage(replicas: brokers.map { GroupMember(broker: $0, epoch: epoch) })
        }
        waiting.append(
            (0, [.topicCreated(id: id, name: name, partitions: partitions, configs: [:])])
        )
        controller.stepDown()
        try commitAll()
        controller.becomeLeader()
        guard let topic = image.topic(id) else { throw MissingTopic() }
        return topic
    }

    /// The place of a topic's partition.
    func place(_ name: String, _ number: Int = 0) throws -> PartitionImage {
        guard let topic = image.topic(named: name) else { throw MissingTopic() }
        return topic.partitions[number]
    }

    /// Moves one partition and commits that.
    @discardableResult
    func reassign(_ name: String, _ number: Int32 = 0, to brokers: [BrokerID]?) throws
        -> ErrorCode?
    {
        try run {
            try $0.alterReassignments([
                ReassignmentRequest(topic: name, partition: number, brokers: brokers)
            ])
        }[0].refusal
    }

    /// The partition's leader says that its movement is done.
    @discardableResult
    func finish(_ name: String, _ number: Int32 = 0, revision: UInt64? = nil) throws -> Bool {
        guard let topic = image.topic(named: name) else { throw MissingTopic() }
        let revision = revision ?? topic.partitions[Int(number)].revision
        return try run {
            try $0.finishMovement(
                of: TopicPartition(topic: topic.id, partition: number),
                revision: revision
            )
        }[0]
    }

    func create(
        _ requests: TopicRequest...,
        defaults: TopicDefaults = TopicDefaults(partitionCount: 4, replicationFactor: 3),
        liveBrokers: Set<BrokerID>? = nil,
        validateOnly: Bool = false
    ) throws -> [TopicOutcome] {
        try note(
            controller.createTopics(
                requests,
                defaults: defaults,
                liveBrokers: liveBrokers,
                validateOnly: validateOnly
            )
        )
    }
}

/// A test asked for a topic that is not there.
struct MissingTopic: Error {}

extension TopicOutcome {
    var refusal: ErrorCode? {
        if case .failure(let refusal) = result { refusal.code } else { nil }
    }
}

extension TopicDeletionOutcome {
    var refusal: ErrorCode? {
        if case .failure(let refusal) = result { refusal.code } else { nil }
    }
}

extension ReassignmentOutcome {
    var refusal: ErrorCode? {
        if case .failure(let refusal) = result { refusal.code } else { nil }
    }
}

extension ConfigOutcome {
    var refusal: ErrorCode? {
        if case .failure(let refusal) = result { refusal.code } else { nil }
    }
}

/// The checksum that ends a snapshot.
func crc32c(_ bytes: some Sequence<UInt8>) -> UInt32 {
    CRC32C.checksum(ByteBuffer(bytes: Array(bytes)))
}
