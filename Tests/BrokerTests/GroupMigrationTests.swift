import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaSimulation
import Testing
import struct NIOCore.ByteBuffer

/// Groups whose members change from one protocol to the other while they read, through real request bytes.
///
/// - Source: SEMANTICS rule MIG-1.
@Suite("Consumer groups between the protocols")
struct GroupMigrationTests {
    private let broker: TestBroker
    private let client: TestClient
    private let topic: TopicID

    init() throws {
        broker = try TestBroker()
        client = try broker.connect()
        topic = try client.createTopic(partitions: 4)
        _ = try client.findCoordinator()
    }

    /// A JoinGroup as real consumers send it.
    private func joinRequest(
        _ member: String,
        owned: [Int32] = []
    ) throws -> JoinGroupRequest {
        let subscription = ConsumerProtocolSubscription(
            topics: [TestClient.topic],
            ownedPartitions: owned.isEmpty
                ? [] : [.init(topic: TestClient.topic, partitions: owned)]
        )
        var request = TestClient.join(member)
        request.protocols = [
            .init(name: "range", metadata: try subscription.versionPrefixed(version: 1))
        ]
        return request
    }

    private func assignment(_ partitions: [Int32]) throws -> ByteBuffer {
        try ConsumerProtocolAssignment(
            assignedPartitions: [.init(topic: TestClient.topic, partitions: partitions)]
        ).versionPrefixed(version: 0)
    }

    /// A classic group of one member that reads everything.
    private func classicGroup(
        instance: String? = nil
    ) throws -> (member: String, generation: Int32) {
        var request = try joinRequest(instance == nil ? try client.memberID() : "")
        request.groupInstanceId = instance
        let id = try client.send(request, version: 9)
        broker.advance(by: .seconds(1))
        let joined = try client.answer(to: JoinGroupRequest.self, version: 9, id: id)
        let member = joined.memberId
        var sync = TestClient.sync(member, joined.generationId)
        sync.groupInstanceId = instance
        sync.assignments = [.init(memberId: member, assignment: try assignment([0, 1, 2, 3]))]
        #expect(try client.ask(sync, version: 5).errorCode == 0)
        return (member, joined.generationId)
    }

    /// What a classic member is given when it joins again.
    private func rejoin(
        _ member: String,
        owned: [Int32]
    ) throws -> (generation: Int32, partitions: [Int32]) {
        let joined = try client.ask(try joinRequest(member, owned: owned), version: 9)
        #expect(joined.errorCode == 0)
        #expect(joined.leader != member)
        let synced = try client.sync(member, joined.generationId)
        #expect(synced.errorCode == 0)
        let share = try ConsumerProtocolAssignment(versionPrefixed: synced.assignment)
        return (joined.generationId, share.assignedPartitions.flatMap(\.partitions))
    }

    private var type: String? {
        get throws { try client.ask(ListGroupsRequest(), version: 5).groups.first?.groupType }
    }

    @Test(
        "a member of the consumer protocol takes the group with it, and nobody reads what another has"
    )
    func upgrade() throws {
        let (member, generation) = try classicGroup()
        #expect(try client.commit(5, member: member, generation: generation) == .noError)
        let joined = try client.beat("new", 0)
        #expect(joined.errorCode == 0)
        #expect(try #require(joined.assignment).topicPartitions.isEmpty)
        #expect(try type == "consumer")
        #expect(try client.committed() == 5)
        // The classic member goes on until it is told to join again, and then gives half of it back.
        #expect(try client.commit(6, member: member, generation: generation) == .noError)
        #expect(try client.heartbeat(member, generation) == .rebalanceInProgress)
        let (next, kept) = try rejoin(member, owned: [0, 1, 2, 3])
        #expect(next == generation)
        #expect(kept.count == 2)
        #expect(try client.heartbeat(member, next) == .rebalanceInProgress)
        let (last, same) = try rejoin(member, owned: kept)
        #expect(last == joined.memberEpoch)
        #expect(same == kept)
        #expect(try client.heartbeat(member, last) == .noError)
        let told = try client.beat("new", joined.memberEpoch)
        let share = try only(try #require(told.assignment).topicPartitions).partitions
        #expect(Set(share).union(kept) == [0, 1, 2, 3])
        #expect(try client.commit(7, member: member, generation: generation) == .illegalGeneration)
        #expect(try client.commit(7, member: member, generation: last) == .noError)
        let described = try client.ask(
            ConsumerGroupDescribeRequest(groupIds: [TestClient.group]),
            version: 1
        )
        #expect(try only(described.groups).members.map(\.memberType).sorted() == [0, 1])
    }

    @Test("a change of protocol that the log does not take leaves the group as it was")
    func unwritten() throws {
        let (member, generation) = try classicGroup()
        broker.disk.capacity = broker.disk.usedByteCount
        broker.advance(by: .seconds(2))
        #expect(
            try client.beat("new", 0).errorCode == ErrorCode.coordinatorNotAvailable.rawValue
        )
        broker.disk.capacity = .max
        broker.advance(by: .seconds(2))
        #expect(try type == "classic")
        #expect(try client.heartbeat(member, generation) == .noError)
        #expect(try client.commit(5, member: member, generation: generation) == .noError)
    }

    @Test("a member that is refused changes no protocol")
    func refused() throws {
        let (member, generation) = try classicGroup()
        var request = TestClient.heartbeat("new", 0)
        request.serverAssignor = "none"
        let answer = try client.ask(request, version: 1)
        #expect(answer.errorCode == ErrorCode.unsupportedAssignor.rawValue)
        #expect(try type == "classic")
        #expect(try client.heartbeat(member, generation) == .noError)
    }

    @Test("a static member that comes back while its group changes is told to join again")
    func staticMember() throws {
        _ = try classicGroup(instance: "left")
        broker.isJournalHeld = true
        var back = try joinRequest("")
        back.groupInstanceId = "left"
        let join = try client.send(back, version: 9)
        broker.run()
        #expect(!client.hasAnswer)
        let other = try broker.connect()
        let beat = try other.send(TestClient.heartbeat("new", 0), version: 1)
        broker.run()
        broker.isJournalHeld = false
        broker.run()
        let told = try client.answer(to: JoinGroupRequest.self, version: 9, id: join)
        #expect(told.errorCode == ErrorCode.rebalanceInProgress.rawValue)
        let joined = try other.answer(to: ConsumerGroupHeartbeatRequest.self, version: 1, id: beat)
        #expect(joined.errorCode == 0)
    }

    @Test(
        "a static member changes to the consumer protocol under its name, and the old id is fenced"
    )
    func staticUpgrade() throws {
        let (member, generation) = try classicGroup(instance: "left")
        var request = TestClient.heartbeat("new", 0)
        request.instanceId = "left"
        let joined = try client.ask(request, version: 1)
        #expect(joined.errorCode == 0)
        #expect(try type == "consumer")
        let share = try only(try #require(joined.assignment).topicPartitions).partitions
        #expect(share.sorted() == [0, 1, 2, 3])
        #expect(try client.heartbeat(member, generation) == .unknownMemberId)
    }

    @Test("a static member that comes back as a classic one takes its name over")
    func staticDowngrade() throws {
        var request = TestClient.heartbeat("new", 0)
        request.instanceId = "left"
        #expect(try client.ask(request, version: 1).errorCode == 0)
        _ = try client.beat("other", 0)
        var join = try joinRequest("")
        join.groupInstanceId = "left"
        let joined = try client.ask(join, version: 9)
        #expect(joined.errorCode == 0)
        #expect(joined.memberId != "new")
        #expect(
            try client.beat("new", 1).errorCode == ErrorCode.unknownMemberId.rawValue
        )
    }

    @Test(
        "a classic member of a mixed group shares by its own strategy, and has to ask for its share"
    )
    func sharing() throws {
        _ = try client.beat("new", 0)
        let id = try client.ask(try joinRequest(""), version: 9).memberId
        let joined = try client.ask(try joinRequest(id), version: 9)
        #expect(joined.errorCode == 0)
        var sync = TestClient.sync(id, joined.generationId)
        sync.protocolType = "consumer"
        sync.protocolName = "sticky"
        #expect(
            try client.ask(sync, version: 5).errorCode
                == ErrorCode.inconsistentGroupProtocol.rawValue
        )
        // Alive all the time, but without a share that anybody reads.
        for _ in 0..<14 {
            broker.advance(by: .seconds(5))
            _ = try client.beat("new", 2)
            _ = try client.heartbeat(id, joined.generationId)
        }
        #expect(try client.heartbeat(id, joined.generationId) == .unknownMemberId)
    }

    @Test("a member that was given up has to join again, whatever version it commits with")
    func unknownMember() throws {
        _ = try client.beat("new", 0)
        let request = TestClient.commit(5, member: "gone", generation: 1)
        let answer = try client.ask(request, version: 8)
        #expect(
            try only(try only(answer.topics).partitions).errorCode
                == ErrorCode.unknownMemberId.rawValue
        )
    }

    @Test(
        "when the last member of the consumer protocol leaves, the others are a classic group again"
    )
    func downgrade() throws {
        let (member, _) = try classicGroup()
        let epoch = try client.beat("new", 0).memberEpoch
        _ = try rejoin(member, owned: [])
        #expect(try client.commit(9, member: member, generation: epoch) == .noError)
        #expect(try client.beat("new", -1).errorCode == 0)
        #expect(try type == "classic")
        #expect(try client.committed() == 9)
        let described = try client.describeGroup()
        #expect(try only(described.members).memberId == member)
        #expect(described.groupState == "PreparingRebalance")
        // The generation is the one that the member knows: it is told to join again, and can commit before it does.
        #expect(try client.heartbeat(member, epoch) == .rebalanceInProgress)
        #expect(try client.commit(10, member: member, generation: epoch) == .noError)
        let joined = try client.ask(try joinRequest(member), version: 9)
        #expect(joined.errorCode == 0)
        #expect(joined.leader == member)
        #expect(joined.generationId > epoch)
    }

    @Test(
        "a classic member joins a group of the consumer protocol, and is given up for silence by its own session"
    )
    func joining() throws {
        _ = try client.beat("new", 0)
        let id = try client.ask(try joinRequest(""), version: 9)
        #expect(id.errorCode == ErrorCode.memberIdRequired.rawValue)
        let (generation, share) = try rejoin(id.memberId, owned: [])
        #expect(generation == 2)
        #expect(share.isEmpty)
        #expect(try client.heartbeat(id.memberId, 2) == .noError)
        broker.advance(by: .seconds(11))
        #expect(try client.heartbeat(id.memberId, 2) == .unknownMemberId)
        #expect(try client.beat("new", 1, owned: [0, 1, 2, 3], of: topic).errorCode == 0)
    }

    @Test("where the policy says so, a group with members keeps its protocol")
    func disabled() throws {
        let broker = try TestBroker(configs: [.init("group.consumer.migration.policy", "disabled")])
        let client = try broker.connect()
        try client.createTopic(partitions: 4)
        _ = try client.findCoordinator()
        _ = try client.lead { broker.advance(by: $0) }
        #expect(try client.beat("new", 0).errorCode == ErrorCode.groupIdNotFound.rawValue)
    }
}
