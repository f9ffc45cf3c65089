package import FlotillaEnvironment
package import FlotillaModel
package import struct NIOCore.ByteBuffer

/// What a coordinator keeps of a classic group while it leads: the members, who of them waits for what, and until when.
///
/// Of all this only what `Effect.persist` states is in the log. A new coordinator begins with that, and gives every member a whole session.
///
/// Time comes with each call; `nextDeadline` says when `tick(now:into:)` is due.
/// - Source: SEMANTICS section 5; KIP-62, KIP-134, KIP-345, KIP-394, KIP-814.
package struct ClassicGroup: Sendable {
    /// How far the members are in sharing out the partitions.
    package enum Phase: String, Sendable {
        /// Nobody is there; there may be commits.
        case empty = "Empty"
        /// JoinGroup requests are collected.
        case preparingRebalance = "PreparingRebalance"
        /// The leader's assignment is awaited.
        case completingRebalance = "CompletingRebalance"
        /// Every member has its share.
        case stable = "Stable"
    }

    /// What the driver has to do, in this order.
    package enum Effect: Sendable {
        /// A JoinGroup is answered.
        case joined(ReplyTicket, JoinAnswer)
        /// A SyncGroup is answered.
        case synced(ReplyTicket, SyncAnswer)
        /// The log shall say this; `persisted(_:error:now:into:)` tells what became of it.
        case persist(ClassicGroupState, Reason)
    }

    /// Why something is written down.
    package enum Reason: Hashable, Sendable {
        /// The leader has assigned.
        case assigned(generation: Int32)
        /// The last member has gone.
        case emptied
        /// A static member has come back under another id, and its JoinGroup waits.
        case replaced(member: String, instance: String, ReplyTicket, JoinAnswer)
    }

    /// Limits and delays of all groups.
    package struct Settings: Hashable, Sendable {
        /// How long a new group waits for further members.
        package var initialDelay: Duration
        /// The most members.
        package var maximumSize: Int

        /// States the settings.
        package init(initialDelay: Duration, maximumSize: Int) {
            self.initialDelay = initialDelay
            self.maximumSize = maximumSize
        }
    }

    /// How long a member may wait in its first JoinGroup.
    static let newMemberTimeout = Duration.seconds(300)
    /// The most ids that are given out to members which have yet to come with them.
    static let pendingLimit = 10_000
    /// The shortest time that members are waited for, whatever they ask for themselves.
    static let shortestWait = Duration.seconds(1)

    /// The group's name.
    package let name: String
    let settings: Settings
    /// How far it is.
    package internal(set) var phase = Phase.empty
    /// How many rebalances it has seen.
    package internal(set) var generation: Int32 = 0
    /// What its members use groups for; nil before the first has come.
    package internal(set) var protocolType: String?
    /// The strategy that the members agreed on.
    package internal(set) var protocolName: String?
    /// The member that assigns.
    package internal(set) var leader: String?
    /// When it came into its phase.
    package internal(set) var phaseTime: Timestamp

    var members: [String: ClassicMember] = [:]
    /// The member of each static name.
    var instances: [String: String] = [:]
    /// Ids that were given out to members that have yet to come with them, and until when.
    var pending: [String: Instant] = [:]
    /// How many members know each strategy.
    var supporters: [String: Int] = [:]
    /// How many members wait in JoinGroup.
    var joinedCount = 0
    /// Members that were told to come with SyncGroup and have not.
    var unsynced: Set<String> = []
    var unsyncedDeadline: Instant?
    /// When those who have joined go on without the others.
    var joinDeadline: Instant?
    var initialWait: InitialWait?
    /// Whether the leader's assignment is on its way into the log.
    var isStoring = false
    /// The wall clock of the call at hand, for what is written down.
    var wallTime: Timestamp
    /// What has happened since `takeEvents()`.
    private var events: [GroupEvent] = []

    /// A new group waits for further members, and longer when one comes.
    struct InitialWait: Sendable {
        /// How much longer it may be extended.
        var rest: Duration
        var hasNewMember = false
    }

    /// No timer is due before this; nil when none runs.
    package internal(set) var nextDeadline: Instant?

    /// A group that nobody has joined yet.
    package init(name: String, settings: Settings, wallTime: Timestamp) {
        self.name = name
        self.settings = settings
        self.wallTime = wallTime
        phaseTime = wallTime
    }

    /// A group as the log knows it; every member has a whole session from now on.
    package init(
        name: String,
        state: ClassicGroupState,
        settings: Settings,
        now: Instant,
        wallTime: Timestamp
    ) {
        self.init(name: name, settings: settings, wallTime: wallTime)
        generation = state.generation
        protocolType = state.protocolType.isEmpty ? nil : state.protocolType
        protocolName = state.protocolName
        leader = state.leader
        phaseTime = state.time
        for member in state.members {
            let timeout = Duration.milliseconds(Int64(max(member.sessionTimeoutMillis, 0)))
            insert(
                ClassicMember(
                    id: member.id,
                    instanceID: member.instanceID,
                    clientID: member.clientID,
                    clientHost: member.clientHost,
                    rebalanceTimeout: .milliseconds(Int64(max(member.rebalanceTimeoutMillis, 0))),
                    sessionTimeout: timeout,
                    protocols: [
                        GroupProtocol(
                            name: state.protocolName ?? "",
                            metadata: member.subscription
                        )
                    ],
                    assignment: member.assignment,
                    deadline: now + timeout
                )
            )
        }
        phase = members.isEmpty ? .empty : .stable
    }

    // MARK: What it is

    /// How many members it has.
    package var memberCount: Int { members.count }

    /// How many bytes its members say of themselves and were given.
    package var byteCount: Int {
        members.values.reduce(0) { $0 + $1.byteCount }
    }

    /// How many of them are one member's.
    package func byteCount(of member: String) -> Int { members[member]?.byteCount ?? 0 }

    /// Whether nobody is there, and nobody is expected.
    package var isIdle: Bool { phase == .empty && pending.isEmpty }

    /// The members for the log, by id.
    package var state: ClassicGroupState {
        ClassicGroupState(
            protocolType: protocolType ?? "",
            generation: generation,
            protocolName: protocolName,
            leader: leader,
            time: phaseTime,
            members: sortedMembers.map { member in
                ClassicGroupState.Member(
                    id: member.id,
                    instanceID: member.instanceID,
                    clientID: member.clientID,
                    clientHost: member.clientHost,
                    rebalanceTimeoutMillis: member.rebalanceTimeout.wholeMillisInt32,
                    sessionTimeoutMillis: member.sessionTimeout.wholeMillisInt32,
                    subscription: member.metadata(for: protocolName),
                    assignment: member.assignment
                )
            }
        )
    }

    /// A member as tools are told of it.
    package struct MemberDescription: Sendable {
        package var id: String
        package var instanceID: String?
        package var clientID: String
        package var clientHost: String
        /// Its subscription; only while the group is stable.
        package var metadata: ByteBuffer
        /// Its share; only while the group is stable.
        package var assignment: ByteBuffer
    }

    /// The members as tools are told of them.
    package var memberDescriptions: [MemberDescription] {
        sortedMembers.map { member in
            MemberDescription(
                id: member.id,
                instanceID: member.instanceID,
                clientID: member.clientID,
                clientHost: member.clientHost,
                metadata: phase == .stable ? member.metadata(for: protocolName) : ByteBuffer(),
                assignment: phase == .stable ? member.assignment : ByteBuffer()
            )
        }
    }

    /// What the members say with the chosen strategy, in no order.
    package var subscriptions: [ByteBuffer] {
        members.values.map { member in
            protocolName.map { member.metadata(for: $0) } ?? member.protocols.first?.metadata
                ?? ByteBuffer()
        }
    }

    var sortedMembers: [ClassicMember] {
        members.values.sorted { $0.id < $1.id }
    }

    // MARK: Members

    mutating func insert(_ member: ClassicMember) {
        precondition(members[member.id] == nil, "a member's id is unlike all others")
        if let instance = member.instanceID { instances[instance] = member.id }
        count(member.protocols, 1)
        if member.join != nil { joinedCount += 1 }
        members[member.id] = member
        expect(member.deadline)
    }

    /// Takes a member out; what it waits for is the caller's business.
    mutating func take(_ id: String) -> ClassicMember? {
        guard let member = members.removeValue(forKey: id) else { return nil }
        if let instance = member.instanceID, instances[instance] == id { instances[instance] = nil }
        count(member.protocols, -1)
        if member.join != nil { joinedCount -= 1 }
        unsynced.remove(id)
        return member
    }

    private mutating func count(_ protocols: [GroupProtocol], _ change: Int) {
        for name in Set(protocols.map(\.name)) {
            let count = (supporters[name] ?? 0) + change
            supporters[name] = count == 0 ? nil : count
        }
    }

    mutating func change(_ protocols: [GroupProtocol], of id: String) {
        guard let known = members[id]?.protocols, known != protocols else { return }
        count(known, -1)
        count(protocols, 1)
        members[id]?.protocols = protocols
    }

    mutating func park(_ join: ReplyTicket?, of id: String) {
        guard let before = members[id] else { return }
        joinedCount += (join == nil ? 0 : 1) - (before.join == nil ? 0 : 1)
        members[id]?.join = join
    }

    /// A strategy that every member knows.
    func isKnownToAll(_ name: String) -> Bool { supporters[name] == members.count }

    /// Every member votes for the first of its strategies that all know; the most votes win, and the smaller name a tie.
    func electProtocol() -> String? {
        var votes: [String: Int] = [:]
        for member in members.values {
            guard let choice = member.protocols.first(where: { isKnownToAll($0.name) }) else {
                continue
            }
            votes[choice.name, default: 0] += 1
        }
        return votes.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key
    }

    /// The longest time that a member wants to have to join again.
    var rebalanceTimeout: Duration {
        max(members.values.map(\.rebalanceTimeout).max() ?? .zero, Self.shortestWait)
    }

    // MARK: Time

    mutating func expect(_ deadline: Instant) {
        nextDeadline = nextDeadline.map { min($0, deadline) } ?? deadline
    }

    /// The member was heard, or answered.
    mutating func touch(_ id: String, now: Instant) {
        guard let member = members[id] else { return }
        let timeout = member.isNew ? Self.newMemberTimeout : member.sessionTimeout
        members[id]?.deadline = now + timeout
        expect(now + timeout)
    }

    mutating func enter(_ phase: Phase) {
        self.phase = phase
        phaseTime = wallTime
    }

    // MARK: History

    mutating func note(_ event: GroupEvent) { events.append(event) }

    /// What has happened since the last call, for the group's history.
    package mutating func takeEvents() -> [GroupEvent] {
        defer { events.removeAll() }
        return events
    }
}

extension Duration {
    /// Milliseconds as Kafka's fields have them.
    package var wholeMillisInt32: Int32 { Int32(clamping: wholeMilliseconds) }
}
