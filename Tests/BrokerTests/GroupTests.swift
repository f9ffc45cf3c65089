@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRecords
import FlotillaSimulation
import Testing
import struct NIOCore.ByteBuffer

/// Groups of the classic protocol, through real request bytes.
///
/// - Source: SEMANTICS section 5.
@Suite("Consumer groups, classic protocol")
struct GroupTests {
    private let broker: TestBroker
    private let client: TestClient

    init() throws {
        broker = try TestBroker()
        client = try broker.connect()
        try client.createTopic()
        let coordinator = try client.findCoordinator()
        #expect(coordinator.nodeId == 1)
        #expect(coordinator.host == "broker.example")
    }

    @Test("the topic of groups is internal, and nobody else writes to it (GEN-6)")
    func topic() throws {
        let answer = try client.ask(
            MetadataRequest(topics: [.init(name: "__consumer_offsets")]),
            version: 12
        )
        let topic = try only(answer.topics)
        #expect(topic.isInternal)
        #expect(topic.partitions.count == 16)
    }

    @Test("a member joins with the id it was given, and gets what it assigned itself (JG-3, SG-2)")
    func alone() throws {
        let (member, generation) = try client.lead { broker.advance(by: $0) }
        #expect(generation == 1)
        let again = try client.sync(member, generation)
        #expect(String(buffer: again.assignment) == "all")
        #expect(try client.heartbeat(member, generation) == .noError)
        #expect(try client.heartbeat(member, 7) == .illegalGeneration)
        #expect(try client.heartbeat("nobody", generation) == .unknownMemberId)
        let described = try client.describeGroup()
        #expect(described.groupState == "Stable")
        #expect(described.protocolData == "range")
        #expect(try only(described.members).clientHost == "/10.0.0.2")
    }

    @Test("two members share; the second one's coming makes the first join again (JG-6, HB-1)")
    func two() throws {
        let (first, generation) = try client.lead { broker.advance(by: $0) }
        let other = try broker.connect(to: 1)
        let second = try other.memberID()
        let joining = try other.send(TestClient.join(second), version: 9)
        broker.run()
        #expect(try client.heartbeat(first, generation) == .rebalanceInProgress)
        let joined = try client.ask(TestClient.join(first), version: 9)
        #expect(joined.generationId == 2)
        #expect(joined.leader == first)
        #expect(joined.members.map(\.memberId).sorted() == [first, second].sorted())
        let follower = try other.answer(to: JoinGroupRequest.self, version: 9, id: joining)
        #expect(follower.members.isEmpty)
        let waiting = try other.send(TestClient.sync(second, 2), version: 5)
        broker.run()
        #expect(!other.hasAnswer)
        _ = try client.sync(first, 2, [first: "a", second: "b"])
        let share = try other.answer(to: SyncGroupRequest.self, version: 5, id: waiting)
        #expect(String(buffer: share.assignment) == "b")
    }

    @Test("a silent member is given up, and an empty group remembers its generation")
    func silence() throws {
        let (member, generation) = try client.lead { broker.advance(by: $0) }
        broker.advance(by: .seconds(11))
        #expect(try client.heartbeat(member, generation) == .unknownMemberId)
        #expect(try client.describeGroup().groupState == "Empty")
        let (_, next) = try client.lead { broker.advance(by: $0) }
        #expect(next == generation + 2)
    }

    @Test("heartbeats keep a member alive")
    func heartbeats() throws {
        let (member, generation) = try client.lead { broker.advance(by: $0) }
        for _ in 0..<20 {
            broker.advance(by: .seconds(3))
            #expect(try client.heartbeat(member, generation) == .noError)
        }
    }

    @Test("who leaves makes room, and its id is void (LG-1)")
    func leaving() throws {
        let (member, generation) = try client.lead { broker.advance(by: $0) }
        let answer = try client.ask(
            LeaveGroupRequest(
                groupId: TestClient.group,
                members: [.init(memberId: member), .init(memberId: "nobody")]
            ),
            version: 5
        )
        #expect(
            answer.members.map(\.errorCode) == [0, ErrorCode.unknownMemberId.rawValue]
        )
        #expect(try client.heartbeat(member, generation) == .unknownMemberId)
    }

    @Test(
        "what no member can be is refused (JG-1, JG-2, JG-4)",
        arguments: [
            (TestClient.join(session: 10), ErrorCode.invalidSessionTimeout),
            (TestClient.join(session: 99_999_999), .invalidSessionTimeout),
            (TestClient.join("stranger"), .unknownMemberId),
            (TestClient.join(group: ""), .invalidGroupId),
            (TestClient.join(protocols: []), .inconsistentGroupProtocol),
            (TestClient.join(type: ""), .inconsistentGroupProtocol),
        ]
    )
    func refusals(request: JoinGroupRequest, error: ErrorCode) throws {
        let answer = try client.ask(request, version: 9)
        #expect(answer.errorCode == error.rawValue)
        #expect(answer.generationId == -1)
    }

    @Test("members without a common strategy, or of another kind, do not mix (JG-4)")
    func strangers() throws {
        _ = try client.lead { broker.advance(by: $0) }
        for request in [TestClient.join(protocols: ["sticky"]), TestClient.join(type: "connect")] {
            let answer = try client.ask(request, version: 9)
            #expect(answer.errorCode == ErrorCode.inconsistentGroupProtocol.rawValue)
        }
    }

    // MARK: Static members

    @Test("a static member that comes back keeps its share, and fences its former self (JG-10)")
    func staticMember() throws {
        let id = try client.send(TestClient.join(instance: "left"), version: 9)
        broker.advance(by: .seconds(1))
        let joined = try client.answer(to: JoinGroupRequest.self, version: 9, id: id)
        _ = try client.sync(joined.memberId, joined.generationId, [joined.memberId: "all"])
        let back = try client.ask(TestClient.join(instance: "left"), version: 9)
        #expect(back.errorCode == 0)
        #expect(back.generationId == joined.generationId)
        #expect(back.skipAssignment)
        #expect(back.memberId != joined.memberId)
        #expect(try only(back.members).memberId == back.memberId)
        let share = try client.sync(back.memberId, back.generationId)
        #expect(String(buffer: share.assignment) == "all")
        let former = try client.ask(
            HeartbeatRequest(
                groupId: TestClient.group,
                generationId: joined.generationId,
                memberId: joined.memberId,
                groupInstanceId: "left"
            ),
            version: 4
        )
        #expect(former.errorCode == ErrorCode.fencedInstanceId.rawValue)
    }

    @Test("that a group is empty comes into the log as soon as there is room")
    func emptiedWithoutRoom() throws {
        let (member, generation) = try client.lead { broker.advance(by: $0) }
        broker.disk.capacity = broker.disk.usedByteCount
        broker.advance(by: .seconds(2))
        #expect(
            try client.commit(1, member: member, generation: generation)
                == .coordinatorNotAvailable
        )
        _ = try client.ask(
            LeaveGroupRequest(groupId: TestClient.group, members: [.init(memberId: member)]),
            version: 5
        )
        broker.disk.capacity = .max
        broker.advance(by: .seconds(5))
        try broker.restart(after: .dropUnsynced)
        broker.run()
        let again = try broker.connect()
        #expect(try again.describeGroup().groupState == "Empty")
        #expect(try again.heartbeat(member, generation) == .unknownMemberId)
    }

    @Test("members that say much of themselves have a bound together, the others come all the same")
    func boundedSubscriptions() throws {
        let broker = try TestBroker(configs: [.init("offsets.topic.num.partitions", "1")])
        let client = try broker.connect()
        _ = try client.findCoordinator()
        let large = String(repeating: "x", count: (4 << 20) - 100)
        for number in 0..<16 {
            let other = try broker.connect()
            _ = try other.send(TestClient.join(group: "\(number)", metadata: large), version: 3)
            broker.run()
            #expect(!other.hasAnswer)
        }
        let refused = try client.ask(TestClient.join(group: "16", metadata: large), version: 3)
        #expect(refused.errorCode == ErrorCode.coordinatorNotAvailable.rawValue)
        _ = try client.send(TestClient.join(group: "17"), version: 3)
        broker.run()
        #expect(!client.hasAnswer)
    }

    @Test("a member knows a hundred strategies at most, and their names count as what it says")
    func boundedStrategies() throws {
        let many = TestClient.join(protocols: (0...100).map { "strategy-\($0)" }, metadata: "")
        #expect(
            try client.ask(many, version: 3).errorCode == ErrorCode.invalidRequest.rawValue
        )
    }

    @Test("shares have a bound together with what members say")
    func boundedShares() throws {
        let broker = try TestBroker(configs: [.init("offsets.topic.num.partitions", "1")])
        let client = try broker.connect()
        _ = try client.findCoordinator()
        let large = String(repeating: "x", count: 8_000_000)
        var errors: [Int16] = []
        for number in 0..<9 {
            let other = try broker.connect()
            let group = "\(number)"
            let id = try other.send(TestClient.join(group: group), version: 3)
            broker.advance(by: .seconds(1))
            let joined = try other.answer(to: JoinGroupRequest.self, version: 3, id: id)
            var sync = TestClient.sync(joined.memberId, joined.generationId)
            sync.groupId = group
            sync.assignments = [
                .init(memberId: joined.memberId, assignment: ByteBuffer(string: large))
            ]
            errors.append(try other.ask(sync, version: 3).errorCode)
        }
        #expect(errors.dropLast().allSatisfy { $0 == 0 })
        #expect(errors.last == ErrorCode.coordinatorNotAvailable.rawValue)
    }

    // MARK: Commits

    @Test("who is no member commits while nobody is in the group (OC-1)")
    func simpleCommits() throws {
        #expect(try client.committed() == -1)
        #expect(try client.commit(5, metadata: "note") == .noError)
        #expect(try client.committed() == 5)
        #expect(try client.commit(3) == .noError)
        #expect(try client.committed() == 3)
        let (member, generation) = try client.lead { broker.advance(by: $0) }
        #expect(try client.commit(7) == .unknownMemberId)
        #expect(try client.commit(7, member: member, generation: generation) == .noError)
        #expect(try client.commit(8, member: member, generation: 9) == .illegalGeneration)
        #expect(try client.committed() == 7)
    }

    @Test("a commit that cannot be kept is refused alone (OC-4)")
    func badCommits() throws {
        #expect(
            try client.commit(1, metadata: String(repeating: "x", count: 4_097))
                == .offsetMetadataTooLarge
        )
        let answer = try client.ask(
            OffsetCommitRequest(
                groupId: TestClient.group,
                topics: [
                    .init(
                        name: TestClient.topic,
                        partitions: [
                            .init(partitionIndex: 0, committedOffset: 4),
                            .init(partitionIndex: 99, committedOffset: 4),
                        ]
                    ),
                    .init(
                        name: "absent",
                        partitions: [.init(partitionIndex: 0, committedOffset: 4)]
                    ),
                ]
            ),
            version: 9
        )
        let unknown = ErrorCode.unknownTopicOrPartition.rawValue
        #expect(answer.topics.map { $0.partitions.map(\.errorCode) } == [[0, unknown], [unknown]])
        #expect(try client.committed() == 4)
    }

    @Test("nothing is acknowledged before the disk has it, and what is outlives a power cut")
    func durability() throws {
        #expect(try client.commit(5) == .noError)
        broker.isJournalHeld = true
        _ = try client.send(TestClient.commit(6), version: 9)
        broker.run()
        #expect(!client.hasAnswer)
        try broker.restart(after: .dropUnsynced)
        broker.isJournalHeld = false
        broker.run()
        #expect(try broker.connect().committed() == 5)
    }

    @Test("a group outlives a restart, and its members go on in their generation")
    func restart() throws {
        let (member, generation) = try client.lead { broker.advance(by: $0) }
        #expect(try client.commit(9, member: member, generation: generation) == .noError)
        try broker.restart(after: .dropUnsynced)
        broker.run()
        let again = try broker.connect()
        #expect(try again.heartbeat(member, generation) == .noError)
        #expect(try again.commit(11, member: member, generation: generation) == .noError)
        let share = try again.sync(member, generation)
        #expect(String(buffer: share.assignment) == "all")
        #expect(try again.committed() == 11)
    }

    @Test("everything that a group committed is told without asking by name (OF-1)")
    func allOffsets() throws {
        try client.createTopic("more", partitions: 2)
        _ = try client.ask(TestClient.commit(3, of: "more", partition: 1), version: 9)
        #expect(try client.commit(4) == .noError)
        let answer = try client.ask(
            OffsetFetchRequest(groupId: TestClient.group, topics: nil),
            version: 7
        )
        #expect(answer.topics.map(\.name) == ["more", TestClient.topic])
        #expect(answer.topics.flatMap { $0.partitions.map(\.committedOffset) } == [3, 4])
    }

    @Test("with a topic goes what was committed for it")
    func deletedTopic() throws {
        #expect(try client.commit(4) == .noError)
        _ = try client.ask(DeleteTopicsRequest(topics: [.init(name: TestClient.topic)]), version: 6)
        broker.run()
        try client.createTopic()
        #expect(try client.committed() == -1)
    }

    @Test("a time to keep a commit does not run while members read on from it (OC-6)")
    func timeToKeep() throws {
        let (member, generation) = try client.lead { broker.advance(by: $0) }
        var request = TestClient.commit(9, member: member, generation: generation)
        request.retentionTimeMs = 60_000
        let answer = try client.ask(request, version: 3)
        #expect(try only(try only(answer.topics).partitions).errorCode == 0)
        // Commits are looked at every ten minutes.
        for _ in 0..<250 {
            broker.advance(by: .seconds(5))
            #expect(try client.heartbeat(member, generation) == .noError)
        }
        #expect(try client.committed() == 9)
        broker.advance(by: .seconds(620))
        #expect(try client.committed() == -1)
    }

    @Test("a topic that the coordinator does not know takes no other's commit with it (OC-4)")
    func goneMeanwhile() throws {
        let topic = try client.createTopic("more")
        func commit(_ name: String, _ id: TopicID) -> OffsetCommit {
            OffsetCommit(
                key: OffsetKey(topic: name, partition: 0),
                topic: id,
                offset: 7,
                leaderEpoch: -1,
                metadata: ""
            )
        }
        let gone = TopicID(high: 1, low: 2)
        var found: GroupAnswer?
        broker.shards[0].askCoordinator(
            of: TestClient.group,
            .commit(
                [commit(TestClient.topic, gone), commit("more", topic), commit("gone", gone)],
                by: GroupMembership(member: "", generation: -1)
            )
        ) { found = $0 }
        broker.run()
        guard case .committed(let errors) = found else {
            Issue.record("\(String(describing: found))")
            return
        }
        #expect(
            errors == [.unknownTopicOrPartition, .noError, .unknownTopicOrPartition]
        )
        let answer = try client.ask(
            OffsetFetchRequest(groupId: TestClient.group, topics: nil),
            version: 7
        )
        #expect(answer.topics.map(\.name) == ["more"])
    }

    @Test("commits are read in the form that older programs wrote, and in today's")
    func forms() throws {
        let key = try OffsetCommitKey(group: "readers", topic: "orders", partition: 1)
            .versionPrefixed(version: 1)
        let value = OffsetCommitValue(
            offset: 5,
            metadata: "note",
            commitTimestamp: 6,
            expireTimestamp: 70
        )
        var builder = RecordBatchBuilder()
        for version in [Int16(1), 3] {
            builder.append(
                key: key,
                value: try value.versionPrefixed(version: version),
                timestamp: Timestamp(1)
            )
        }
        let place = OffsetKey(topic: "orders", partition: 1)
        var offset = CommittedOffset(
            offset: 5,
            metadata: "note",
            commitTime: Timestamp(6),
            expiryTime: Timestamp(70)
        )
        var lasting = offset
        lasting.expiryTime = nil
        #expect(
            try facts(in: builder.build(using: Compressor())) == [
                .offset(group: "readers", key: place, offset),
                .offset(group: "readers", key: place, lasting),
            ]
        )
        offset.topic = CommittedTopic(id: TopicID(high: 1, low: 2), knownAt: LogIndex(3))
        lasting.topic = offset.topic
        lasting.leaderEpoch = 4
        let records: [GroupRecord] = [
            .offset(group: "readers", key: place, offset),
            .offset(group: "readers", key: place, lasting),
            .offset(group: "readers", key: place, nil),
        ]
        let batch = try GroupBatch.batch(of: records, at: Timestamp(9), byteLimit: 1 << 20)
        #expect(try facts(in: batch) == records)
    }

    private func facts(in batch: RecordBatch) throws -> [GroupRecord] {
        try GroupBatch.facts(
            in: .data(
                batch,
                index: LogIndex(1),
                term: Term(1),
                baseOffset: .zero,
                appendTime: Timestamp(9),
                previousChecksum: 0
            )
        )
    }

    // MARK: Tools

    @Test("groups are listed by state and type (LS-1)")
    func list() throws {
        _ = try client.lead { broker.advance(by: $0) }
        _ = try client.commit(1, group: "simple")
        let all = try client.ask(ListGroupsRequest(), version: 5).groups
        #expect(all.map(\.groupId) == [TestClient.group, "simple"])
        #expect(all.map(\.groupState) == ["Stable", "Empty"])
        #expect(all.map(\.groupType) == ["classic", "classic"])
        let stable = try client.ask(ListGroupsRequest(statesFilter: ["STABLE"]), version: 5).groups
        #expect(stable.map(\.groupId) == [TestClient.group])
        #expect(
            try client.ask(ListGroupsRequest(typesFilter: ["consumer"]), version: 5).groups.isEmpty
        )
    }

    @Test("a group goes when nobody is in it (DEL-1)")
    func delete() throws {
        let (member, _) = try client.lead { broker.advance(by: $0) }
        let request = DeleteGroupsRequest(groupsNames: [TestClient.group, "absent"])
        #expect(
            try client.ask(request, version: 2).results.map(\.errorCode)
                == [ErrorCode.nonEmptyGroup.rawValue, ErrorCode.groupIdNotFound.rawValue]
        )
        _ = try client.ask(
            LeaveGroupRequest(groupId: TestClient.group, members: [.init(memberId: member)]),
            version: 5
        )
        _ = try client.commit(1)
        #expect(try client.ask(request, version: 2).results[0].errorCode == 0)
        #expect(try client.committed() == -1)
        #expect(try client.describeGroup().errorCode == ErrorCode.groupIdNotFound.rawValue)
    }

    @Test("commits of topics that nobody reads any more can be deleted (OD-1)")
    func deleteOffsets() throws {
        _ = try client.commit(1)
        let request = OffsetDeleteRequest(
            groupId: TestClient.group,
            topics: [.init(name: TestClient.topic, partitions: [.init(partitionIndex: 0)])]
        )
        let answer = try client.ask(request, version: 0)
        #expect(answer.errorCode == 0)
        #expect(try client.committed() == -1)
        let absent = OffsetDeleteRequest(groupId: "absent", topics: request.topics)
        #expect(
            try client.ask(absent, version: 0).errorCode == ErrorCode.groupIdNotFound.rawValue
        )
    }
}
