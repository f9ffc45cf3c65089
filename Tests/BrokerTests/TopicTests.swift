import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaSimulation
import Testing

/// Metadata and new topics.
///
/// - Source: SEMANTICS sections 4.1 and 4.3.
@Suite("Topics are found and made")
struct TopicTests {
    private let broker: TestBroker
    private let client: TestClient

    init() throws {
        broker = try TestBroker()
        client = try broker.connect()
    }

    private func names(_ response: MetadataResponse) -> [String?] {
        response.topics.map(\.name)
    }

    private func create(
        _ topics: [CreateTopicsRequest.CreatableTopic],
        validateOnly: Bool = false
    ) throws -> [CreateTopicsResponse.CreatableTopicResult] {
        try client.ask(
            CreateTopicsRequest(topics: topics, validateOnly: validateOnly),
            version: 7
        ).topics
    }

    // MARK: Metadata

    @Test("null is all topics; an empty list is all in version 0 and none later (META-1)")
    func allTopics() throws {
        try client.createTopic("b")
        try client.createTopic("a")
        #expect(names(try client.ask(MetadataRequest(topics: nil), version: 1)) == ["a", "b"])
        #expect(names(try client.ask(MetadataRequest(topics: []), version: 0)) == ["a", "b"])
        #expect(names(try client.ask(MetadataRequest(topics: []), version: 1)).isEmpty)
    }

    @Test("topics are found by id from version 12 on (META-1)")
    func byID() throws {
        let id = try client.createTopic()
        let known = try client.ask(
            MetadataRequest(topics: [.init(topicId: id, name: nil)]),
            version: 12
        )
        #expect(names(known) == ["orders"])
        let absent = TopicID(high: 3, low: 4)
        let unknown = try client.ask(
            MetadataRequest(topics: [.init(topicId: absent, name: nil)]),
            version: 12
        )
        #expect(code(try only(unknown.topics).errorCode) == .unknownTopicId)
        #expect(try only(unknown.topics).topicId == absent)
    }

    @Test("the broker is told with the address that the client reached it by (META-2 to META-4)")
    func brokers() throws {
        let answer = try client.ask(MetadataRequest(topics: []), version: 9)
        let told = try only(answer.brokers)
        #expect(told.nodeId == 1)
        #expect(told.host == "broker.example")
        #expect(told.port == 9092)
        #expect(answer.controllerId == 1)
        #expect(answer.clusterId?.utf8.count == 22)
    }

    @Test("each partition has its leader, its epoch and its replicas (META-5)", arguments: [0, 1])
    func partitions(shard: Int) throws {
        try client.createTopic(partitions: 4)
        let topic = try broker.connect(to: shard).describe()
        #expect(topic.partitions.map(\.partitionIndex) == [0, 1, 2, 3])
        for partition in topic.partitions {
            #expect(code(partition.errorCode) == .noError)
            #expect(partition.leaderId == 1)
            #expect(partition.leaderEpoch >= 1)
            #expect(partition.replicaNodes == [1])
            #expect(partition.isrNodes == [1])
        }
    }

    @Test("epochs never go back, not even over restarts (META-6)", arguments: Stop.allCases)
    func epochsGrow(stop: Stop) throws {
        try client.createTopic()
        let before = try only(client.describe().partitions).leaderEpoch
        try stop.perform(on: broker)
        let after = try only(broker.connect().describe().partitions).leaderEpoch
        #expect(after > before)
    }

    @Test(
        "a topic is made on first use with the broker's defaults (META-7)",
        arguments: [Int16(3), 12]
    )
    func autoCreation(version: Int16) throws {
        let broker = try TestBroker(configs: [.init("num.partitions", "3")])
        let client = try broker.connect(to: 1)
        let topic = try client.describe("made", mayCreate: true, version: version)
        #expect(code(topic.errorCode) == .noError)
        #expect(topic.partitions.count == 3)
        #expect(topic.partitions.allSatisfy { $0.leaderId == 1 })
        #expect(try client.produce(Batches.batch("a"), to: "made").error == .noError)
    }

    @Test("a topic that is asked for twice in one request is made once (META-7)")
    func autoCreationTwice() throws {
        let answer = try client.ask(
            MetadataRequest(topics: [.init(name: "made"), .init(name: "made")]),
            version: 12
        )
        #expect(answer.topics.allSatisfy { code($0.errorCode) == .noError })
    }

    @Test("a name that collides with another is invalid at once (META-8, GEN-5)")
    func collidingAutoCreation() throws {
        try client.createTopic("a.b")
        #expect(
            code(try client.describe("a_b", mayCreate: true).errorCode) == .invalidTopicException
        )
        // Nothing was asked to be made, so nothing was refused.
        #expect(
            code(try client.describe("a_b", mayCreate: false).errorCode) == .unknownTopicOrPartition
        )
    }

    @Test("nothing is made where that is not allowed, nor for all topics (META-7, META-8)")
    func noAutoCreation() throws {
        #expect(
            code(try client.describe("made", mayCreate: false).errorCode)
                == .unknownTopicOrPartition
        )
        let closed = try TestBroker(configs: [.init("auto.create.topics.enable", "false")])
        let other = try closed.connect()
        #expect(
            code(try other.describe("made", mayCreate: true).errorCode) == .unknownTopicOrPartition
        )
        #expect(try client.ask(MetadataRequest(topics: nil), version: 12).topics.isEmpty)
    }

    @Test(
        "a name that no topic may have is invalid (META-8, GEN-5)",
        arguments: ["", ".", "..", "a b", "ä"]
    )
    func badNames(name: String) throws {
        #expect(
            code(try client.describe(name, mayCreate: true).errorCode) == .invalidTopicException
        )
    }

    @Test("a name of 250 characters is invalid, one of 249 is not (GEN-5)")
    func longNames() throws {
        let longest = String(repeating: "n", count: 249)
        #expect(code(try client.describe(longest, mayCreate: true).errorCode) == .noError)
        #expect(
            code(try client.describe(longest + "n", mayCreate: true).errorCode)
                == .invalidTopicException
        )
    }

    // MARK: CreateTopics

    @Test("a topic is told with its numbers, its id and its settings (CT-7, CT-8)")
    func created() throws {
        let topic = try only(
            create([
                .init(
                    name: "t",
                    numPartitions: 3,
                    replicationFactor: 1,
                    configs: [.init(name: "retention.ms", value: "1234567")]
                )
            ])
        )
        #expect(code(topic.errorCode) == .noError)
        #expect(topic.numPartitions == 3)
        #expect(topic.replicationFactor == 1)
        #expect(topic.topicId != .zero)
        let retention = topic.configs?.first { $0.name == "retention.ms" }
        #expect(retention?.value == "1234567")
        #expect(retention?.configSource == 1)
        #expect(try client.produce(Batches.batch("a"), to: "t", partition: 2).error == .noError)
    }

    /// A topic that is refused.
    static let refused: [(String, CreateTopicsRequest.CreatableTopic, ErrorCode)] = [
        (
            "exists (CT-2)", .init(name: "orders", numPartitions: 1, replicationFactor: 1),
            .topicAlreadyExists
        ),
        (
            "bad name (CT-2)", .init(name: "a b", numPartitions: 1, replicationFactor: 1),
            .invalidTopicException
        ),
        (
            "colliding name (GEN-5)", .init(name: "a_b", numPartitions: 1, replicationFactor: 1),
            .invalidTopicException
        ),
        (
            "no partitions (CT-3)", .init(name: "t", numPartitions: 0, replicationFactor: 1),
            .invalidPartitions
        ),
        (
            "fewer (CT-3)", .init(name: "t", numPartitions: -2, replicationFactor: 1),
            .invalidPartitions
        ),
        (
            "no replicas (CT-3)", .init(name: "t", numPartitions: 1, replicationFactor: 0),
            .invalidReplicationFactor
        ),
        (
            "more than brokers (CT-3)", .init(name: "t", numPartitions: 1, replicationFactor: 2),
            .invalidReplicationFactor
        ),
        (
            "numbers and assignments (CT-4)",
            .init(
                name: "t",
                numPartitions: 1,
                replicationFactor: 1,
                assignments: [.init(partitionIndex: 0, brokerIds: [1])]
            ),
            .invalidRequest
        ),
        (
            "a gap in the partitions (CT-4)",
            .init(
                name: "t",
                numPartitions: -1,
                replicationFactor: -1,
                assignments: [.init(partitionIndex: 1, brokerIds: [1])]
            ),
            .invalidReplicaAssignment
        ),
        (
            "an unknown broker (CT-4)",
            .init(
                name: "t",
                numPartitions: -1,
                replicationFactor: -1,
                assignments: [.init(partitionIndex: 0, brokerIds: [7])]
            ),
            .invalidReplicaAssignment
        ),
        (
            "an unknown setting (CT-5)",
            .init(
                name: "t",
                numPartitions: 1,
                replicationFactor: 1,
                configs: [.init(name: "retention.fortnights", value: "1")]
            ),
            .invalidConfig
        ),
        (
            "a bad value (CT-5)",
            .init(
                name: "t",
                numPartitions: 1,
                replicationFactor: 1,
                configs: [.init(name: "retention.ms", value: "soon")]
            ),
            .invalidConfig
        ),
        (
            "a null value (CT-5)",
            .init(
                name: "t",
                numPartitions: 1,
                replicationFactor: 1,
                configs: [.init(name: "retention.ms", value: nil)]
            ),
            .invalidConfig
        ),
    ]

    @Test("a topic that breaks a rule is refused (CT-2 to CT-5)", arguments: refused.indices)
    func refusals(place: Int) throws {
        try client.createTopic()
        try client.createTopic("a.b")
        let (what, topic, error) = Self.refused[place]
        let answer = try only(create([topic]))
        #expect(code(answer.errorCode) == error, "\(what)")
        #expect(answer.errorMessage?.isEmpty == false)
        #expect(
            names(try client.ask(MetadataRequest(topics: nil), version: 12)) == ["a.b", "orders"]
        )
    }

    @Test("-1 stands for the defaults (CT-3)")
    func defaults() throws {
        let broker = try TestBroker(configs: [.init("num.partitions", "3")])
        let client = try broker.connect()
        let topic = try only(
            client.ask(
                CreateTopicsRequest(topics: [
                    .init(name: "t", numPartitions: -1, replicationFactor: -1)
                ]),
                version: 7
            ).topics
        )
        #expect(code(topic.errorCode) == .noError)
        #expect(topic.numPartitions == 3)
        #expect(topic.replicationFactor == 1)
    }

    @Test("a name that comes twice is refused once (CT-2)")
    func twice() throws {
        let topic = CreateTopicsRequest.CreatableTopic(
            name: "t",
            numPartitions: 1,
            replicationFactor: 1
        )
        let answer = try create([topic, topic])
        #expect(code(try only(answer).errorCode) == .invalidRequest)
    }

    @Test("what is only validated is not made (CT-6)")
    func validateOnly() throws {
        let topic = CreateTopicsRequest.CreatableTopic(
            name: "t",
            numPartitions: 2,
            replicationFactor: 1
        )
        let answer = try only(create([topic], validateOnly: true))
        #expect(code(answer.errorCode) == .noError)
        #expect(answer.numPartitions == 2)
        #expect(code(try client.describe("t").errorCode) == .unknownTopicOrPartition)
    }

    @Test("a topic that was made is there after a power failure (CT-8)")
    func durableTopics() throws {
        let id = try client.createTopic(partitions: 2)
        try broker.restart(after: .dropUnsynced)
        let topic = try broker.connect().describe()
        #expect(topic.topicId == id)
        #expect(topic.partitions.count == 2)
    }

    @Test("a topic that was made is seen on every connection at once (CT-8)")
    func seenEverywhere() throws {
        let other = try broker.connect(to: 1)
        try client.createTopic()
        #expect(code(try other.describe().errorCode) == .noError)
    }
}
