@testable import FlotillaCoordination
import FlotillaEnvironment
public import FlotillaModel

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

extension BrokerRegistration {
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

    func create(
        _ requests: TopicRequest...,
        defaults: TopicDefaults = TopicDefaults(partitionCount: 4, replicationFactor: 3),
        validateOnly: Bool = false
    ) throws -> [TopicOutcome] {
        try note(controller.createTopics(requests, defaults: defaults, validateOnly: validateOnly))
    }
}

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

extension ConfigOutcome {
    var refusal: ErrorCode? {
        if case .failure(let refusal) = result { refusal.code } else { nil }
    }
}
