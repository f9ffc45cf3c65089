import FlotillaBroker
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaSimulation
import Testing

/// Settings and producer ids.
///
/// - Source: SEMANTICS sections 1.3 and 4.7.
@Suite("Settings and producer ids")
struct ConfigTests {
    private let broker: TestBroker
    private let client: TestClient

    init() throws {
        broker = try TestBroker()
        client = try broker.connect()
        try client.createTopic(configs: [("retention.ms", "1000000")])
    }

    private func describe(
        _ name: String = "orders",
        type: Int8 = 2,
        keys: [String]? = nil,
        synonyms: Bool = false
    ) throws -> DescribeConfigsResponse.DescribeConfigsResult {
        let answer = try client.ask(
            DescribeConfigsRequest(
                resources: [
                    .init(resourceType: type, resourceName: name, configurationKeys: keys)
                ],
                includeSynonyms: synonyms
            ),
            version: 4
        )
        return try only(answer.results)
    }

    private func value(_ name: String) throws -> String? {
        try only(describe(keys: [name]).configs).value
    }

    private func change(
        _ configs: [(String, Int8, String?)],
        resources: [String] = ["orders"],
        validateOnly: Bool = false
    ) throws -> [ErrorCode?] {
        try client.ask(
            IncrementalAlterConfigsRequest(
                resources: resources.map { name in
                    .init(
                        resourceType: 2,
                        resourceName: name,
                        configs: configs.map {
                            .init(name: $0.0, configOperation: $0.1, value: $0.2)
                        }
                    )
                },
                validateOnly: validateOnly
            ),
            version: 1
        ).responses.map { ErrorCode(rawValue: $0.errorCode) }
    }

    @Test("all settings of a topic are described, or those that are asked for (CFG-1)")
    func described() throws {
        let all = try describe()
        #expect(all.errorCode == 0)
        #expect(all.configs.count > 20)
        #expect(try describe(keys: []).configs.count == all.configs.count)
        let some = try describe(keys: ["retention.ms", "no.such.thing", "cleanup.policy"]).configs
        #expect(Set(some.map(\.name)) == ["retention.ms", "cleanup.policy"])
        #expect(some.first { $0.name == "retention.ms" }?.configSource == 1)
        #expect(some.first { $0.name == "cleanup.policy" }?.configSource == 5)
    }

    @Test("synonyms come from the most to the least specific, and only when asked for (CFG-1)")
    func synonyms() throws {
        #expect(try only(describe(keys: ["retention.ms"]).configs).synonyms.isEmpty)
        let config = try only(describe(keys: ["retention.ms"], synonyms: true).configs)
        #expect(config.synonyms.first?.source == 1)
        #expect(config.synonyms.last?.source == 5)
    }

    @Test("resources that are not here are refused (CFG-2)")
    func otherResources() throws {
        #expect(try describe("absent").errorCode == ErrorCode.unknownTopicOrPartition.rawValue)
        #expect(try describe("1", type: 4).errorCode == 0)
        #expect(try describe("", type: 4).errorCode == 0)
        #expect(try describe("2", type: 4).errorCode == ErrorCode.invalidRequest.rawValue)
    }

    @Test("settings are set, deleted, appended to and subtracted from (CFG-3)")
    func incremental() throws {
        #expect(try change([("retention.ms", 0, "5000")]) == [.noError])
        #expect(try value("retention.ms") == "5000")
        #expect(try change([("retention.ms", 1, nil)]) == [.noError])
        #expect(try value("retention.ms") == "604800000")
        #expect(try change([("cleanup.policy", 2, "compact")]) == [.noError])
        #expect(try value("cleanup.policy") == "delete,compact")
        #expect(try change([("cleanup.policy", 2, "compact")]) == [.noError])
        #expect(try value("cleanup.policy") == "delete,compact")
        #expect(try change([("cleanup.policy", 3, "delete")]) == [.noError])
        #expect(try value("cleanup.policy") == "compact")
    }

    /// A change that is refused as a whole.
    static let refused: [(String, [(String, Int8, String?)], ErrorCode)] = [
        ("unknown key", [("segment.ms", 0, "99999"), ("retention.moons", 0, "1")], .invalidConfig),
        ("bad value", [("segment.ms", 0, "99999"), ("retention.ms", 0, "x")], .invalidConfig),
        ("null", [("segment.ms", 0, "99999"), ("retention.ms", 0, nil)], .invalidConfig),
        (
            "append to a number", [("segment.ms", 0, "99999"), ("retention.ms", 2, "1")],
            .invalidConfig
        ),
        (
            "same key twice", [("segment.ms", 0, "99999"), ("segment.ms", 0, "99998")],
            .invalidRequest
        ),
        ("unknown operation", [("segment.ms", 9, "99999")], .invalidRequest),
    ]

    @Test("all keys of a resource are changed or none (CFG-3)", arguments: refused.indices)
    func refusals(place: Int) throws {
        let (what, configs, error) = Self.refused[place]
        #expect(try change(configs) == [error], "\(what)")
        #expect(try value("segment.ms") == "604800000")
    }

    @Test("a resource that comes twice, and one that is not there, is refused (CFG-3)")
    func badResources() throws {
        let twice = try change([("segment.ms", 0, "99999")], resources: ["orders", "orders"])
        #expect(twice.contains(.invalidRequest))
        #expect(
            try change([("segment.ms", 0, "99999")], resources: ["absent"])
                == [.unknownTopicOrPartition]
        )
    }

    @Test("what is only validated is not changed (CFG-3)")
    func validateOnly() throws {
        #expect(try change([("retention.ms", 0, "5")], validateOnly: true) == [.noError])
        #expect(try change([("retention.ms", 0, "x")], validateOnly: true) == [.invalidConfig])
        #expect(try value("retention.ms") == "1000000")
    }

    @Test("the old request replaces the whole set (CFG-4)")
    func replacing() throws {
        let answer = try client.ask(
            AlterConfigsRequest(resources: [
                .init(
                    resourceType: 2,
                    resourceName: "orders",
                    configs: [.init(name: "segment.ms", value: "77777")]
                )
            ]),
            version: 2
        )
        #expect(try only(answer.responses).errorCode == 0)
        #expect(try value("segment.ms") == "77777")
        #expect(try value("retention.ms") == "604800000")
    }

    @Test("a change takes effect for the next batch, and outlives a power failure")
    func effective() throws {
        #expect(try change([("max.message.bytes", 0, "500")]) == [.noError])
        #expect(try client.produce(Batches.large(1_000)).error == .messageTooLarge)
        try broker.restart(after: .dropUnsynced)
        let client = try broker.connect()
        #expect(try client.produce(Batches.large(1_000)).error == .messageTooLarge)
        #expect(try client.produce(Batches.large(100)).error == .noError)
    }

    // MARK: Producer ids

    private func producerID(of client: TestClient) throws -> Int64 {
        let answer = try client.ask(InitProducerIdRequest(transactionalId: nil), version: 4)
        guard answer.errorCode == 0, answer.producerEpoch == 0 else {
            throw TestFailure("\(answer)")
        }
        return answer.producerId
    }

    @Test("every producer gets an id of its own, on every shard and over restarts (PID-1)")
    func uniqueIDs() throws {
        var ids: [Int64] = []
        let other = try broker.connect(to: 1)
        for _ in 0..<1_200 { ids.append(try producerID(of: client)) }
        for _ in 0..<50 { ids.append(try producerID(of: other)) }
        try broker.restart(after: .dropUnsynced)
        let later = try broker.connect()
        for _ in 0..<50 { ids.append(try producerID(of: later)) }
        #expect(Set(ids).count == ids.count)
        #expect(ids.allSatisfy { $0 >= 0 })
    }

    @Test(
        "an id and an epoch come together or not at all (PID-4)",
        arguments: [(Int64(5), Int16(-1)), (-1, 5)]
    )
    func halfIdentities(id: Int64, epoch: Int16) throws {
        let answer = try client.ask(
            InitProducerIdRequest(transactionalId: nil, producerId: id, producerEpoch: epoch),
            version: 4
        )
        #expect(answer.errorCode == ErrorCode.invalidRequest.rawValue)
        #expect(answer.producerId == -1)
    }

    @Test("transactions are refused while none are served (PID-2, PID-3)")
    func transactions() throws {
        let empty = try client.ask(InitProducerIdRequest(transactionalId: ""), version: 4)
        #expect(empty.errorCode == ErrorCode.invalidRequest.rawValue)
        let named = try client.ask(InitProducerIdRequest(transactionalId: "t"), version: 4)
        #expect(named.errorCode == ErrorCode.notCoordinator.rawValue)
    }
}
