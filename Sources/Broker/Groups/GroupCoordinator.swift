import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaReplication
import struct NIOCore.ByteBuffer

/// The groups of one partition of `__consumer_offsets` on this broker: coordinated while it leads the partition.
///
/// What is decided becomes a record, and whoever asked is answered when that is committed. Commits are read from what is committed, after a
/// round of heartbeats has proven that this broker still leads: what a member once was told it committed is never taken back.
final class GroupCoordinator {
    let machine: GroupMachine
    let replica: Replica
    unowned let shard: Shard
    /// The classic groups with members, or with somebody who is expected, while this broker coordinates.
    var groups: [String: Live<ClassicGroup>] = [:]
    /// The groups of the consumer protocol with members.
    var consumerGroups: [String: Live<ConsumerGroup>] = [:]
    /// What is decided about groups of the consumer protocol and not yet in the log.
    var decisions: [String: GroupDecisions] = [:]
    private var waiting: [ReplyTicket: (GroupAnswer) -> Void] = [:]
    private var lastTicket: UInt64 = 0
    /// Counts the times that this broker began or ceased to coordinate: what was decided in another one is void.
    private(set) var reign = 0
    private(set) var isServing = false
    /// Groups with records that are on their way into the log, and how many.
    var writeCounts: [String: Int] = [:]
    /// Reads that wait for the present round of heartbeats, and those that wait for the next.
    var reads = CommitReads()
    /// What happened to the groups since this broker coordinates them.
    var memory: Memory
    /// When groups of the consumer protocol were left by their last members, of those that were since this broker coordinates.
    var emptyTimes: [String: Timestamp] = [:]

    /// A group, and when it is looked at next.
    struct Live<Group> {
        var group: Group
        var timer: (deadline: Instant, id: TimerQueue.ID)?
    }

    /// The most groups with members in one partition.
    static let groupLimit = 100_000
    /// The longest name of a group, as Kafka's records can hold it.
    static let nameByteLimit = Int(Int16.max)
    /// The longest static name, strategy or kind of a member; a topic's name is no longer either.
    static let wordByteLimit = 249
    /// How much of a client's name stands in the ids of its members.
    static let idPrefixByteLimit = 249
    /// The longest id of a member: the longest prefix, and what is drawn.
    static let memberIDByteLimit = 512
    /// The most topics that a member may name.
    static let topicLimit = 10_000
    /// The most bytes that a member may say of itself: its subscription, in all strategies.
    static let metadataByteLimit = 4 << 20
    /// A member that says no more of itself is small, and bounded by how many there are.
    static let smallMemberByteCount = 64 << 10
    /// The most strategies that a member may know.
    static let protocolLimit = 100
    /// The most bytes that members of all groups here may say of themselves, or be given, for another large one to come.
    static let memberByteLimit = 64 << 20
    /// The largest batch: the assignments of a whole group.
    static let batchByteLimit = 8 << 20

    init(machine: GroupMachine, replica: Replica, shard: Shard) {
        self.machine = machine
        self.replica = replica
        self.shard = shard
        memory = Memory(
            beginning: GroupHistory.Moment(wallTime: shard.wallTime, instant: shard.now)
        )
    }

    var now: Instant { shard.now }

    // MARK: Leadership

    /// The replica serves as the leader from now on, or does not any longer.
    func leadershipChanged() {
        guard replica.isServing != isServing else { return }
        isServing = replica.isServing
        end(answering: .notCoordinator)
        guard isServing, !shard.isStopping else { return }
        for name in machine.table.groups.keys.sorted() { revive(name) }
    }

    /// Has a group go on as the log has it, if it has members.
    func revive(_ name: String) {
        let entry = machine.table.groups[name]
        if let state = entry?.classic, !state.members.isEmpty { revive(name, state) }
        if let state = entry?.consumer, !state.members.isEmpty { revive(name, state) }
    }

    /// The broker stops: members ask another one.
    func stop() { end(answering: .coordinatorNotAvailable) }

    private func end(answering error: ErrorCode) {
        reign += 1
        for timer in groups.values.compactMap(\.timer) + consumerGroups.values.compactMap(\.timer) {
            shard.timers.cancel(timer.id)
        }
        groups.removeAll()
        consumerGroups.removeAll()
        decisions.removeAll()
        writeCounts.removeAll()
        emptyTimes.removeAll()
        reads = CommitReads()
        memory = Memory(
            beginning: GroupHistory.Moment(wallTime: shard.wallTime, instant: now)
        )
        let left = waiting
        waiting.removeAll()
        for ticket in left.keys.sorted(by: { $0.number < $1.number }) {
            left[ticket]?(.error(error))
        }
    }

    /// Whether it leads, and has yet to know all that it leads.
    var isLoading: Bool { replica.isLeader && !replica.isServing }

    // MARK: Questions

    /// Answers a question, at once or later.
    func answer(
        _ question: GroupCall.Question,
        of name: String,
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        guard replica.isServing, isServing else {
            return completion(.error(isLoading ? .coordinatorLoadInProgress : .notCoordinator))
        }
        guard !shard.isStopping else { return completion(.error(.coordinatorNotAvailable)) }
        guard name.utf8.count <= Self.nameByteLimit else {
            return completion(.error(.invalidGroupId))
        }
        switch question {
        case .join(let request): join(name, request, then: completion)
        case .sync(let request): sync(name, request, then: completion)
        case .heartbeat(let member): heartbeat(name, member, then: completion)
        case .consumerHeartbeat(let request): heartbeat(name, request, then: completion)
        case .leave(let members): leave(name, members, then: completion)
        case .commit(let commits, let member):
            commit(name, commits, by: member, then: completion)
        case .offsets(let keys, let member):
            readOffsets(name, keys, by: member, then: completion)
        case .deleteOffsets(let keys): deleteOffsets(name, keys, then: completion)
        case .describe: completion(describe(name))
        case .describeConsumer: completion(describeConsumer(name))
        case .history: completion(history(name))
        case .commits: completion(commits(name))
        case .delete: delete(name, then: completion)
        }
    }

    /// The groups that this broker coordinates, by name.
    var listings: [GroupListing] {
        guard replica.isServing else { return [] }
        let names = Set(machine.table.groups.keys).union(groups.keys).union(consumerGroups.keys)
        return names.sorted().map(listing)
    }

    private func listing(_ name: String) -> GroupListing {
        if let group = consumerGroups[name]?.group {
            return GroupListing(
                name: name,
                type: .consumer,
                protocolType: Self.consumerType,
                state: group.phase.rawValue
            )
        }
        let known = machine.table.groups[name]
        let isConsumer = groups[name] == nil && known?.consumer != nil
        return GroupListing(
            name: name,
            type: isConsumer ? .consumer : .classic,
            protocolType: isConsumer
                ? Self.consumerType
                : groups[name]?.group.protocolType ?? known?.classic?.protocolType ?? "",
            state: (groups[name]?.group.phase ?? .empty).rawValue
        )
    }

    /// Whether there is memory for what a member says of itself, or shares out.
    ///
    /// `besides`: a member of a group whose present words the new ones replace.
    func hasRoom(for byteCount: Int, besides member: String = "", in name: String = "") -> Bool {
        guard byteCount > Self.smallMemberByteCount else { return true }
        let classic = groups.values.reduce(0) { $0 + $1.group.byteCount }
        let consumer = consumerGroups.values.reduce(0) { $0 + $1.group.byteCount }
        // Groups that nobody has asked for since this broker coordinates are in the log's table only.
        let resting = machine.table.groups.reduce(0) { sum, group in
            let isLive = groups[group.key] != nil || consumerGroups[group.key] != nil
            let kept = group.value.classic?.byteCount ?? group.value.consumer?.byteCount ?? 0
            return isLive ? sum : sum + kept
        }
        let replaced =
            groups[name]?.group.byteCount(of: member)
            ?? consumerGroups[name]?.group.byteCount(of: member) ?? 0
        return classic + consumer + resting - replaced + byteCount <= Self.memberByteLimit
    }

    /// Keeps an answer where it is given when this broker ceases to coordinate.
    func answerLater(
        _ completion: @escaping (GroupAnswer) -> Void,
        _ body: (_ finish: @escaping (GroupAnswer) -> Void) -> Void
    ) {
        let ticket = keep(completion)
        body { [weak self] answer in self?.settle(ticket, answer) }
    }

    /// Keeps an answer where it is given when this broker ceases to coordinate.
    func keep(_ completion: @escaping (GroupAnswer) -> Void) -> ReplyTicket {
        lastTicket += 1
        let ticket = ReplyTicket(number: lastTicket)
        waiting[ticket] = completion
        return ticket
    }

    /// Gives an answer that was kept.
    func settle(_ ticket: ReplyTicket, _ answer: GroupAnswer) {
        waiting.removeValue(forKey: ticket)?(answer)
    }

    // MARK: Time

    /// Has a group be looked at in time; `timer` is the one that it has.
    ///
    /// - Returns: the one that it has from now on.
    func arm(
        _ timer: (deadline: Instant, id: TimerQueue.ID)?,
        _ deadline: Instant?,
        _ action: @escaping () -> Void
    ) -> (deadline: Instant, id: TimerQueue.ID)? {
        guard let deadline else { return timer }
        if let timer {
            guard deadline < timer.deadline else { return timer }
            shard.timers.cancel(timer.id)
        }
        return (deadline, shard.schedule(after: max(deadline - now, .zero), action))
    }

    /// Stops the process if a group is in a state that nothing may bring about; for tests and the simulator.
    func checkInvariants() {
        for live in groups.values {
            live.group.checkInvariants()
            Self.check(live.timer?.deadline, live.group.nextDeadline)
        }
        for (name, live) in consumerGroups {
            live.group.checkInvariants()
            Self.check(live.timer?.deadline, live.group.nextDeadline)
            precondition(
                decisions[name] != nil
                    || machine.table.groups[name]?.consumer ?? .init() == live.group.state,
                "a group is as its log has it"
            )
        }
    }

    private static func check(_ timer: Instant?, _ deadline: Instant?) {
        precondition(
            deadline.map { deadline in timer.map { $0 <= deadline } ?? false } ?? true,
            "every group is looked at in time"
        )
    }
}
