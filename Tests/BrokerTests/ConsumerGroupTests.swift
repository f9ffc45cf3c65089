import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaSimulation
import Testing
import struct NIOCore.ByteBuffer

/// Groups of the consumer protocol (KIP-848), through real request bytes.
///
/// - Source: SEMANTICS section 6.
@Suite("Consumer groups, consumer protocol")
struct ConsumerGroupRequestTests {
    private let broker: TestBroker
    private let client: TestClient
    private let topic: TopicID

    init() throws {
        broker = try TestBroker()
        client = try broker.connect()
        topic = try client.createTopic(partitions: 4)
        _ = try client.findCoordinator()
    }

    @Test("a member joins, is told what to read, and commits with its epoch (CG-10, CG-13)")
    func alone() throws {
        let joined = try client.beat("one", 0)
        #expect(joined.errorCode == 0)
        #expect(joined.memberEpoch == 1)
        #expect(joined.heartbeatIntervalMs == 5_000)
        let share = try only(try #require(joined.assignment).topicPartitions)
        #expect(share.topicId == topic)
        #expect(share.partitions == [0, 1, 2, 3])
        #expect(try client.beat("one", 1).assignment == nil)
        #expect(try client.commit(5, member: "one", generation: 1) == .noError)
        #expect(try client.commit(6, member: "one", generation: 2) == .staleMemberEpoch)
        #expect(try client.commit(6, member: "two", generation: 1) == .unknownMemberId)
        #expect(try client.commit(6) == .unknownMemberId)
        #expect(try client.committed() == 5)
        let old = try client.ask(
            TestClient.commit(7, member: "one", generation: 1),
            version: 8
        )
        let partition = try only(try only(old.topics).partitions)
        #expect(partition.errorCode == ErrorCode.unsupportedVersion.rawValue)
    }

    @Test(
        "commits are kept for as long as the settings say after the group was left, however old they are (OC-6)"
    )
    func retention() throws {
        let broker = try TestBroker(configs: [.init("offsets.retention.minutes", "1")])
        let client = try broker.connect()
        try client.createTopic(partitions: 4)
        _ = try client.findCoordinator()
        _ = try client.beat("one", 0)
        #expect(try client.commit(5, member: "one", generation: 1) == .noError)
        // Commits are looked at every ten minutes.
        for _ in 0..<19 {
            broker.advance(by: .seconds(30))
            #expect(try client.beat("one", 1).errorCode == 0)
        }
        #expect(try client.beat("one", -1).errorCode == 0)
        broker.advance(by: .seconds(50))
        #expect(try client.committed() == 5)
        broker.advance(by: .seconds(600))
        #expect(try client.committed() == -1)
    }

    @Test("too many topics and too long an id are refused")
    func bounds() throws {
        var request = TestClient.heartbeat("one", 0)
        request.subscribedTopicNames = (0...10_000).map { "topic-\($0)" }
        #expect(
            try client.ask(request, version: 1).errorCode == ErrorCode.invalidRequest.rawValue
        )
        request.subscribedTopicNames?.removeLast()
        #expect(try client.ask(request, version: 1).errorCode == 0)
        let member = String(repeating: "m", count: 513)
        let joined = try client.ask(TestClient.join(member, group: "other"), version: 9)
        #expect(joined.errorCode == ErrorCode.invalidRequest.rawValue)
    }

    @Test("commits are read by members of the present epoch (OF-3)")
    func reading() throws {
        _ = try client.beat("one", 0)
        for (member, epoch, error) in [
            ("one", Int32(1), ErrorCode.noError), ("one", 3, .staleMemberEpoch),
            ("two", 1, .unknownMemberId),
        ] {
            let answer = try client.ask(
                OffsetFetchRequest(groups: [
                    .init(
                        groupId: TestClient.group,
                        memberId: member,
                        memberEpoch: epoch,
                        topics: nil
                    )
                ]),
                version: 9
            )
            #expect(try only(answer.groups).errorCode == error.rawValue)
        }
    }

    @Test("a request that cannot be is refused in words (CG-1)")
    func invalid() throws {
        var requests: [ConsumerGroupHeartbeatRequest] = []
        func with(_ change: (inout ConsumerGroupHeartbeatRequest) -> Void) {
            var request = TestClient.heartbeat("one", 0)
            change(&request)
            requests.append(request)
        }
        with { $0.groupId = "" }
        with { $0.memberId = "" }
        with { $0.instanceId = "" }
        with { $0.rackId = "" }
        with { $0.memberEpoch = -3 }
        with { $0.memberEpoch = -2 }
        with { $0.rebalanceTimeoutMs = -1 }
        with { $0.topicPartitions = nil }
        with { $0.topicPartitions = [.init(topicId: topic, partitions: [0])] }
        with { $0.subscribedTopicNames = nil }
        with { $0.memberId = String(repeating: "m", count: 300) }
        for request in requests {
            let answer = try client.ask(request, version: 1)
            #expect(answer.errorCode == ErrorCode.invalidRequest.rawValue)
            #expect(answer.errorMessage?.isEmpty == false)
        }
        var request = TestClient.heartbeat("one", 0)
        request.serverAssignor = "sticky"
        #expect(
            try client.ask(request, version: 1).errorCode == ErrorCode.unsupportedAssignor.rawValue
        )
        #expect(try client.beat("one", 4).errorCode == ErrorCode.groupIdNotFound.rawValue)
        #expect(try client.beat("one", -1).errorCode == ErrorCode.groupIdNotFound.rawValue)
        #expect(try client.ask(ListGroupsRequest(), version: 5).groups.isEmpty)
    }

    @Test("before version 1 the broker gives the id (CG-1)")
    func givenID() throws {
        let answer = try client.ask(TestClient.heartbeat("", 0), version: 0)
        #expect(answer.errorCode == 0)
        #expect(answer.memberId?.isEmpty == false)
    }

    @Test("tools see it as a group of its kind (CGD-1, DG-1, LS-1)")
    func tools() throws {
        _ = try client.beat("one", 0)
        let listed = try only(try client.ask(ListGroupsRequest(), version: 5).groups)
        #expect(listed.groupType == "consumer")
        #expect(listed.protocolType == "consumer")
        #expect(listed.groupState == "Stable")
        let filtered = ListGroupsRequest(typesFilter: ["classic"])
        #expect(try client.ask(filtered, version: 5).groups.isEmpty)
        let group = try describe()
        #expect(group.groupState == "Stable")
        #expect(group.groupEpoch == 1)
        #expect(group.assignmentEpoch == 1)
        #expect(group.assignorName == "uniform")
        let member = try only(group.members)
        #expect(member.memberType == 1)
        #expect(member.subscribedTopicNames == [TestClient.topic])
        #expect(try only(member.assignment.topicPartitions).topicName == TestClient.topic)
        #expect(try only(member.targetAssignment.topicPartitions).partitions == [0, 1, 2, 3])
        let classic = try client.describeGroup()
        #expect(classic.errorCode == ErrorCode.groupIdNotFound.rawValue)
        #expect(
            try describe("nobody").errorCode == ErrorCode.groupIdNotFound.rawValue
        )
    }

    @Test(
        "a group with members stays with its protocol; an empty one changes it and keeps its commits"
    )
    func changing() throws {
        _ = try client.beat("one", 0)
        #expect(try client.commit(5, member: "one", generation: 1) == .noError)
        let refused = try client.ask(TestClient.join(), version: 9)
        #expect(refused.errorCode == ErrorCode.inconsistentGroupProtocol.rawValue)
        #expect(try delete() == .nonEmptyGroup)
        _ = try client.beat("one", -1)
        #expect(try describe().groupState == "Empty")
        let (member, generation) = try client.lead { broker.advance(by: $0) }
        #expect(try client.committed() == 5)
        #expect(try client.commit(6, member: member, generation: generation) == .noError)
        // Members that say what they want in a form of their own cannot be taken along.
        #expect(try client.beat("two", 0).errorCode == ErrorCode.groupIdNotFound.rawValue)
        let leave = LeaveGroupRequest(
            groupId: TestClient.group,
            members: [.init(memberId: member)]
        )
        _ = try client.ask(leave, version: 5)
        #expect(try client.beat("two", 0).memberEpoch == 1)
        #expect(try client.committed() == 6)
        _ = try client.beat("two", -1)
        #expect(try delete() == .noError)
        #expect(try client.committed() == -1)
        #expect(try client.ask(ListGroupsRequest(), version: 5).groups.isEmpty)
    }

    @Test("a topic that is gone has no name, and is left out of what members read (CGD-1)")
    func namesOfTopics() throws {
        try client.createTopic("more")
        var request = TestClient.heartbeat("one", 0)
        request.subscribedTopicNames = [TestClient.topic, "more"]
        let joined = try client.ask(request, version: 1)
        #expect(joined.assignment?.topicPartitions.count == 2)
        _ = try client.ask(DeleteTopicsRequest(topics: [.init(name: "more")]), version: 6)
        broker.run()
        #expect(try client.beat("two", 0).errorCode == 0)
        // The first has yet to be told.
        let members = try describe().members
        let names = members.flatMap { $0.assignment.topicPartitions.map(\.topicName) }
        #expect(names == [TestClient.topic])
        #expect(members.allSatisfy { $0.targetAssignment.topicPartitions.count == 1 })
    }

    @Test(
        "a group sets for itself what its broker allows",
        arguments: [
            ("consumer.session.timeout.ms", "1", false),
            ("consumer.session.timeout.ms", "44999", false),
            ("consumer.session.timeout.ms", "60000", true),
            ("consumer.session.timeout.ms", "60001", false),
            ("consumer.heartbeat.interval.ms", "4999", false),
            ("consumer.heartbeat.interval.ms", "15000", true),
            ("consumer.heartbeat.interval.ms", "x", false),
        ]
    )
    func boundsOfSettings(name: String, value: String, isAllowed: Bool) throws {
        let wanted = isAllowed ? ErrorCode.noError : .invalidConfig
        let one = IncrementalAlterConfigsRequest(
            resources: [
                .init(
                    resourceType: 32,
                    resourceName: TestClient.group,
                    configs: [.init(name: name, value: value)]
                )
            ]
        )
        #expect(
            try only(try client.ask(one, version: 1).responses).errorCode == wanted.rawValue
        )
        let all = AlterConfigsRequest(
            resources: [
                .init(
                    resourceType: 32,
                    resourceName: TestClient.group,
                    configs: [.init(name: name, value: value)]
                )
            ]
        )
        #expect(
            try only(try client.ask(all, version: 2).responses).errorCode == wanted.rawValue
        )
        #expect(try client.beat("one", 0).errorCode == 0)
        broker.advance(by: .seconds(10))
        #expect(try client.beat("one", 1).errorCode == 0)
    }

    @Test("a group has settings of its own, whether it is there or not")
    func settings() throws {
        let broker = try TestBroker(configs: [
            .init("group.consumer.min.session.timeout.ms", "1000"),
            .init("group.consumer.min.heartbeat.interval.ms", "500"),
        ])
        let client = try broker.connect()
        try client.createTopic(partitions: 4)
        _ = try client.findCoordinator()
        let alter = IncrementalAlterConfigsRequest(
            resources: [
                .init(
                    resourceType: 32,
                    resourceName: TestClient.group,
                    configs: [
                        .init(name: "consumer.heartbeat.interval.ms", value: "700"),
                        .init(name: "consumer.session.timeout.ms", value: "2000"),
                    ]
                )
            ],
            validateOnly: false
        )
        #expect(try only(try client.ask(alter, version: 1).responses).errorCode == 0)
        #expect(try client.beat("one", 0).heartbeatIntervalMs == 700)
        broker.advance(by: .seconds(3))
        #expect(try client.beat("one", 1).errorCode == ErrorCode.unknownMemberId.rawValue)
        try broker.restart(after: .dropUnsynced)
        broker.run()
        let again = try broker.connect()
        let described = try again.ask(
            DescribeConfigsRequest(
                resources: [
                    .init(
                        resourceType: 32,
                        resourceName: TestClient.group,
                        configurationKeys: nil
                    )
                ]
            ),
            version: 4
        )
        let configs = try only(described.results).configs
        #expect(configs.map(\.value) == ["700", "2000"])
        #expect(configs.map(\.configSource) == [8, 8])
    }

    @Test("another broker process knows members and epochs")
    func restart() throws {
        _ = try client.beat("one", 0)
        _ = try client.beat("two", 0)
        try broker.restart(after: .dropUnsynced)
        broker.run()
        let client = try broker.connect()
        _ = try client.findCoordinator()
        #expect(try client.beat("two", 2).errorCode == 0)
        let told = try client.beat("one", 1, owned: [0, 1, 2, 3], of: topic)
        #expect(try only(try #require(told.assignment).topicPartitions).partitions.count == 2)
        #expect(try describe(client: client).members.count == 2)
    }

    @Test("what was committed for wanted topics is not taken away (OD-1)")
    func subscribed() throws {
        _ = try client.beat("one", 0)
        _ = try client.commit(5, member: "one", generation: 1)
        let answer = try client.ask(
            OffsetDeleteRequest(
                groupId: TestClient.group,
                topics: [.init(name: TestClient.topic, partitions: [.init(partitionIndex: 0)])]
            ),
            version: 0
        )
        let partition = try only(try only(answer.topics).partitions)
        #expect(partition.errorCode == ErrorCode.groupSubscribedToTopic.rawValue)
    }

    private func describe(
        _ group: String = TestClient.group,
        client other: TestClient? = nil
    ) throws -> ConsumerGroupDescribeResponse.DescribedGroup {
        let request = ConsumerGroupDescribeRequest(groupIds: [group])
        return try only(try (other ?? client).ask(request, version: 1).groups)
    }

    private func delete() throws -> ErrorCode? {
        let request = DeleteGroupsRequest(groupsNames: [TestClient.group])
        return ErrorCode(rawValue: try only(try client.ask(request, version: 2).results).errorCode)
    }
}

extension TestClient {
    static func heartbeat(
        _ member: String,
        _ epoch: Int32,
        owned: [Int32]? = nil,
        of topic: TopicID = .zero
    ) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest(
            groupId: group,
            memberId: member,
            memberEpoch: epoch,
            rebalanceTimeoutMs: epoch == 0 ? 60_000 : -1,
            subscribedTopicNames: epoch == 0 ? [Self.topic] : nil,
            topicPartitions: epoch == 0
                ? [] : owned.map { [.init(topicId: topic, partitions: $0)] }
        )
    }

    /// A heartbeat of a member of the consumer protocol; epoch 0 joins.
    func beat(
        _ member: String,
        _ epoch: Int32,
        owned: [Int32]? = nil,
        of topic: TopicID = .zero
    ) throws -> ConsumerGroupHeartbeatResponse {
        try ask(Self.heartbeat(member, epoch, owned: owned, of: topic), version: 1)
    }
}
