import FlotillaEnvironment
import FlotillaModel
import Testing

@testable import FlotillaCoordination

/// - Source: SEMANTICS section 6.
@Suite("Consumer groups, consumer protocol")
struct ConsumerGroupTests {
    private var harness = ConsumerGroupHarness()
    private let topic: TopicID
    private var all: Set<TopicPartition> { harness.partitions(of: topic) }

    init() {
        topic = harness.topic("a", 4)
    }

    @Test("who is alone gets everything at once")
    mutating func alone() throws {
        let answer = try harness.join("one")
        #expect(answer.epoch == 1)
        #expect(answer.assignment == all)
        #expect(harness.group.phase == .stable)
        let next = try harness.beat("one", 1, owned: all)
        #expect(next.epoch == 1)
        #expect(next.assignment == nil)
    }

    @Test(
        "a partition goes from one member to another when the first has given it back (CG-8, CG-9)"
    )
    mutating func handingOver() throws {
        _ = try harness.join("one")
        let second = try harness.join("two")
        #expect(second.epoch == 2)
        #expect(second.assignment == [])
        #expect(harness.group.phase == .reconciling)
        // The first is told to give half of it back, and stays where it is until it has.
        let told = try harness.beat("one", 1, owned: all)
        let kept = try #require(told.assignment)
        #expect(told.epoch == 1)
        #expect(kept.count == 2)
        #expect(try harness.beat("two", 2).assignment == nil)
        #expect(try harness.beat("one", 1).epoch == 1)
        let done = try harness.beat("one", 1, owned: kept)
        #expect(done.epoch == 2)
        #expect(try harness.beat("two", 2).assignment == all.subtracting(kept))
        #expect(harness.group.phase == .stable)
    }

    @Test("who does not give back in time is out, and the others get it (CG-11)")
    mutating func keeping() throws {
        _ = try harness.join("one")
        _ = try harness.join("two")
        _ = try harness.beat("one", 1, owned: all)
        for _ in 0..<2 {
            harness.wait(.seconds(4))
            _ = try harness.beat("two", 2)
            _ = try harness.beat("one", 1, owned: all)
        }
        harness.wait(.seconds(4))
        #expect(throws: HeartbeatRefusal.self) { try harness.beat("one", 1, owned: all) }
        #expect(try harness.beat("two", 2).epoch == 3)
        #expect(harness.group.state.members["two"]?.current.assigned == all)
    }

    @Test(
        "who has not been told what to give back is not waited for yet: the log may stand still (simulator, seed 200399 of its time)"
    )
    mutating func untold() throws {
        _ = try harness.join("one")
        _ = try harness.join("two")
        harness.isLogHeld = true
        _ = try harness.beat("one", 1, owned: all)
        harness.wait(.seconds(30))
        #expect(harness.group.memberCount == 2)
        harness.write()
        harness.wait(.seconds(9))
        #expect(harness.group.memberCount == 2, "it has ten seconds from now on")
        _ = try harness.beat("two", 2)
        harness.wait(.seconds(2))
        #expect(harness.group.memberCount == 1)
    }

    @Test("who is silent for a session is out (CG-11)")
    mutating func silence() throws {
        _ = try harness.join("one")
        harness.wait(.seconds(44))
        #expect(harness.group.memberCount == 1)
        harness.wait(.seconds(2))
        #expect(harness.group.memberCount == 0)
        #expect(harness.group.phase == .empty)
        #expect(throws: HeartbeatRefusal.self) { try harness.beat("one", 1) }
    }

    @Test("a member that lost our answer goes on, one that is of another time does not (CG-4)")
    mutating func epochs() throws {
        _ = try harness.join("one")
        _ = try harness.join("two")
        let kept = try #require(try harness.beat("one", 1, owned: all).assignment)
        _ = try harness.beat("one", 1, owned: kept)
        // The answer with epoch 2 was lost.
        let again = try harness.beat("one", 1, owned: kept)
        #expect(again.epoch == 2)
        for (epoch, owned) in [(Int32(3), kept), (1, all), (7, [])] {
            do {
                _ = try harness.beat("one", epoch, owned: owned)
                Issue.record("epoch \(epoch) was taken")
            } catch {
                #expect(error.code == .fencedMemberEpoch)
            }
        }
        // It begins anew under its id, and has what it had.
        let back = try harness.join("one")
        #expect(back.epoch == 2)
        #expect(back.assignment == kept)
    }

    @Test("who leaves makes room at once (CG-5)")
    mutating func leaving() throws {
        _ = try harness.join("one")
        _ = try harness.join("two")
        #expect(try harness.beat("one", -1).epoch == -1)
        let rest = try harness.beat("two", 2)
        #expect(rest.epoch == 3)
        #expect(rest.assignment == all)
    }

    @Test("a static member that is away for a while finds everything as it was (CG-5, CG-6)")
    mutating func staticMember() throws {
        _ = try harness.join("one", instance: "left")
        _ = try harness.join("two", instance: "right")
        let kept = try #require(
            try harness.beat("one", 1, instance: "left", owned: all).assignment
        )
        _ = try harness.beat("one", 1, instance: "left", owned: kept)
        _ = try harness.beat("two", 2, instance: "right")
        refused(.unreleasedInstanceId) { try harness.join("three", instance: "left") }
        #expect(try harness.beat("one", -2, instance: "left").epoch == -2)
        harness.wait(.seconds(30))
        #expect(harness.group.state.epoch == 2)
        refused(.fencedInstanceId) { try harness.join("two", instance: "left") }
        let back = try harness.join("three", instance: "left")
        #expect(back.epoch == 2)
        #expect(back.assignment == kept)
        #expect(harness.group.state.epoch == 2)
        refused(.fencedInstanceId) { try harness.beat("one", 2, instance: "left") }
        refused(.unknownMemberId) { try harness.beat("one", 2) }
        refused(.unknownMemberId) { try harness.beat("one", 2, instance: "nobody") }
    }

    @Test(
        "a member of the classic protocol has a whole session from each of its questions and from its generation on"
    )
    mutating func classicSession() throws {
        _ = try harness.join("one")
        let (generation, _) = try harness.joinClassic("two")
        harness.wait(.seconds(20))
        _ = try harness.syncClassic("two", generation)
        harness.wait(.seconds(20))
        // Its answer was on its way to the log for so long.
        harness.group.hasJoined("two", now: harness.now)
        harness.wait(.seconds(15))
        _ = try harness.syncClassic("two", generation)
        harness.wait(.seconds(29))
        #expect(harness.group.state.members["two"] != nil)
        harness.group.hasJoined("three", now: harness.now)
        harness.wait(.seconds(2))
        #expect(harness.group.state.members.keys.sorted() == [])
    }

    @Test("a static member that does not come back is out when its session ends")
    mutating func staticMemberGone() throws {
        _ = try harness.join("one", instance: "left")
        _ = try harness.beat("one", -2, instance: "left")
        harness.wait(.seconds(46))
        #expect(harness.group.memberCount == 0)
    }

    @Test("new partitions, new topics and topics that go begin another epoch (CG-7)")
    mutating func topicsChange() throws {
        _ = try harness.join("one", topics: ["a", "b"])
        let b = harness.topic("b", 2)
        let grown = try harness.beat("one", 1)
        #expect(grown.epoch == 2)
        #expect(grown.assignment == all.union(harness.partitions(of: b)))
        harness.topic("c", 1)
        #expect(try harness.beat("one", 2).epoch == 2)
        let member = GroupMember(broker: 1, epoch: harness.image.nextCreationEpoch)
        harness.change(
            .partitionsAdded(topic: topic, partitions: [PartitionImage(replicas: [member])])
        )
        let wider = try harness.beat("one", 2)
        #expect(wider.epoch == 3)
        #expect(wider.assignment?.count == 7)
        harness.change(.topicDeleted(b))
        let owned = try #require(wider.assignment)
        let told = try harness.beat("one", 3, owned: owned)
        #expect(told.assignment == all)
        #expect(try harness.beat("one", 3, owned: all).epoch == 4)
    }

    @Test("an expression names topics by a full match, and never the broker's own (CG-7)")
    mutating func patterns() throws {
        harness.topic("ab", 1)
        harness.topic("__consumer_offsets", 1)
        _ = try harness.join("one", topics: [], pattern: "a.?|__.*")
        #expect(harness.group.topicNames == ["a", "ab"])
        harness.topic("abc", 1)
        harness.topic("ac", 1)
        #expect(try harness.beat("one", 1).epoch == 2)
        #expect(harness.group.topicNames == ["a", "ab", "ac"])
        refused(.invalidRegularExpression) {
            try harness.join("two", topics: [], pattern: "a(")
        }
        // Empty is none, and null is what it was (CG-2).
        #expect(try harness.join("one", topics: ["ab"], pattern: "").epoch == 1 + 2)
        #expect(harness.group.topicNames == ["ab"])
        #expect(harness.group.patterns.isEmpty)
    }

    @Test("expressions are few, and none takes long for all topics")
    mutating func costOfPatterns() throws {
        for number in 0..<300 {
            harness.topic("\(number)-" + String(repeating: "a", count: 240), 1)
        }
        let costly = "[a-z]{900}|b"
        refused(.invalidRegularExpression) {
            try harness.join("one", topics: [], pattern: costly)
        }
        for number in 0..<32 {
            _ = try harness.join("member-\(number)", topics: [], pattern: "\(number)-a+")
        }
        #expect(harness.group.topicNames.count == 32)
        refused(.invalidRegularExpression) { try harness.join("one", topics: [], pattern: "x") }
        _ = try harness.join("one", topics: [], pattern: "1-a+")
        harness.topic("2-aaa", 1)
        _ = try harness.join("one", topics: [], pattern: "1-a+")
        #expect(harness.group.topicNames.count == 33)
    }

    @Test("expressions that may take long together are refused, and those that are left take turns")
    mutating func turnsOfPatterns() throws {
        for number in 0..<300 {
            harness.topic("\(number)-" + String(repeating: "a", count: 240), 1)
        }
        // Each takes a few turns, and a few of them as long as a group may take.
        let pattern = { (number: Int) in "[0-9]+-a{200}a+|x\(number)" }
        var answer = try harness.join("one", topics: [], pattern: pattern(0))
        #expect(answer.epoch == 1)
        #expect(harness.group.topicNames.count < 300)
        #expect(!harness.group.unmatched.isEmpty)
        for _ in 0..<10 { harness.wait(.milliseconds(20)) }
        #expect(harness.group.unmatched.isEmpty)
        #expect(harness.group.topicNames.count == 300)
        // One epoch for all that was found.
        answer = try harness.beat("one", 1)
        #expect(answer.epoch == 2)
        #expect(answer.assignment?.count == 300)
        var taken = 1
        do throws(HeartbeatRefusal) {
            while taken < 32 {
                _ = try harness.join("member-\(taken)", topics: [], pattern: pattern(taken))
                taken += 1
            }
        } catch {
            #expect(error.code == .invalidRegularExpression)
        }
        #expect((2..<10).contains(taken))
    }

    @Test("another coordinator compares in turns, and takes nothing away meanwhile")
    mutating func turnsAfterFailover() throws {
        for number in 0..<300 {
            harness.topic("\(number)-" + String(repeating: "a", count: 240), 1)
        }
        _ = try harness.join("one", topics: [], pattern: "[0-9]+-a{200}a+")
        for _ in 0..<10 { harness.wait(.milliseconds(20)) }
        let owned = try #require(try harness.beat("one", 1).assignment)
        #expect(try harness.beat("one", 2, owned: owned).epoch == 2)
        harness.write()
        harness.failOver()
        #expect(try harness.beat("one", 2, owned: owned).assignment == nil)
        #expect(!harness.group.unmatched.isEmpty)
        #expect(harness.group.topicNames.count == 300)
        // Somebody else who comes meanwhile has to wait for a share, and nobody loses all of it.
        _ = try harness.join("two")
        #expect(harness.group.phase == .assigning)
        for _ in 0..<10 { harness.wait(.milliseconds(20)) }
        #expect(harness.group.unmatched.isEmpty)
        #expect(harness.group.phase != .assigning)
        #expect(harness.group.topicNames.count == 301)
        let targets = harness.group.state.members.mapValues(\.target.count)
        #expect(targets == ["one": 300, "two": 4])
        // Topics that are made later are few, and looked at at once.
        harness.topic("400-" + String(repeating: "a", count: 240), 1)
        _ = try harness.beat("one", harness.group.state.members["one"]?.current.epoch ?? 0)
        #expect(harness.group.topicNames.count == 302)
    }

    @Test("replicas that move between racks begin another epoch where members stand in some (CG-7)")
    mutating func racksChange() throws {
        harness.change(.brokerRegistered(.example(1, rack: "a")))
        func join(_ id: String, rack: String?, assignor: String? = nil) -> ConsumerHeartbeat {
            ConsumerHeartbeat(
                memberID: id,
                epoch: 0,
                rack: rack,
                rebalanceTimeoutMillis: 10_000,
                topics: ["a"],
                assignor: assignor,
                owned: [],
                clientID: "client",
                clientHost: "/10.0.0.2"
            )
        }
        _ = try harness.heartbeat(join("one", rack: nil))
        harness.change(.brokerRegistered(.example(1, rack: "b")))
        #expect(try harness.beat("one", 1).epoch == 1)
        #expect(try harness.heartbeat(join("one", rack: "b")).epoch == 2)
        harness.topic("other", 1)
        #expect(try harness.beat("one", 2).epoch == 2)
        harness.change(.brokerRegistered(.example(1, rack: "a")))
        #expect(try harness.beat("one", 2).epoch == 3)
        #expect(try harness.beat("one", 3).epoch == 3)
        // By ranges it does not matter.
        #expect(try harness.heartbeat(join("one", rack: "b", assignor: "range")).epoch == 4)
        harness.change(.brokerRegistered(.example(1, rack: "b")))
        #expect(try harness.beat("one", 4).epoch == 4)
    }

    @Test("an assignor that is not served is refused, and the most wishes count (CG-1)")
    mutating func assignors() throws {
        refused(.unsupportedAssignor) { try harness.join("one", assignor: "sticky") }
        _ = try harness.join("one")
        #expect(harness.group.assignor == .uniform)
        _ = try harness.join("two", assignor: "range")
        #expect(harness.group.assignor == .range)
    }

    @Test("a full group takes nobody (CG-12)")
    mutating func full() throws {
        harness.group.settings.maximumSize = 1
        _ = try harness.join("one")
        refused(.groupMaxSizeReached) { try harness.join("two") }
        #expect(try harness.join("one").epoch == 1)
    }

    @Test("of many members that come together not every one has the target computed anew")
    mutating func crowd() throws {
        for number in 0..<400 { _ = try harness.join("member-\(number)") }
        #expect(harness.group.state.epoch == 400)
        #expect(harness.group.state.targetEpoch < 100)
        #expect(harness.group.phase == .assigning)
        harness.wait(.seconds(1))
        #expect(harness.group.state.targetEpoch == 400)
    }

    @Test("another coordinator goes on with what is in the log")
    mutating func failOver() throws {
        _ = try harness.join("one")
        _ = try harness.join("two")
        let kept = try #require(try harness.beat("one", 1, owned: all).assignment)
        harness.write()
        // What was decided and not written was told to nobody.
        _ = try harness.beat("one", 1, owned: kept)
        harness.failOver()
        #expect(try harness.beat("two", 2).assignment == nil)
        #expect(try harness.beat("one", 1, owned: kept).epoch == 2)
        #expect(try harness.beat("two", 2).assignment == all.subtracting(kept))
    }

    private func refused(
        _ code: ErrorCode,
        _ body: () throws -> ConsumerHeartbeatAnswer,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        do {
            _ = try body()
            Issue.record("it was taken", sourceLocation: sourceLocation)
        } catch let error as HeartbeatRefusal {
            #expect(error.code == code, sourceLocation: sourceLocation)
        } catch {
            Issue.record("\(error)", sourceLocation: sourceLocation)
        }
    }
}
