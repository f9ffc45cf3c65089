import FlotillaEnvironment
import FlotillaModel
import Testing
import struct NIOCore.ByteBuffer

@testable import FlotillaCoordination

/// A group, its driver, and the time.
private struct Harness {
    var group: ClassicGroup
    var now = Instant.start + .seconds(1)
    /// What the group's history is told.
    var events: [GroupEvent] = []
    var joined: [UInt64: JoinAnswer] = [:]
    var synced: [UInt64: SyncAnswer] = [:]
    /// What was to be written and is not yet.
    var writes: [ClassicGroup.Reason] = []
    private var lastTicket: UInt64 = 0
    private var lastID = 0

    init(initialDelay: Duration = .zero, maximumSize: Int = .max) {
        group = ClassicGroup(
            name: "readers",
            settings: ClassicGroup.Settings(
                initialDelay: initialDelay,
                maximumSize: maximumSize
            ),
            wallTime: Timestamp(0)
        )
    }

    private mutating func change(
        _ body: (inout ClassicGroup, Instant, inout [ClassicGroup.Effect]) -> Void
    ) {
        var effects: [ClassicGroup.Effect] = []
        body(&group, now, &effects)
        group.checkInvariants()
        events += group.takeEvents()
        for effect in effects {
            switch effect {
            case .joined(let ticket, let answer):
                precondition(joined.updateValue(answer, forKey: ticket.number) == nil)
            case .synced(let ticket, let answer):
                precondition(synced.updateValue(answer, forKey: ticket.number) == nil)
            case .persist(_, let reason): writes.append(reason)
            }
        }
    }

    @discardableResult
    mutating func join(
        _ id: String = "",
        instance: String? = nil,
        protocols: [String] = ["range"],
        session: Duration = .seconds(10),
        rebalance: Duration = .seconds(20),
        mustKnowID: Bool = false
    ) -> UInt64 {
        lastTicket += 1
        lastID += 1
        let ticket = ReplyTicket(number: lastTicket)
        let request = JoinRequest(
            memberID: id,
            instanceID: instance,
            clientID: "client",
            clientHost: "/10.0.0.1",
            rebalanceTimeout: rebalance,
            sessionTimeout: session,
            protocolType: "consumer",
            protocols: protocols.map { GroupProtocol(name: $0, metadata: ByteBuffer()) },
            mustKnowID: mustKnowID,
            canSkipAssignment: true
        )
        let suffix = "\(lastID)"
        change { group, now, effects in
            group.join(
                request,
                ticket,
                newID: suffix,
                now: now,
                wallTime: Timestamp(0),
                into: &effects
            )
        }
        return ticket.number
    }

    @discardableResult
    mutating func sync(_ id: String, generation: Int32? = nil, instance: String? = nil) -> UInt64 {
        lastTicket += 1
        let ticket = ReplyTicket(number: lastTicket)
        let request = SyncRequest(
            memberID: id,
            instanceID: instance,
            generation: generation ?? group.generation,
            protocolType: nil,
            protocolName: nil,
            assignments: group.members.keys.sorted().map { ($0, ByteBuffer(string: $0)) }
        )
        change { group, now, effects in
            group.sync(request, ticket, now: now, wallTime: Timestamp(0), into: &effects)
        }
        return ticket.number
    }

    mutating func leave(_ id: String, instance: String? = nil) -> ErrorCode {
        var error = ErrorCode.noError
        change { group, now, effects in
            error = group.leave(
                id,
                instanceID: instance,
                now: now,
                wallTime: Timestamp(0),
                into: &effects
            )
        }
        return error
    }

    mutating func heartbeat(_ id: String) -> ErrorCode {
        let error = group.heartbeat(
            id,
            instanceID: nil,
            generation: group.generation,
            now: now
        )
        group.checkInvariants()
        return error
    }

    /// What waited longest to be written is committed, or could not be.
    mutating func write(_ error: ErrorCode? = nil) {
        guard !writes.isEmpty else { return }
        let reason = writes.removeFirst()
        change { group, now, effects in
            group.persisted(
                reason,
                error: error,
                now: now,
                wallTime: Timestamp(0),
                into: &effects
            )
        }
    }

    /// Lets time pass, looking at the timers when they are due.
    mutating func wait(_ duration: Duration) {
        let end = now + duration
        while let due = group.nextDeadline, due <= end {
            now = max(now, due)
            change { group, now, effects in
                group.tick(now: now, wallTime: Timestamp(0), into: &effects)
            }
        }
        now = end
    }

    /// Makes members that share a generation.
    mutating func form(_ count: Int, instances: [String?] = []) -> [String] {
        let tickets = (0..<count).map { place in
            join(instance: place < instances.count ? instances[place] : nil)
        }
        // Who came first has joined alone, and comes again.
        for member in group.members.values.sorted(by: { $0.id < $1.id }) where member.join == nil {
            join(member.id, instance: member.instanceID)
        }
        _ = tickets
        let members = group.members.keys.sorted()
        for member in members { sync(member, instance: group.members[member]?.instanceID) }
        while !writes.isEmpty { write() }
        precondition(group.phase == .stable)
        return members
    }
}

/// - Source: SEMANTICS section 5.3 and following.
@Suite("A classic group")
struct ClassicGroupTests {
    @Test("a new group waits for others, and longer when they come, but not for ever (KIP-134)")
    func initialDelay() {
        var harness = Harness(initialDelay: .seconds(3))
        let first = harness.join()
        harness.wait(.seconds(2))
        let second = harness.join()
        harness.wait(.seconds(2))
        #expect(harness.joined[first] == nil)
        harness.wait(.seconds(2))
        #expect(harness.joined[first]?.generation == 1)
        #expect(harness.joined[second]?.generation == 1)
        #expect(
            harness.joined[first]?.members.count == 2 || harness.joined[second]?.members.count == 2
        )
    }

    @Test("what happens is told with its cause")
    func history() {
        var harness = Harness()
        let members = harness.form(2)
        let (first, second) = (members[0], members[1])
        harness.events.removeAll()
        harness.join(second, protocols: ["range", "sticky"])
        harness.wait(.seconds(11))
        harness.sync(second)
        harness.write(.notCoordinator)
        harness.join(second)
        harness.sync(second)
        harness.write()
        #expect(harness.leave(second) == .noError)
        harness.write()
        harness.join(instance: "left")
        let third = harness.group.members.keys.sorted()[0]
        harness.sync(third, instance: "left")
        harness.write()
        harness.join(instance: "left")
        harness.write()
        let fourth = harness.group.members.keys.sorted()[0]
        #expect(harness.leave("", instance: "left") == .noError)
        let client = "client client, /10.0.0.1"
        #expect(
            harness.events.map(\.sentence) == [
                "a rebalance began: \(second) changed its subscription",
                "member \(first) was given up: it was silent for a whole session",
                "what was decided last did not come into the log (\(ErrorCode.notCoordinator)); the group is as it was before",
                "a rebalance began: the last shares could not be written down",
                "rebalance 4 ended: 1 member by range",
                "member \(second) left",
                "a rebalance began: \(second) went",
                "nobody is left, in generation 5",
                "member \(third) (\(client), static name left) joined",
                "a rebalance began: \(third) came",
                "rebalance 6 ended: 1 member by range",
                "member \(fourth) (\(client), static name left) took the place of \(third), which is fenced",
                "member \(fourth) was removed by its static name",
                "a rebalance began: \(fourth) went",
                "nobody is left, in generation 7",
            ]
        )
    }

    @Test("the strategy that most members like best among those that all know is taken (JG-6)")
    func election() {
        var harness = Harness(initialDelay: .seconds(1))
        harness.join(protocols: ["a", "b", "c"])
        harness.join(protocols: ["b", "c"])
        let last = harness.join(protocols: ["c", "b"])
        harness.wait(.seconds(5))
        #expect(harness.joined[last]?.protocolName == "b")
    }

    @Test("who does not join again in time is left behind, unless it is static (KIP-345)")
    func rejoin() {
        var harness = Harness()
        let members = harness.form(2, instances: [nil, "left"])
        let leaver = members.first { !$0.hasPrefix("left") } ?? ""
        harness.join()
        harness.wait(.seconds(9))
        // Its session is kept alive, and still it does not come.
        for _ in 0..<3 {
            _ = harness.heartbeat(leaver)
            harness.wait(.seconds(4))
        }
        #expect(harness.group.members[leaver] == nil)
    }

    @Test("the share of a member is told only when it is in the log")
    func storing() {
        var harness = Harness()
        let ticket = harness.join()
        let id = harness.joined[ticket]?.memberID ?? ""
        let sync = harness.sync(id)
        #expect(harness.synced[sync] == nil)
        harness.write()
        #expect(harness.synced[sync].map { String(buffer: $0.assignment) } == id)
        #expect(harness.group.phase == .stable)
    }

    @Test("shares that cannot be written are told to nobody, and all join again")
    func storingFails() {
        var harness = Harness()
        let ticket = harness.join()
        let id = harness.joined[ticket]?.memberID ?? ""
        let sync = harness.sync(id)
        harness.write(.coordinatorNotAvailable)
        #expect(harness.synced[sync]?.error == .coordinatorNotAvailable)
        #expect(harness.group.phase == .preparingRebalance)
    }

    @Test("who waited for its share and is sent away again was not silent meanwhile")
    func sessionAfterWaiting() {
        var harness = Harness(initialDelay: .seconds(1))
        let tickets = [harness.join(), harness.join()]
        harness.wait(.seconds(3))
        let ids = tickets.compactMap { harness.joined[$0]?.memberID }
        let leader = harness.group.leader ?? ""
        let follower = ids.first { $0 != leader } ?? ""
        harness.sync(follower)
        for _ in 0..<3 {
            harness.wait(.seconds(5))
            _ = harness.heartbeat(leader)
        }
        harness.join()
        #expect(harness.group.phase == .preparingRebalance)
        harness.wait(.seconds(5))
        #expect(harness.group.members[follower] != nil)
    }

    @Test("a member that repeats its first JoinGroup may wait as long as before")
    func repeatedFirstJoin() {
        var harness = Harness(initialDelay: .seconds(60))
        let first = harness.join(rebalance: .seconds(200), mustKnowID: true)
        let id = harness.joined[first]?.memberID ?? ""
        harness.join(id, rebalance: .seconds(200))
        let again = harness.join(id, rebalance: .seconds(200))
        harness.wait(.seconds(30))
        #expect(harness.group.members[id] != nil)
        harness.wait(.seconds(60))
        #expect(harness.joined[again]?.error == .noError)
    }

    @Test("a full group takes nobody, and those who come first when all join again")
    func full() {
        var harness = Harness(maximumSize: 2)
        let members = harness.form(2)
        #expect(harness.joined[harness.join()]?.error == .groupMaxSizeReached)
        harness.join(members[0])
        #expect(harness.group.phase == .preparingRebalance)
        let stranger = harness.join()
        #expect(harness.joined[stranger] == nil)
        #expect(harness.joined[harness.join(members[1])]?.error == .groupMaxSizeReached)
        #expect(harness.joined[stranger]?.error == .noError)
    }

    @Test("an id that was given to one that is no static member does not take a static name")
    func pendingWithInstance() {
        var harness = Harness()
        _ = harness.form(1, instances: ["left"])
        let id = harness.joined[harness.join(mustKnowID: true)]?.memberID ?? ""
        #expect(harness.joined[harness.join(id, instance: "left")]?.error == .fencedInstanceId)
    }

    @Test("a static member that is replaced twice: the last one stays")
    func replacedTwice() {
        var harness = Harness()
        _ = harness.form(1, instances: ["left"])
        let second = harness.join(instance: "left")
        let third = harness.join(instance: "left")
        harness.write()
        #expect(harness.joined[second]?.error == .fencedInstanceId)
        harness.write()
        #expect(harness.joined[third]?.error == .noError)
        #expect(harness.joined[third]?.skipsAssignment == true)
    }

    @Test("a member that got its generation and never comes for its share holds nobody up")
    func missingSync() {
        var harness = Harness()
        let members = harness.form(2)
        harness.join(members[0])
        harness.join(members[1])
        let leader = harness.group.leader ?? ""
        let other = members.first { $0 != leader } ?? ""
        harness.sync(leader)
        harness.write()
        for _ in 0..<6 {
            harness.wait(.seconds(4))
            _ = harness.heartbeat(leader)
            _ = harness.heartbeat(other)
        }
        #expect(harness.group.members[other] == nil)
    }

    @Test(
        "whatever members do, every answer comes once, and all of them in the end",
        arguments: 0..<200
    )
    func anything(seed: Int) {
        var random = SeededRandom(seed: UInt64(seed))
        var harness = Harness(
            initialDelay: seed % 2 == 0 ? .zero : .milliseconds(500),
            maximumSize: seed % 3 == 0 ? 4 : .max
        )
        var tickets: Set<UInt64> = []
        for _ in 0..<300 {
            let known = (Array(harness.group.members.keys) + Array(harness.group.pending.keys))
                .sorted()
            let id = known.isEmpty ? "" : known[Int.random(in: 0..<known.count, using: &random)]
            let instance = harness.group.members[id]?.instanceID
            switch Int.random(in: 0..<12, using: &random) {
            case 0: tickets.insert(harness.join(mustKnowID: Bool.random(using: &random)))
            case 1:
                let name = "static-\(Int.random(in: 0..<3, using: &random))"
                tickets.insert(harness.join(instance: name))
            case 2, 3, 4:
                let protocols =
                    Int.random(in: 0..<5, using: &random) == 0 ? ["range", "b"] : ["range"]
                tickets.insert(harness.join(id, instance: instance, protocols: protocols))
            case 5, 6, 7: tickets.insert(harness.sync(id, instance: instance))
            case 8: _ = harness.leave(id)
            case 9: _ = harness.heartbeat(id)
            case 10:
                harness.write(Int.random(in: 0..<6, using: &random) == 0 ? .notCoordinator : nil)
            default: harness.wait(.milliseconds(Int.random(in: 1..<4_000, using: &random)))
            }
        }
        while !harness.writes.isEmpty { harness.write() }
        harness.wait(.seconds(2_000))
        while !harness.writes.isEmpty { harness.write() }
        harness.wait(.seconds(2_000))
        let answered = Set(harness.joined.keys).union(harness.synced.keys)
        #expect(tickets.subtracting(answered).isEmpty)
        #expect(harness.group.members.isEmpty)
    }
}
