import FlotillaKafkaWire
import FlotillaModel
import NIOCore
import Testing

@testable import FlotillaClient

@Suite("What members of groups say, and draw from answers")
struct GroupMemberTests {
    private func joined(
        _ member: inout ClassicMember,
        generation: Int32 = 1
    ) throws {
        member.beginJoining()
        let answer = JoinGroupResponse(
            generationId: generation,
            protocolName: "range",
            leader: "other",
            memberId: "me"
        )
        #expect(try member.take(answer) == .follows)
        let share = try MemberAssignment.bytes([NamedPartition(topic: "t", index: 0)])
        let told = try member.take(SyncGroupResponse(assignment: share))
        #expect(told == [NamedPartition(topic: "t", index: 0)])
    }

    // MARK: Classic

    @Test("Subscriptions and shares read as they were written, by all that they hold")
    func embedded() throws {
        let subscription = MemberSubscription(
            topics: ["a", "b"],
            owned: [NamedPartition(topic: "a", index: 1), NamedPartition(topic: "a", index: 2)],
            generation: 7,
            rack: "r"
        )
        for assignor in Assignor.allCases {
            #expect(try MemberSubscription(subscription.bytes(for: assignor)) == subscription)
        }
        let share = [NamedPartition(topic: "a", index: 0), NamedPartition(topic: "b", index: 3)]
        #expect(try MemberAssignment.partitions(MemberAssignment.bytes(share)) == share)
        #expect(try MemberAssignment.partitions(ByteBuffer()) == [])
    }

    @Test("The generation of an old cooperative member is found in its user data")
    func oldGeneration() throws {
        let old = ConsumerProtocolSubscription(
            topics: ["a"],
            userData: ByteBuffer(integer: Int32(5)),
            ownedPartitions: [.init(topic: "a", partitions: [0])]
        )
        #expect(try MemberSubscription(old.versionPrefixed(version: 1)).generation == 5)
        let older = try ConsumerProtocolSubscription(topics: ["a"]).versionPrefixed(version: 0)
        #expect(try MemberSubscription(older) == MemberSubscription(topics: ["a"]))
    }

    @Test("A member takes the id that it is given, and asks again with it")
    func memberID() throws {
        var member = ClassicMember(group: "g")
        member.beginJoining()
        let answer = JoinGroupResponse(
            errorCode: ErrorCode.memberIdRequired.rawValue,
            memberId: "me"
        )
        #expect(try member.take(answer) == .again)
        #expect(member.memberID == "me" && member.isRejoinDue && member.phase == .outside)
    }

    @Test("The leader learns of all members what they read and have")
    func leader() throws {
        var member = ClassicMember(group: "g")
        member.beginJoining()
        let told = MemberSubscription(topics: ["t"], owned: [.init(topic: "t", index: 1)])
        let answer = JoinGroupResponse(
            generationId: 2,
            protocolName: "cooperative-sticky",
            leader: "me",
            memberId: "me",
            members: [
                .init(memberId: "me", metadata: try told.bytes(for: .cooperativeSticky))
            ]
        )
        let expected = Assignor.Member(
            id: "me",
            topics: ["t"],
            owned: [.init(topic: "t", index: 1)]
        )
        #expect(try member.take(answer) == .leads([expected], keepsShares: false))
        #expect(member.isLeader && member.generation == 2)
    }

    @Test("What an error code means to a member that reads")
    func verdicts() throws {
        var member = ClassicMember(group: "g")
        try joined(&member)
        #expect(member.judge(0) == .fine && !member.isRebalancing)
        #expect(member.judge(ErrorCode.notCoordinator.rawValue) == .coordinatorMoved)
        #expect(member.judge(ErrorCode.rebalanceInProgress.rawValue) == .rejoins)
        #expect(member.isRejoinDue && !member.hasLostShare && member.generation == 1)
        #expect(member.judge(ErrorCode.illegalGeneration.rawValue) == .isLost)
        #expect(member.hasLostShare && member.memberID == "me" && member.generation == -1)
        member.forgetLoss()
        try joined(&member, generation: 2)
        #expect(member.judge(ErrorCode.unknownMemberId.rawValue) == .isLost)
        #expect(member.memberID.isEmpty && member.hasLostShare)
        let fenced = member.judge(ErrorCode.fencedInstanceId.rawValue)
        let error = ClientError.refused(.fencedInstanceId, subject: "group g", message: nil)
        #expect(fenced == .fails(error))
    }

    @Test("A strategy that nobody here knows ends the membership")
    func strangeStrategy() {
        var member = ClassicMember(group: "g")
        member.beginJoining()
        let answer = JoinGroupResponse(protocolName: "roundrobin", leader: "x", memberId: "me")
        #expect(throws: ClientError.self) { try member.take(answer) }
    }

    // MARK: Consumer

    private static let first = TopicPartition(topic: TopicID(high: 1, low: 2), partition: 0)
    private static let second = TopicPartition(topic: TopicID(high: 1, low: 2), partition: 1)

    private func told(
        _ epoch: Int32,
        _ partitions: [Int32]?
    ) -> ConsumerGroupHeartbeatResponse {
        ConsumerGroupHeartbeatResponse(
            memberEpoch: epoch,
            heartbeatIntervalMs: 100,
            assignment: partitions.map {
                .init(topicPartitions: [.init(topicId: Self.first.topic, partitions: $0)])
            }
        )
    }

    @Test("Ids are 22 characters of a version 4 UUID, and no option of a command")
    func newID() throws {
        for _ in 0..<1000 {
            let text = ConsumerMember.newMemberID()
            let id = try #require(TopicID(text))
            #expect(id.high >> 12 & 0xF == 4 && id.low >> 62 == 2 && !text.hasPrefix("-"))
        }
    }

    @Test("All is said when joining; later only what has changed")
    func heartbeats() {
        var configuration = GroupConfiguration(group: "g", topics: ["t"])
        configuration.groupProtocol = .consumer
        configuration.instanceID = "i"
        var member = ConsumerMember(configuration, memberID: "me")
        #expect(member.farewell == nil)
        let joining = member.heartbeat(reading: [])
        #expect(joining.memberEpoch == 0 && joining.topicPartitions == [])
        #expect(joining.subscribedTopicNames == ["t"] && joining.rebalanceTimeoutMs == 300_000)
        #expect(member.take(told(3, [0, 1]), to: []) == .newShare)
        #expect(
            member.target == [Self.first, Self.second] && member.interval == .milliseconds(100)
        )
        let quiet = member.heartbeat(reading: [])
        #expect(quiet.memberEpoch == 3 && quiet.topicPartitions == nil)
        #expect(quiet.subscribedTopicNames == nil && quiet.rebalanceTimeoutMs == -1)
        let reading = member.heartbeat(reading: [Self.first, Self.second])
        #expect(reading.topicPartitions == [.init(topicId: Self.first.topic, partitions: [0, 1])])
        #expect(member.take(told(3, nil), to: [Self.first, Self.second]) == .fine)
        #expect(member.heartbeat(reading: [Self.first, Self.second]).topicPartitions == nil)
        #expect(member.farewell?.memberEpoch == -2)
        member.missAnswer()
        #expect(member.heartbeat(reading: [Self.first]).subscribedTopicNames == ["t"])
    }

    @Test(
        "A member that is fenced begins again with its id, after it has given all up",
        arguments: [ErrorCode.fencedMemberEpoch, .unknownMemberId, .groupIdNotFound]
    )
    func fenced(code: ErrorCode) {
        var configuration = GroupConfiguration(group: "g", topics: ["t"])
        configuration.groupProtocol = .consumer
        var member = ConsumerMember(configuration, memberID: "me")
        #expect(member.take(told(3, [0]), to: []) == .newShare)
        let answer = ConsumerGroupHeartbeatResponse(errorCode: code.rawValue)
        #expect(member.take(answer, to: [Self.first]) == .isLost)
        #expect(member.hasLostShare && member.epoch == 0 && member.target == nil)
        member.forgetLoss()
        let again = member.heartbeat(reading: [])
        #expect(again.memberId == "me" && again.memberEpoch == 0 && again.topicPartitions == [])
    }

    @Test("A group of another protocol ends the membership, and a move of the coordinator does not")
    func otherCodes() {
        let configuration = GroupConfiguration(group: "g", topics: ["t"])
        var member = ConsumerMember(configuration, memberID: "me")
        var answer = ConsumerGroupHeartbeatResponse(errorCode: ErrorCode.groupIdNotFound.rawValue)
        let error = ClientError.refused(.groupIdNotFound, subject: "group g", message: nil)
        #expect(member.take(answer, to: []) == .fails(error))
        answer.errorCode = ErrorCode.notCoordinator.rawValue
        #expect(member.take(answer, to: []) == .coordinatorMoved)
    }

    // MARK: Progress

    @Test("What was handed out counts as read when more is asked for, and is not committed twice")
    func progress() throws {
        let partition = NamedPartition(topic: "t", index: 0)
        var progress = GroupProgress()
        func due() -> Offset? {
            var copy = progress
            return copy.wantRead()[partition]?.offset
        }
        progress.begin([partition: Offset(5)], committed: [], ticket: 1)
        #expect(due() == Offset(5), "where it began is worth a commit")
        var records = ConsumedRecords(
            partition: partition,
            records: [],
            nextOffset: Offset(9),
            highWatermark: Offset(9)
        )
        #expect(!progress.admits(records))
        records.ticket = 1
        #expect(progress.admits(records))
        progress.deliver(records)
        #expect(progress.delivered == [partition: Offset(9)])
        #expect(due() == Offset(5))
        progress.markRead()
        #expect(due() == Offset(9))
        let wish = try #require(progress.wantRead()[partition])
        progress.noteCommitted(partition, wish)
        #expect(due() == nil)
        progress.forget([partition])
        #expect(progress.delivered.isEmpty && !progress.admits(records))
    }

    /// The progress of one partition, which stands where its group has committed.
    private struct OnePartition {
        let partition = NamedPartition(topic: "t", index: 0)
        var progress = GroupProgress()

        init(at start: Int64) {
            progress.begin([partition: Offset(start)], committed: [partition], ticket: 1)
        }

        /// Has the application read up to an offset, and ask for more.
        mutating func read(to offset: Int64) {
            var records = ConsumedRecords(
                partition: partition,
                records: [],
                nextOffset: Offset(offset),
                highWatermark: Offset(offset)
            )
            records.ticket = 1
            progress.deliver(records)
            progress.markRead()
        }

        /// What is to be committed by itself.
        var due: Offset? {
            var copy = progress
            return copy.wantRead()[partition]?.offset
        }

        mutating func wantRead() throws -> CommitWish {
            try #require(progress.wantRead()[partition])
        }

        /// The application names an offset.
        mutating func want(_ offset: Int64) throws -> CommitWish {
            try #require(progress.want([partition: Offset(offset)])[partition])
        }
    }

    @Test("A call takes nothing back that a later one has committed, or may have")
    func order() throws {
        var one = OnePartition(at: 5)
        let partition = one.partition
        let (first, second) = (try one.want(7), try one.want(6))
        one.progress.send([partition: first])
        #expect(!one.progress.isContested(partition, first))
        one.progress.send([partition: second])
        #expect(one.progress.isContested(partition, first))
        #expect(!one.progress.isContested(partition, second))
        one.progress.giveUp([partition: second])
        #expect(!one.progress.isContested(partition, first), "what has failed is in nobody's way")
        one.progress.send([partition: second])
        one.progress.noteCommitted(partition, second)
        #expect(one.progress.isOvertaken(partition, first), "though it lies behind")
        #expect(!one.progress.isOvertaken(partition, second))
        one.progress.noteCommitted(partition, first)
        #expect(!one.progress.isOvertaken(partition, second), "a late answer changes nothing")
        one.progress.forget([partition])
        #expect(
            !one.progress.isHere(partition, second) && one.progress.ticket(of: partition) == nil
        )
        one.progress.begin([partition: Offset(5)], committed: [partition], ticket: 2)
        #expect(!one.progress.isHere(partition, second), "another assignment is another story")
        one.progress.noteCommitted(partition, second)
        #expect(one.due == nil)
        #expect(one.progress.want([NamedPartition(topic: "t", index: 9): .zero]).isEmpty)
    }

    @Test("After a seek what was read is committed in either direction, and nothing from before it")
    func seeks() throws {
        var one = OnePartition(at: 1000)
        let partition = one.partition
        one.read(to: 1100)
        let stale = try one.wantRead()
        one.progress.move(partition, to: .zero)
        #expect(one.progress.isOvertaken(partition, stale))
        one.read(to: 500)
        #expect(one.due == Offset(500))
        let wish = try one.wantRead()
        one.progress.noteCommitted(partition, wish)
        #expect(one.due == nil)
        // An offset that was named before the seek is not what the group is to stand at.
        let named = try one.want(2000)
        one.progress.send([partition: named])
        one.progress.move(partition, to: Offset(500))
        #expect(one.due == Offset(500), "it is to be said again: 2000 may come first")
        one.progress.noteCommitted(partition, named)
        #expect(one.due == Offset(500))
        one.progress.move(partition, to: Offset(3000))
        #expect(one.due == Offset(3000))
    }

    @Test("What the application names speaks for all that was read before, until more is read")
    func named() throws {
        var one = OnePartition(at: 0)
        let partition = one.partition
        one.read(to: 300)
        let ahead = try one.want(500)
        #expect(one.due == Offset(300))
        #expect(one.progress.wantRead(besides: [partition: ahead]).isEmpty)
        one.progress.send([partition: ahead])
        #expect(one.due == nil, "it is on its way")
        one.progress.giveUp([partition: ahead])
        #expect(one.due == Offset(300), "it has failed")
        one.progress.noteCommitted(partition, ahead)
        one.read(to: 500)
        #expect(one.due == nil)
        let behind = try one.want(10)
        one.progress.send([partition: behind])
        one.progress.noteCommitted(partition, behind)
        #expect(one.due == nil, "the application wants it back there")
        one.read(to: 501)
        #expect(one.due == Offset(501))
        // Until it is acknowledged it may be said again, as the partition may be given up in between.
        let wish = try one.wantRead()
        one.progress.send([partition: wish])
        #expect(one.due == Offset(501))
        one.progress.noteCommitted(partition, wish)
        #expect(one.due == nil)
    }

    @Test("What makes no sense is refused before anybody is asked")
    func configurations() {
        var configurations: [GroupConfiguration] = [
            GroupConfiguration(group: "", topics: ["t"]),
            GroupConfiguration(group: "g", topics: []),
            GroupConfiguration(group: "g", subscription: .pattern("t.*")),
        ]
        var other = GroupConfiguration(group: "g", topics: ["t"])
        other.assignors = []
        configurations.append(other)
        other = GroupConfiguration(group: "g", topics: ["t"])
        other.heartbeatInterval = .seconds(60)
        configurations.append(other)
        for configuration in configurations {
            #expect(throws: ClientError.self) { try configuration.check() }
        }
        var pattern = GroupConfiguration(group: "g", subscription: .pattern("t.*"))
        pattern.groupProtocol = .consumer
        #expect(throws: Never.self) { try pattern.check() }
    }
}
