import FlotillaEnvironment
import FlotillaModel
import Testing
import struct NIOCore.ByteBuffer

@testable import FlotillaCoordination

@Suite("The history of a group")
struct GroupHistoryTests {
    private static func member(_ id: String, instance: String? = nil) -> GroupEventMember {
        GroupEventMember(id: id, instanceID: instance, clientID: "app", clientHost: "/10.0.0.2")
    }

    private static func moment(_ millis: Int64) -> GroupHistory.Moment {
        GroupHistory.Moment(
            wallTime: Timestamp(millis),
            instant: Instant.start + .milliseconds(millis)
        )
    }

    private static func ended(_ generation: Int32) -> GroupEvent {
        .rebalanceEnded(
            Rebalance(generation: generation, memberCount: 3, partitionCount: 12, strategy: "range")
        )
    }

    private func sentences(_ history: GroupHistory) -> [String] {
        history.events.map { GroupHistoryLine($0).text }
    }

    @Test("a rebalance takes as long as it is since the first cause that no end followed")
    func durations() {
        var history = GroupHistory()
        history.note(
            [.joined(Self.member("a")), .rebalanceBegan(.came(["a"]), epoch: nil)],
            at: Self.moment(1_000)
        )
        history.note([.rebalanceBegan(.changed("a"), epoch: nil)], at: Self.moment(1_500))
        #expect(history.isRebalancing)
        history.note([Self.ended(7)], at: Self.moment(1_904))
        #expect(!history.isRebalancing)
        #expect(
            sentences(history) == [
                "member a (client app, /10.0.0.2) joined",
                "a rebalance began: a came",
                "a rebalance began: a changed its subscription",
                "rebalance 7 took 0.90 s: 3 members share 12 partitions by range",
            ]
        )
        let last = GroupHistoryLine(history.events[3])
        #expect(last.event == "rebalance_ended")
        #expect(last.numbers["milliseconds"] == 904)
        #expect(last.numbers["partitions"] == 12)
        #expect(last.time == Timestamp(1_904))
    }

    @Test("that nobody is left says enough")
    func emptied() {
        var history = GroupHistory()
        history.note(
            [
                .gone("a", .silent), .rebalanceBegan(.went(["a"]), epoch: 4),
                .emptied(generation: 4),
            ],
            at: Self.moment(1)
        )
        #expect(
            sentences(history) == [
                "member a was given up: it was silent for a whole session",
                "nobody is left, in generation 4",
            ]
        )
        #expect(!history.isRebalancing)
    }

    @Test("what repeats itself is counted")
    func repetition() {
        var history = GroupHistory()
        for second in 1...5 {
            history.note([.fenced("a", .fencedMemberEpoch)], at: Self.moment(Int64(second) * 1_000))
        }
        #expect(history.events.count == 1)
        let line = GroupHistoryLine(history.events[0])
        #expect(line.count == 5)
        #expect(line.time == Timestamp(1_000))
        #expect(line.lastTime == Timestamp(5_000))
    }

    @Test("events are bounded in number and in bytes, and the oldest go")
    func bounds() {
        var history = GroupHistory()
        for number in 0..<GroupHistory.eventLimit + 10 {
            history.note([.away("member-\(number)")], at: Self.moment(0))
        }
        #expect(history.events.count == GroupHistory.eventLimit)
        #expect(history.droppedCount == 10)
        #expect(history.events.first?.kind == .away("member-10"))
        var long = GroupHistory()
        let name = String(repeating: "x", count: 2_000)
        for number in 0..<GroupHistory.eventLimit {
            long.note(
                [.joined(Self.member("\(number)\(name)", instance: name))],
                at: Self.moment(0)
            )
        }
        #expect(long.byteCount <= GroupHistory.byteLimit)
        #expect(long.droppedCount > 0)
        #expect(long.events.last?.kind.sentence.contains("199xxx") == true)
    }

    @Test("groups are bounded, and the one that rested longest goes")
    func groups() {
        var histories = GroupHistories()
        histories.note([.deleted], of: "busy", at: Self.moment(0))
        for number in 0..<GroupHistories.groupLimit {
            histories.note([.deleted], of: "group-\(number)", at: Self.moment(0))
            histories.note([.deleted], of: "busy", at: Self.moment(0))
        }
        #expect(histories.count == GroupHistories.groupLimit)
        #expect(histories.droppedCount == 1)
        #expect(histories["group-0"] == nil)
        #expect(histories["group-1"] != nil)
        #expect(histories["busy"]?.events.first?.count == GroupHistories.groupLimit + 1)
    }

    @Test("all groups together are bounded in bytes")
    func groupBytes() {
        var histories = GroupHistories()
        let name = String(repeating: "x", count: 100)
        for group in 0..<100 {
            for number in 0..<GroupHistory.eventLimit {
                histories.note(
                    [.joined(Self.member("\(number)\(name)"))],
                    of: "group-\(group)",
                    at: Self.moment(0)
                )
            }
        }
        #expect(histories.count < 100)
        #expect(histories.droppedCount == 100 - histories.count)
        #expect(histories["group-99"] != nil)
    }

    @Test("long lists of names are cut")
    func lists() {
        let cause = GroupEvent.RebalanceCause.came((0..<20).map { "m\($0)" }).shortened
        #expect(cause == .came((0..<8).map { "m\($0)" } + ["12 more"]))
    }

    @Test("a line is read back as it was written, and bytes that are none never trap")
    func coding() throws {
        var history = GroupHistory()
        history.note(
            [
                .coordinated(by: 2, term: Term(5)), .present(Self.member("a", instance: "left")),
                .morePresent(9), .replaced("a", by: Self.member("b", instance: "left")),
                .commitsForgotten(count: 1, .expired), .unwritten(.notCoordinator), Self.ended(3),
            ],
            at: Self.moment(9)
        )
        for event in history.events {
            let line = GroupHistoryLine(event)
            var writer = ByteWriter()
            line.write(to: &writer)
            #expect(writer.buffer.readableBytes >= GroupHistoryLine.leastByteCount)
            var reader = ByteReader(writer.buffer)
            #expect(try GroupHistoryLine(&reader) == line)
            for length in 0..<writer.buffer.readableBytes {
                var cut = writer.buffer
                cut.moveWriterIndex(to: length)
                var reader = ByteReader(cut)
                #expect(throws: CoordinationError.self) { try GroupHistoryLine(&reader) }
            }
        }
    }
}

@Suite("What the records of a group tell")
struct ConsumerGroupWatchTests {
    private static func subscription(
        instance: String? = nil,
        topics: [String] = ["a"]
    ) -> ConsumerSubscription {
        var subscription = ConsumerSubscription()
        subscription.instanceID = instance
        subscription.clientID = "app"
        subscription.clientHost = "/10.0.0.2"
        subscription.topics = topics
        return subscription
    }

    private static func current(epoch: Int32) -> CurrentAssignment {
        CurrentAssignment(
            epoch: epoch,
            previousEpoch: epoch,
            phase: .stable,
            assigned: [],
            revoking: []
        )
    }

    private static func gone(_ id: String) -> [ConsumerGroupRecord] {
        [.current(id, nil), .target(id, nil), .member(id, nil)]
    }

    private func watch(_ members: [String: String?]) -> ConsumerGroupWatch {
        var state = ConsumerGroupState()
        for (id, instance) in members {
            state.apply(.member(id, Self.subscription(instance: instance)))
        }
        return ConsumerGroupWatch(state)
    }

    @Test("who comes, changes, and goes, and what that brings about")
    func life() {
        var watch = watch([:])
        let named = GroupEventMember(
            id: "one",
            instanceID: nil,
            clientID: "app",
            clientHost: "/10.0.0.2"
        )
        #expect(
            watch.events(in: [.member("one", Self.subscription()), .epoch(1), .topics([:])])
                == [.joined(named), .rebalanceBegan(.came(["one"]), epoch: 1)]
        )
        #expect(watch.present == [named])
        #expect(
            watch.events(in: [.member("one", Self.subscription(topics: ["b"])), .epoch(2)])
                == [.rebalanceBegan(.changed("one"), epoch: 2)]
        )
        #expect(watch.events(in: [.current("one", Self.current(epoch: 2))]) == [])
        #expect(
            watch.events(in: Self.gone("one") + [.epoch(3)], departures: ["one": .keeping])
                == [.gone("one", .keeping), .emptied(generation: 3)]
        )
    }

    @Test("one of two that goes has the partitions shared anew")
    func going() {
        var watch = watch(["one": nil, "two": nil])
        #expect(
            watch.events(in: Self.gone("one") + [.epoch(3)])
                == [.gone("one", .left), .rebalanceBegan(.went(["one"]), epoch: 3)]
        )
    }

    @Test("topics that change are named")
    func topics() {
        var watch = watch(["one": nil])
        let id = TopicID(high: 1, low: 2)
        let topic = SubscribedTopic(name: "orders", partitionCount: 3)
        #expect(
            watch.events(in: [.epoch(2), .topics([id: topic])])
                == [.rebalanceBegan(.topics(["orders"]), epoch: 2)]
        )
        // Nothing else is left that could have brought it about.
        #expect(watch.events(in: [.epoch(3)]) == [.rebalanceBegan(.racks, epoch: 3)])
    }

    @Test("a static member is away, and back under its id or another")
    func staticMember() {
        var watch = watch(["one": "left"])
        let away = ConsumerGroupRecord.current(
            "one",
            Self.current(epoch: CurrentAssignment.awayEpoch)
        )
        #expect(watch.events(in: [away]) == [.away("one")])
        #expect(watch.events(in: [away]) == [])
        #expect(watch.events(in: [.current("one", Self.current(epoch: 0))]) == [.returned("one")])
        #expect(watch.events(in: [away]) == [.away("one")])
        let named = GroupEventMember(
            id: "two",
            instanceID: "left",
            clientID: "app",
            clientHost: "/10.0.0.2"
        )
        #expect(
            watch.events(
                in: Self.gone("one") + [.member("two", Self.subscription(instance: "left"))]
            ) == [.replaced("one", by: named)]
        )
        #expect(watch.present == [named])
    }
}
