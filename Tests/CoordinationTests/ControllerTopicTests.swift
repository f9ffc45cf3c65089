@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import Testing

@Suite("Topics")
struct ControllerTopicTests {
    @Test(
        "A topic that is asked for without numbers gets the defaults (CT-3), and exists when it is committed (CT-8)"
    )
    func defaults() throws {
        let leader = try LeadingController(brokerCount: 3)
        let outcomes = try leader.create(TopicRequest(name: "orders"))
        let topic = try #require(try? outcomes.first?.result.get())
        #expect(topic.partitions.count == 4)
        #expect(topic.replicationFactor == 3)
        #expect(leader.image.topic(named: "orders") == nil, "not before the commit")
        try leader.commitAll()
        #expect(leader.image.topic(named: "orders") == topic)
        #expect(leader.image.topic(topic.id) == topic)
        #expect(leader.image.partitionCount == 4)
    }

    @Test("One broker gives one replica where the default asks for three")
    func oneBroker() throws {
        let leader = try LeadingController(brokerCount: 1)
        #expect(try leader.create(TopicRequest(name: "a"))[0].result.get().replicationFactor == 1)
    }

    @Test(
        "A name outside of the rules is INVALID_TOPIC_EXCEPTION (GEN-5)",
        arguments: [
            "", ".", "..", "a b", "a/b", "ä", "a:b", "a\u{0}", String(repeating: "x", count: 250),
            "__cluster_metadata",
        ]
    )
    func badNames(name: String) throws {
        let leader = try LeadingController()
        #expect(
            try leader.create(TopicRequest(name: name)).map(\.refusal) == [.invalidTopicException]
        )
        #expect(leader.waiting.isEmpty)
    }

    @Test(
        "A name within the rules is taken (GEN-5)",
        arguments: [
            "a", "...", "_", "-", "A.b_c-9", String(repeating: "x", count: 249),
            "__consumer_offsets",
        ]
    )
    func goodNames(name: String) throws {
        let leader = try LeadingController()
        let topic = try leader.create(TopicRequest(name: name))[0].result.get()
        #expect(topic.isInternal == name.hasPrefix("__"))
    }

    @Test(
        "Names that differ only by '.' and '_' collide (GEN-5), until the other is deleted",
        arguments: [("a.b", "a_b"), ("a_b.c", "a.b_c")]
    )
    func collisions(first: String, second: String) throws {
        let leader = try LeadingController()
        let topic = try leader.create(TopicRequest(name: first))[0].result.get()
        #expect(
            try leader.create(TopicRequest(name: second)).map(\.refusal) == [
                .invalidTopicException
            ],
            "in the overlay"
        )
        try leader.commitAll()
        #expect(
            try leader.create(TopicRequest(name: second)).map(\.refusal) == [
                .invalidTopicException
            ],
            "committed"
        )
        _ = try leader.note(leader.controller.deleteTopics([.id(topic.id)]))
        #expect(try leader.create(TopicRequest(name: second)).map(\.refusal) == [nil])
    }

    @Test(
        "A name that comes twice in a request is refused once with INVALID_REQUEST, and the others are created (CT-2)"
    )
    func twice() throws {
        let leader = try LeadingController()
        let outcomes = try leader.create(
            TopicRequest(name: "a"),
            TopicRequest(name: "b"),
            TopicRequest(name: "a")
        )
        #expect(outcomes.map(\.name) == ["a", "b"])
        #expect(outcomes.map(\.refusal) == [.invalidRequest, nil])
    }

    @Test("A topic that exists is TOPIC_ALREADY_EXISTS (CT-2), also when it is not committed yet")
    func exists() throws {
        let leader = try LeadingController()
        #expect(try leader.create(TopicRequest(name: "a")).map(\.refusal) == [nil])
        #expect(try leader.create(TopicRequest(name: "a")).map(\.refusal) == [.topicAlreadyExists])
        try leader.commitAll()
        #expect(try leader.create(TopicRequest(name: "a")).map(\.refusal) == [.topicAlreadyExists])
    }

    @Test(
        "A number of partitions or replicas that cannot be is refused (CT-3)",
        arguments: [
            (0, 1, .invalidPartitions), (-2, 1, .invalidPartitions),
            (1, 0, .invalidReplicationFactor),
            (1, -2, .invalidReplicationFactor), (1, 4, .invalidReplicationFactor),
            (10_001, 1, .policyViolation),
            (1, 3, nil), (10_000, 1, nil),
        ] as [(Int32, Int16, ErrorCode?)]
    )
    func numbers(partitions: Int32, replicas: Int16, code: ErrorCode?) throws {
        let leader = try LeadingController(brokerCount: 3)
        let request = TopicRequest(
            name: "a",
            partitionCount: partitions,
            replicationFactor: replicas
        )
        #expect(try leader.create(request).map(\.refusal) == [code])
    }

    @Test("One request creates at most 10,000 partitions in all of its topics together")
    func budget() throws {
        let leader = try LeadingController()
        let outcomes = try leader.create(
            TopicRequest(name: "a", partitionCount: 6000),
            TopicRequest(name: "b", partitionCount: 6000),
            TopicRequest(name: "c", partitionCount: 4000)
        )
        #expect(outcomes.map(\.refusal) == [nil, .policyViolation, nil])
    }

    @Test("Brokers that the client names are taken as named, the first as preferred leader (CT-4)")
    func assignments() throws {
        let leader = try LeadingController(brokerCount: 3)
        let request = TopicRequest(
            name: "a",
            assignments: [
                .init(partition: 1, brokers: [3, 1]), .init(partition: 0, brokers: [2, 3]),
            ]
        )
        let topic = try leader.create(request)[0].result.get()
        #expect(topic.partitions.map { $0.replicas.map(\.broker) } == [[2, 3], [3, 1]])
    }

    @Test(
        "Brokers named wrongly are refused (CT-4)",
        arguments: [
            ([(0, [1])], 1, -1, .invalidRequest), ([(0, [1])], -1, 1, .invalidRequest),
            ([(1, [1])], -1, -1, .invalidReplicaAssignment),
            ([(0, [1]), (2, [1])], -1, -1, .invalidReplicaAssignment),
            ([(0, [1]), (0, [2])], -1, -1, .invalidReplicaAssignment),
            ([(-1, [1]), (0, [1])], -1, -1, .invalidReplicaAssignment),
            ([(0, [1, 1])], -1, -1, .invalidReplicaAssignment),
            ([(0, [1]), (1, [1, 2])], -1, -1, .invalidReplicaAssignment),
            ([(0, [9])], -1, -1, .invalidReplicaAssignment),
            ([(0, [])], -1, -1, .invalidReplicaAssignment),
            ([(0, [-1])], -1, -1, .invalidReplicaAssignment),
        ] as [([(Int32, [BrokerID])], Int32, Int16, ErrorCode)]
    )
    func badAssignments(
        assignments: [(Int32, [BrokerID])],
        partitions: Int32,
        replicas: Int16,
        code: ErrorCode
    ) throws {
        let leader = try LeadingController(brokerCount: 3)
        let request = TopicRequest(
            name: "a",
            partitionCount: partitions,
            replicationFactor: replicas,
            assignments: assignments.map { .init(partition: $0.0, brokers: $0.1) }
        )
        #expect(try leader.create(request).map(\.refusal) == [code])
        #expect(leader.waiting.isEmpty)
    }

    @Test(
        "An unknown setting, a bad value, a null value and a repeated name are INVALID_CONFIG (CT-5)",
        arguments: [
            [ConfigChange("retention.msec", "1")], [ConfigChange("retention.ms", "x")],
            [ConfigChange("retention.ms", nil)],
            [ConfigChange("retention.ms", "1"), ConfigChange("retention.ms", "2")],
            [
                ConfigChange("min.compaction.lag.ms", "2"),
                ConfigChange("max.compaction.lag.ms", "1"),
            ],
        ]
    )
    func badConfigs(configs: [ConfigChange]) throws {
        let leader = try LeadingController()
        #expect(
            try leader.create(TopicRequest(name: "a", configs: configs)).map(\.refusal) == [
                .invalidConfig
            ]
        )
        #expect(leader.waiting.isEmpty)
    }

    @Test("A topic keeps its settings in their one spelling")
    func configs() throws {
        let leader = try LeadingController()
        let request = TopicRequest(
            name: "a",
            configs: [ConfigChange("segment.ms", " 7"), ConfigChange("cleanup.policy", "compact")]
        )
        #expect(
            try leader.create(request)[0].result.get().configs == [
                "segment.ms": "7", "cleanup.policy": "compact",
            ]
        )
    }

    @Test("Validating answers the same and creates nothing (CT-6)")
    func validateOnly() throws {
        let leader = try LeadingController(brokerCount: 3)
        let topic = try leader.create(
            TopicRequest(name: "a", partitionCount: 2),
            validateOnly: true
        )[0].result.get()
        #expect(topic.partitions.count == 2 && topic.replicationFactor == 3)
        #expect(
            try leader.create(TopicRequest(name: "."), validateOnly: true).map(\.refusal) == [
                .invalidTopicException
            ]
        )
        #expect(leader.waiting.isEmpty && leader.controller.uncommittedCount == 0)
        #expect(try leader.create(TopicRequest(name: "a")).map(\.refusal) == [nil])
    }

    @Test(
        "A deleted topic is gone for clients, and its replicas stay listed until each broker confirms (DESIGN §5, bug 3)"
    )
    func deletion() throws {
        let leader = try LeadingController(brokerCount: 2)
        let topic = try leader.create(
            TopicRequest(name: "a", partitionCount: 2, replicationFactor: 2)
        )[0].result.get()
        try leader.commitAll()
        #expect(leader.image.replicas(on: 1).count == 2)
        _ = try leader.note(leader.controller.deleteTopics([.name("a")]))
        try leader.commitAll()
        #expect(leader.image.topic(named: "a") == nil && leader.image.topic(topic.id) == nil)
        #expect(leader.image.replicas(on: 1).isEmpty)
        let doomed = leader.image.replicasToDelete(on: 1)
        #expect(doomed.map(\.partition.partition) == [0, 1])
        #expect(doomed.allSatisfy { $0.partition.topic == topic.id })
        #expect(doomed.map(\.epoch) == topic.partitions.compactMap { $0.replica(on: 1)?.epoch })
        for broker in [1, 2] as [BrokerID] {
            #expect(leader.image.deletedTopics.count == 1)
            _ = try leader.note(leader.controller.confirmReplicaDeletion(of: topic.id, on: broker))
            try leader.commitAll()
            #expect(leader.image.replicasToDelete(on: broker).isEmpty)
        }
        #expect(leader.image.deletedTopics.isEmpty)
        let again = try leader.controller.confirmReplicaDeletion(of: topic.id, on: 1)
        #expect(again.records.isEmpty, "a second confirmation changes nothing")
    }

    @Test("A new topic of an old name has another id and other creation epochs (DT-2, bug 13)")
    func recreation() throws {
        let leader = try LeadingController()
        let first = try leader.create(TopicRequest(name: "a"))[0].result.get()
        _ = try leader.note(leader.controller.deleteTopics([.name("a")]))
        let second = try leader.create(TopicRequest(name: "a"))[0].result.get()
        try leader.commitAll()
        #expect(first.id != second.id)
        let epochs = [first, second].map { Set($0.partitions.flatMap { $0.replicas.map(\.epoch) }) }
        #expect(epochs[0].isDisjoint(with: epochs[1]))
        #expect(leader.image.replicasToDelete(on: 1).count == 4)
        #expect(leader.image.replicas(on: 1).count == 4)
    }

    @Test(
        "Deleting answers each element: unknown names, unknown ids, and repetitions by name or id (DT-1)"
    )
    func deletionErrors() throws {
        let leader = try LeadingController()
        let a = try leader.create(TopicRequest(name: "a"))[0].result.get()
        _ = try leader.create(TopicRequest(name: "b"))
        let decision = try leader.controller.deleteTopics([
            .name("a"), .name("nothing"), .id(TopicID(high: 5, low: 5)), .id(a.id), .name("b"),
        ])
        #expect(
            leader.note(decision).map(\.refusal) == [
                .invalidRequest, .unknownTopicOrPartition, .unknownTopicId, .invalidRequest, nil,
            ]
        )
        try leader.commitAll()
        #expect(leader.image.topics.map(\.key) == ["a"])
    }

    @Test("A topic grows; partitions that were there stay as they are (CP-1)")
    func growth() throws {
        let leader = try LeadingController(brokerCount: 3)
        let before = try leader.create(
            TopicRequest(name: "a", partitionCount: 2, replicationFactor: 2)
        )[0].result.get()
        let decision = try leader.controller.createPartitions([
            PartitionsRequest(name: "a", partitionCount: 5),
            PartitionsRequest(name: "b", partitionCount: 5),
        ])
        let outcomes = leader.note(decision)
        #expect(outcomes.map(\.refusal) == [nil, .unknownTopicOrPartition])
        try leader.commitAll()
        let after = try #require(leader.image.topic(named: "a"))
        #expect(after.partitions.prefix(2) == before.partitions[...])
        #expect(
            after.partitions.count == 5 && after.partitions.allSatisfy { $0.replicas.count == 2 }
        )
        #expect(leader.image.partitionCount == 5)
    }

    @Test(
        "A topic does not shrink, stay or grow with brokers named wrongly (CP-1)",
        arguments: [
            (1, nil, .invalidPartitions), (2, nil, .invalidPartitions),
            (-1, nil, .invalidPartitions),
            (3, [[1]], .invalidReplicaAssignment),
            (3, [[1, 2], [1, 2]], .invalidReplicaAssignment),
            (3, [[1, 1]], .invalidReplicaAssignment), (3, [[1, 9]], .invalidReplicaAssignment),
            (3, [], .invalidReplicaAssignment), (10_003, nil, .policyViolation),
            (3, [[3, 1]], nil),
        ] as [(Int32, [[BrokerID]]?, ErrorCode?)]
    )
    func growthErrors(count: Int32, assignments: [[BrokerID]]?, code: ErrorCode?) throws {
        let leader = try LeadingController(brokerCount: 3)
        _ = try leader.create(TopicRequest(name: "a", partitionCount: 2, replicationFactor: 2))
        let request = PartitionsRequest(name: "a", partitionCount: count, assignments: assignments)
        #expect(
            try leader.note(leader.controller.createPartitions([request], validateOnly: true)).map(
                \.refusal
            ) == [code]
        )
        #expect(
            try leader.note(leader.controller.createPartitions([request])).map(\.refusal) == [code]
        )
        #expect(
            try leader.note(leader.controller.createPartitions([request, request])).map(\.refusal)
                == [.invalidRequest]
        )
    }

    @Test("Topic ids are never reserved ones and never begin with a dash")
    func identifiers() throws {
        let leader = try LeadingController()
        for number in 0..<300 {
            let topic = try leader.create(TopicRequest(name: "t\(number)", partitionCount: 1))[0]
                .result.get()
            #expect(
                topic.id != .zero && topic.id != .clusterMetadata
                    && !topic.id.description.hasPrefix("-")
            )
        }
        try leader.commitAll()
        #expect(Set(leader.image.topics.map(\.value.id)).count == 300)
    }
}
