import FlotillaKafkaWire
import FlotillaModel
import NIOCore
import Synchronization
import Testing

@testable import FlotillaClient

@Suite("A member of a group against a coordinator that goes wrong", .timeLimit(.minutes(2)))
struct GroupConsumerTests {
    /// What the listener was told, in order.
    private final class Diary: Sendable {
        private let lines = Mutex<[String]>([])

        var entries: [String] { lines.withLock { $0 } }

        func note(_ text: String) { lines.withLock { $0.append(text) } }

        var listener: RebalanceListener {
            var listener = RebalanceListener()
            listener.assigned = { self.note("assigned \($1.map(\.index))") }
            listener.revoked = { self.note("revoked \($1.map(\.index))") }
            listener.lost = { self.note("lost \($1.map(\.index))") }
            return listener
        }
    }

    private func client(_ broker: FakeBroker) -> KafkaClient {
        var configuration = ClientConfiguration(brokers: [
            BrokerAddress(host: "127.0.0.1", port: broker.address.port)
        ])
        configuration.initialBackoff = .milliseconds(2)
        configuration.maximumBackoff = .milliseconds(20)
        return KafkaClient(configuration)
    }

    private func configuration(
        _ diary: Diary,
        _ groupProtocol: GroupProtocol = .classic
    ) -> GroupConfiguration {
        var configuration = GroupConfiguration(group: "g", topics: [FakeBroker.topic])
        configuration.groupProtocol = groupProtocol
        configuration.heartbeatInterval = .milliseconds(20)
        configuration.start = .earliest
        configuration.fetching.maximumWait = .milliseconds(20)
        configuration.listener = diary.listener
        return configuration
    }

    private func fill(_ client: KafkaClient, _ count: Int, partition: Int32 = 0) async throws {
        let producer = Producer(client)
        for number in 0..<count {
            _ = try await producer.send(
                ProducerRecord(
                    topic: FakeBroker.topic,
                    partition: partition,
                    value: ByteBuffer(string: "\(number)")
                )
            )
        }
        await producer.close()
    }

    /// Reads until so many records came.
    private func read(_ consumer: GroupConsumer, _ count: Int) async throws -> [String] {
        var values: [String] = []
        while values.count < count {
            let batch = try #require(try await consumer.next(within: .seconds(20)))
            values += batch.records.map { $0.value.map { String(buffer: $0) } ?? "" }
        }
        return values
    }

    /// Asks for records that do not come, until something is so.
    private func pull(
        _ consumer: GroupConsumer,
        until isSo: () async throws -> Bool
    ) async throws {
        let deadline = ContinuousClock.now + .seconds(20)
        while try await !isSo() {
            try #require(ContinuousClock.now < deadline, "it does not come to that")
            _ = try await consumer.next(within: .milliseconds(20))
        }
    }

    @Test("It reads, commits what it is done with, and leaves; the next one goes on behind that")
    func life() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start()
        let client = client(broker)
        try await fill(client, 3)
        let diary = Diary()
        let first = try GroupConsumer(client, configuration(diary))
        #expect(try await read(first, 3) == ["0", "1", "2"])
        #expect(await first.assignment == [NamedPartition(topic: "t", index: 0)])
        #expect(try await first.next(within: .milliseconds(1)) == nil)
        await first.close()
        #expect(try await first.next() == nil)
        #expect(coordinator.with { $0.committed } == [0: 3])
        #expect(coordinator.with { $0.leaves } == ["me"])
        #expect(diary.entries == ["assigned [0]", "revoked [0]"])
        try await fill(client, 1)
        let second = try GroupConsumer(client, configuration(diary))
        #expect(try await read(second, 1) == ["0"])
        await second.close()
        #expect(coordinator.with { $0.committed } == [0: 3], "nobody asked for more")
        await client.close()
        try await broker.stop()
    }

    @Test("What the application says is committed, at once or soon, and nothing by itself")
    func explicitCommits() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start()
        let client = client(broker)
        try await fill(client, 3)
        var configuration = configuration(Diary())
        configuration.autoCommitInterval = nil
        let consumer = try GroupConsumer(client, configuration)
        _ = try await read(consumer, 3)
        _ = try await consumer.next(within: .milliseconds(1))
        #expect(coordinator.with { $0.committed } == [:])
        let partition = NamedPartition(topic: "t", index: 0)
        try await consumer.commit([partition: Offset(1)])
        #expect(coordinator.with { $0.committed } == [0: 1])
        #expect(try await consumer.committed([partition])[partition]?.offset == Offset(1))
        try await consumer.commitSoon([partition: Offset(2)])
        await consumer.close()
        #expect(coordinator.with { $0.committed } == [0: 2])
        let other = NamedPartition(topic: "t", index: 5)
        await #expect(throws: ClientError.notAssigned(other)) {
            try await consumer.commit([other: .zero])
        }
        await client.close()
        try await broker.stop()
    }

    /// Waits until the member has its share.
    private func share(_ consumer: GroupConsumer) async throws {
        try await pull(consumer) { await !consumer.assignment.isEmpty }
    }

    @Test("What was read after a seek backwards is committed by itself")
    func seekBackwards() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start()
        let client = client(broker)
        try await fill(client, 3)
        let consumer = try GroupConsumer(client, configuration(Diary()))
        _ = try await read(consumer, 3)
        let partition = NamedPartition(topic: "t", index: 0)
        try await consumer.commit([partition: Offset(1000)])
        #expect(coordinator.with { $0.committed } == [0: 1000])
        try await consumer.seek(partition, to: .offset(.zero))
        #expect(try await read(consumer, 3) == ["0", "1", "2"])
        _ = try await consumer.next(within: .milliseconds(1))
        await consumer.close()
        #expect(coordinator.with { $0.committed } == [0: 3])
        await client.close()
        try await broker.stop()
    }

    @Test("An offset behind what is committed is committed where the application names it")
    func commitsBackwards() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start()
        let client = client(broker)
        try await fill(client, 3)
        var configuration = configuration(Diary())
        configuration.autoCommitInterval = .milliseconds(10)
        let consumer = try GroupConsumer(client, configuration)
        _ = try await read(consumer, 3)
        _ = try await consumer.next(within: .milliseconds(1))
        try await consumer.commit()
        #expect(coordinator.with { $0.committed } == [0: 3])
        let partition = NamedPartition(topic: "t", index: 0)
        try await consumer.commitSoon([partition: Offset(1)])
        try await pull(consumer) { coordinator.with { $0.committed } == [0: 1] }
        // Some intervals pass, and what was read before is not said again.
        _ = try await consumer.next(within: .milliseconds(50))
        await consumer.close()
        #expect(coordinator.with { $0.committed } == [0: 1])
        await client.close()
        try await broker.stop()
    }

    @Test("A commit that the application waits for is not taken back by what was read before")
    func commitInFlight() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start()
        let client = client(broker)
        try await fill(client, 3)
        var configuration = configuration(Diary())
        configuration.autoCommitInterval = .milliseconds(5)
        let consumer = try GroupConsumer(client, configuration)
        // Handed out and not asked beyond: by itself only the beginning would be committed.
        _ = try await read(consumer, 3)
        let loading = ErrorCode.coordinatorLoadInProgress.rawValue
        coordinator.with { $0.codes[.offsetCommit] = Array(repeating: loading, count: 8) }
        try await consumer.commit()
        try await Task.sleep(for: .milliseconds(50))
        #expect(coordinator.with { $0.committed } == [0: 3])
        let last = coordinator.with { $0.wishes.suffix(4) }
        #expect(last.allSatisfy { $0 == [0: 3] }, "\(last)")
        await consumer.close()
        #expect(coordinator.with { $0.committed } == [0: 3])
        await client.close()
        try await broker.stop()
    }

    @Test("A partition that is refused for the moment is sent again alone")
    func partialCommit() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start(partitions: 2)
        let client = client(broker)
        var configuration = configuration(Diary())
        configuration.autoCommitInterval = nil
        let consumer = try GroupConsumer(client, configuration)
        try await share(consumer)
        let first = NamedPartition(topic: "t", index: 0)
        let second = NamedPartition(topic: "t", index: 1)
        let loading = ErrorCode.coordinatorLoadInProgress.rawValue
        coordinator.with { $0.commitCodes = [1: [loading, loading]] }
        try await consumer.commit([first: Offset(1), second: Offset(2)])
        #expect(coordinator.with { $0.wishes } == [[0: 1, 1: 2], [1: 2], [1: 2]])
        #expect(coordinator.with { $0.committed } == [0: 1, 1: 2])
        await consumer.close()
        await client.close()
        try await broker.stop()
    }

    @Test("A partition whose topic was deleted is given up at once, and does not keep others back")
    func commitOfDeleted() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start(partitions: 2)
        let client = client(broker)
        var configuration = configuration(Diary())
        configuration.autoCommitInterval = nil
        let consumer = try GroupConsumer(client, configuration)
        try await share(consumer)
        let first = NamedPartition(topic: "t", index: 0)
        let second = NamedPartition(topic: "t", index: 1)
        let (gone, loading) = (
            ErrorCode.unknownTopicOrPartition, ErrorCode.coordinatorLoadInProgress
        )
        coordinator.with { $0.commitCodes = [0: [gone.rawValue], 1: [loading.rawValue]] }
        let error = ClientError.refused(gone, subject: "commit of t[0] by group g", message: nil)
        await #expect(throws: error) {
            try await consumer.commit([first: Offset(1), second: Offset(2)])
        }
        #expect(coordinator.with { $0.wishes } == [[0: 1, 1: 2], [1: 2]])
        #expect(coordinator.with { $0.committed } == [1: 2])
        // Nor does it keep the member back when it leaves.
        coordinator.with { state in
            state.wishes = []
            state.commitCodes = [0: [gone.rawValue, gone.rawValue]]
        }
        try await consumer.commitSoon([first: Offset(3), second: Offset(4)])
        await consumer.close()
        #expect(coordinator.with { $0.committed } == [1: 4])
        let asked = coordinator.with { $0.wishes.filter { $0[0] != nil }.count }
        #expect((1...2).contains(asked), "it is not repeated")
        await client.close()
        try await broker.stop()
    }

    @Test(
        "What is refused for the moment is committed all the same before its partition is given up"
    )
    func soonBeforeGivenUp() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start()
        let client = client(broker)
        var configuration = configuration(Diary())
        configuration.autoCommitInterval = nil
        let consumer = try GroupConsumer(client, configuration)
        try await share(consumer)
        let loading = ErrorCode.coordinatorLoadInProgress.rawValue
        coordinator.with { $0.codes[.offsetCommit] = Array(repeating: loading, count: 6) }
        try await consumer.commitSoon([NamedPartition(topic: "t", index: 0): Offset(2)])
        try await pull(consumer) { coordinator.with { !$0.wishes.isEmpty } }
        await consumer.close()
        #expect(coordinator.with { $0.committed } == [0: 2])
        await client.close()
        try await broker.stop()
    }

    @Test("A coordinator that moves or is not there yet is looked for until it is found")
    func movingCoordinator() async throws {
        let coordinator = FakeCoordinator()
        coordinator.with { state in
            state.codes = [
                .findCoordinator: [15, 15], .joinGroup: [14, 16], .syncGroup: [16],
                .heartbeat: [16, 14], .offsetCommit: [16, 14], .offsetFetch: [14],
            ]
        }
        let broker = try await coordinator.start()
        let client = client(broker)
        try await fill(client, 2)
        let consumer = try GroupConsumer(client, configuration(Diary()))
        #expect(try await read(consumer, 2) == ["0", "1"])
        try await pull(consumer) { coordinator.with { $0.codes[.heartbeat] == [] } }
        try await consumer.commit()
        #expect(coordinator.with { $0.committed } == [0: 2])
        await consumer.close()
        await client.close()
        try await broker.stop()
    }

    @Test("When the group divides anew an eager member gives up all, and a cooperative one nothing")
    func rebalance() async throws {
        for assignors in [[Assignor.range], [.cooperativeSticky]] {
            let coordinator = FakeCoordinator()
            let broker = try await coordinator.start(partitions: 2)
            let client = client(broker)
            try await fill(client, 2)
            let diary = Diary()
            var configuration = configuration(diary)
            configuration.assignors = assignors
            let consumer = try GroupConsumer(client, configuration)
            #expect(try await read(consumer, 2) == ["0", "1"])
            coordinator.with { $0.codes[.heartbeat] = [ErrorCode.rebalanceInProgress.rawValue] }
            try await pull(consumer) { coordinator.with { $0.generation == 2 } }
            try await pull(consumer) {
                diary.entries.count >= (configuration.isCooperative ? 2 : 3)
            }
            try await fill(client, 1, partition: 1)
            #expect(try await read(consumer, 1) == ["0"])
            let expected =
                configuration.isCooperative
                ? ["assigned [0, 1]", "assigned []"]
                : ["assigned [0, 1]", "revoked [0, 1]", "assigned [0, 1]"]
            #expect(diary.entries == expected)
            await consumer.close()
            await client.close()
            try await broker.stop()
        }
    }

    @Test("A member that the group does not know any more drops all, and joins as somebody new")
    func lost() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start()
        let client = client(broker)
        try await fill(client, 2)
        let diary = Diary()
        let consumer = try GroupConsumer(client, configuration(diary))
        #expect(try await read(consumer, 2) == ["0", "1"])
        coordinator.with { $0.codes[.heartbeat] = [ErrorCode.unknownMemberId.rawValue] }
        // Nothing was committed, so it begins again where the group stands.
        #expect(try await read(consumer, 2) == ["0", "1"])
        #expect(diary.entries == ["assigned [0]", "lost [0]", "assigned [0]"])
        #expect(coordinator.with { $0.joins } == ["", "me", "", "me"])
        await consumer.close()
        await client.close()
        try await broker.stop()
    }

    @Test("Who does not ask for records in time leaves, and comes back when it does")
    func stalled() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start()
        let client = client(broker)
        try await fill(client, 1)
        let diary = Diary()
        var configuration = configuration(diary)
        configuration.maximumPollInterval = .milliseconds(100)
        let consumer = try GroupConsumer(client, configuration)
        #expect(try await read(consumer, 1) == ["0"])
        let deadline = ContinuousClock.now + .seconds(20)
        while coordinator.with({ $0.leaves }).isEmpty, ContinuousClock.now < deadline {
            try await Task.sleep(for: .milliseconds(10))
        }
        #expect(coordinator.with { $0.leaves } == ["me"])
        #expect(diary.entries == ["assigned [0]"], "it is told when it asks, not while it works")
        #expect(try await read(consumer, 1) == ["0"])
        #expect(diary.entries == ["assigned [0]", "lost [0]", "assigned [0]"])
        await consumer.close()
        await client.close()
        try await broker.stop()
    }

    @Test("Close does not wait for members that do not join, nor for answers that do not come")
    func closeWhileJoining() async throws {
        let coordinator = FakeCoordinator()
        coordinator.with { $0.silent = [.joinGroup] }
        let broker = try await coordinator.start()
        let client = client(broker)
        let consumer = try GroupConsumer(client, configuration(Diary()))
        #expect(try await consumer.next(within: .milliseconds(50)) == nil)
        let begin = ContinuousClock.now
        await consumer.close()
        #expect(ContinuousClock.now - begin < .seconds(5))
        await client.close()
        try await broker.stop()
    }

    @Test("Where nothing is committed and no place is named, the consumer says so")
    func nothingCommitted() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start()
        let client = client(broker)
        var configuration = configuration(Diary())
        configuration.start = .error
        let consumer = try GroupConsumer(client, configuration)
        let error = ClientError.noCommittedOffset(
            group: "g",
            partition: NamedPartition(topic: "t", index: 0)
        )
        await #expect(throws: error) { try await consumer.next() }
        await consumer.close()
        #expect(coordinator.with { $0.leaves } == ["me"])
        await client.close()
        try await broker.stop()
    }

    @Test("A static member keeps its place: it does not leave")
    func staticMember() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start()
        let client = client(broker)
        try await fill(client, 1)
        var configuration = configuration(Diary())
        configuration.instanceID = "i"
        let consumer = try GroupConsumer(client, configuration)
        _ = try await read(consumer, 1)
        await consumer.close()
        #expect(coordinator.with { $0.leaves }.isEmpty && coordinator.with { $0.joins } == [""])
        await client.close()
        try await broker.stop()
    }

    @Test("Who is not a member any more commits nothing, not even as a tool would")
    func noStrayCommits() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start()
        let client = client(broker)
        try await fill(client, 1)
        let consumer = try GroupConsumer(client, configuration(Diary()))
        let batch = try #require(try await consumer.next(within: .seconds(20)))
        coordinator.with { state in
            state.codes[.heartbeat] = [ErrorCode.unknownMemberId.rawValue]
            state.silent = [.joinGroup]
        }
        let deadline = ContinuousClock.now + .seconds(20)
        while await !consumer.memberID.isEmpty, ContinuousClock.now < deadline {
            try await Task.sleep(for: .milliseconds(5))
        }
        await #expect(throws: ClientError.notAssigned(batch.partition)) {
            try await consumer.commit(batch)
        }
        await consumer.close()
        #expect(coordinator.with { $0.committed } == [:])
        await client.close()
        try await broker.stop()
    }

    // MARK: KIP-848

    @Test("A member of the consumer protocol reads what it is told, commits, and says goodbye")
    func modernLife() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start(isModern: true)
        let client = client(broker)
        try await fill(client, 2)
        let diary = Diary()
        let consumer = try GroupConsumer(client, configuration(diary, .consumer))
        #expect(try await read(consumer, 2) == ["0", "1"])
        #expect(await consumer.memberID.utf8.count == 22)
        try await pull(consumer) { coordinator.with { $0.beats.count > 3 } }
        // Who asks for more is done with what it has, however many heartbeats there were before.
        _ = try await consumer.next(within: .milliseconds(50))
        await consumer.close()
        #expect(coordinator.with { $0.committed } == [0: 2])
        #expect(diary.entries == ["assigned [0]", "revoked [0]"])
        let beats = coordinator.with { $0.beats }
        #expect(beats.first?.memberEpoch == 0 && beats.first?.topicPartitions == [])
        #expect(beats.last?.memberEpoch == -1)
        let told = beats.dropFirst().compactMap(\.topicPartitions)
        #expect(told.first == [.init(topicId: .zero, partitions: [0])], "\(told)")
        await client.close()
        try await broker.stop()
    }

    @Test("It gives up what is taken from it, says so, and takes what is new")
    func modernChange() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start(partitions: 3, isModern: true)
        let client = client(broker)
        coordinator.set(target: [0, 1])
        try await fill(client, 1)
        let diary = Diary()
        let consumer = try GroupConsumer(client, configuration(diary, .consumer))
        _ = try await read(consumer, 1)
        coordinator.set(target: [1, 2])
        try await pull(consumer) { diary.entries.count == 3 }
        #expect(diary.entries == ["assigned [0, 1]", "revoked [0]", "assigned [2]"])
        #expect(coordinator.with { $0.committed } == [0: 1], "before it is somebody else's")
        try await pull(consumer) {
            coordinator.with {
                $0.beats.compactMap(\.topicPartitions).last?.first?.partitions == [1, 2]
            }
        }
        await consumer.close()
        await client.close()
        try await broker.stop()
    }

    @Test("A fenced member drops all and joins again as the same, with epoch 0")
    func modernFenced() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start(isModern: true)
        let client = client(broker)
        try await fill(client, 1)
        let diary = Diary()
        let consumer = try GroupConsumer(client, configuration(diary, .consumer))
        _ = try await read(consumer, 1)
        coordinator.with {
            $0.codes[.consumerGroupHeartbeat] = [ErrorCode.fencedMemberEpoch.rawValue]
        }
        #expect(try await read(consumer, 1) == ["0"])
        #expect(diary.entries == ["assigned [0]", "lost [0]", "assigned [0]"])
        let joins = coordinator.with { $0.beats.filter { $0.memberEpoch == 0 } }
        #expect(joins.count == 2 && Set(joins.map(\.memberId)).count == 1)
        await consumer.close()
        await client.close()
        try await broker.stop()
    }

    @Test("A broker without the consumer protocol is named, not asked again and again")
    func modernUnsupported() async throws {
        let coordinator = FakeCoordinator()
        let broker = try await coordinator.start()
        let client = client(broker)
        let consumer = try GroupConsumer(client, configuration(Diary(), .consumer))
        do {
            _ = try await consumer.next(within: .seconds(20))
            Issue.record("it should have failed")
        } catch {
            guard case .unsupported(let api, _) = error else { throw error }
            #expect(api == "ConsumerGroupHeartbeat")
        }
        await consumer.close()
        await client.close()
        try await broker.stop()
    }
}
