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
    /// The groups with members, or with somebody who is expected, while this broker coordinates.
    private(set) var groups: [String: LiveGroup] = [:]
    private var waiting: [ReplyTicket: (GroupAnswer) -> Void] = [:]
    private var lastTicket: UInt64 = 0
    /// Counts the times that this broker began or ceased to coordinate: what was decided in another one is void.
    private(set) var reign = 0
    private(set) var isServing = false
    /// Groups with records that are on their way into the log, and how many.
    private var writeCounts: [String: Int] = [:]
    /// Reads that wait for the present round of heartbeats, and those that wait for the next.
    var reads = CommitReads()

    /// A group, and when it is looked at next.
    struct LiveGroup {
        var group: ClassicGroup
        var timer: (deadline: Instant, id: TimerQueue.ID)?
    }

    /// The most groups with members in one partition.
    static let groupLimit = 100_000
    /// The longest name of a group, as Kafka's records can hold it.
    static let nameByteLimit = Int(Int16.max)
    /// The longest static name, strategy or kind of a member; a topic's name is no longer either.
    static let wordByteLimit = 249
    /// How much of a client's name stands in the ids of its members.
    private static let idPrefixByteLimit = 249
    /// The most bytes that a member may say of itself: its subscription, in all strategies.
    static let metadataByteLimit = 4 << 20
    /// The largest batch: the assignments of a whole group.
    static let batchByteLimit = 8 << 20

    init(machine: GroupMachine, replica: Replica, shard: Shard) {
        self.machine = machine
        self.replica = replica
        self.shard = shard
    }

    var now: Instant { shard.now }

    // MARK: Leadership

    /// The replica serves as the leader from now on, or does not any longer.
    func leadershipChanged() {
        guard replica.isServing != isServing else { return }
        isServing = replica.isServing
        end(answering: .notCoordinator)
        guard isServing, !shard.isStopping else { return }
        for (name, entry) in machine.table.groups.sorted(by: { $0.key < $1.key }) {
            guard let state = entry.classic, !state.members.isEmpty else { continue }
            revive(name, state)
        }
    }

    /// The broker stops: members ask another one.
    func stop() { end(answering: .coordinatorNotAvailable) }

    private func end(answering error: ErrorCode) {
        reign += 1
        for group in groups.values {
            if let timer = group.timer { shard.timers.cancel(timer.id) }
        }
        groups.removeAll()
        writeCounts.removeAll()
        reads = CommitReads()
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
        case .heartbeat(let member): completion(.error(heartbeat(name, member)))
        case .leave(let members): leave(name, members, then: completion)
        case .commit(let commits, let member):
            commit(name, commits, by: member, then: completion)
        case .offsets(let keys): readOffsets(name, keys, then: completion)
        case .deleteOffsets(let keys): deleteOffsets(name, keys, then: completion)
        case .describe: completion(describe(name))
        case .delete: delete(name, then: completion)
        }
    }

    /// The groups that this broker coordinates, by name.
    var listings: [GroupListing] {
        guard replica.isServing else { return [] }
        let names = Set(machine.table.groups.keys).union(groups.keys)
        return names.sorted().map { name in
            GroupListing(
                name: name,
                protocolType: groups[name]?.group.protocolType
                    ?? machine.table.groups[name]?.classic?.protocolType ?? "",
                phase: groups[name]?.group.phase ?? .empty
            )
        }
    }

    /// Keeps an answer where it is given when this broker ceases to coordinate.
    func answerLater(
        _ completion: @escaping (GroupAnswer) -> Void,
        _ body: (_ finish: @escaping (GroupAnswer) -> Void) -> Void
    ) {
        lastTicket += 1
        let ticket = ReplyTicket(number: lastTicket)
        waiting[ticket] = completion
        body { [weak self] answer in self?.waiting.removeValue(forKey: ticket)?(answer) }
    }

    // MARK: Members

    private func join(
        _ name: String,
        _ request: JoinRequest,
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        if let refusal = refusal(of: request, name) { return completion(.error(refusal)) }
        guard isKnown(name) || found(name, for: request) else {
            return completion(
                .error(request.memberID.isEmpty ? .coordinatorNotAvailable : .unknownMemberId)
            )
        }
        var request = request
        while request.clientID.utf8.count > Self.idPrefixByteLimit { request.clientID.removeLast() }
        // What stays for as long as the member must not keep the whole of what was received with it.
        for place in request.protocols.indices {
            request.protocols[place].metadata = request.protocols[place].metadata.compacted
        }
        let id = MemberID.suffix(using: &shard.random)
        perform(on: name, completion) { group, ticket, effects in
            group.join(
                request,
                ticket,
                newID: id,
                now: now,
                wallTime: shard.wallTime,
                into: &effects
            )
        }
    }

    private func refusal(of request: JoinRequest, _ name: String) -> ErrorCode? {
        guard !name.isEmpty else { return .invalidGroupId }
        let config = shard.config
        guard request.sessionTimeout >= config.minimumSessionTimeout,
            request.sessionTimeout <= config.maximumSessionTimeout
        else { return .invalidSessionTimeout }
        guard !request.protocolType.isEmpty, !request.protocols.isEmpty else {
            return .inconsistentGroupProtocol
        }
        let words =
            [request.protocolType, request.instanceID ?? ""] + request.protocols.map(\.name)
        let byteCount = request.protocols.reduce(0) { $0 + $1.metadata.readableBytes }
        guard words.allSatisfy({ $0.utf8.count <= Self.wordByteLimit }),
            byteCount <= Self.metadataByteLimit, request.instanceID != ""
        else { return .invalidRequest }
        return nil
    }

    /// Begins a group with its first member.
    private func found(_ name: String, for request: JoinRequest) -> Bool {
        guard request.memberID.isEmpty, groups.count < Self.groupLimit else { return false }
        groups[name] = LiveGroup(
            group: ClassicGroup(name: name, settings: groupSettings, wallTime: shard.wallTime)
        )
        return true
    }

    private func sync(
        _ name: String,
        _ request: SyncRequest,
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        guard !name.isEmpty else { return completion(.error(.invalidGroupId)) }
        guard isKnown(name) else { return completion(.error(.unknownMemberId)) }
        var request = request
        for place in request.assignments.indices {
            request.assignments[place].assignment = request.assignments[place].assignment.compacted
        }
        perform(on: name, completion) { group, ticket, effects in
            group.sync(request, ticket, now: now, wallTime: shard.wallTime, into: &effects)
        }
    }

    private func heartbeat(_ name: String, _ member: GroupMembership) -> ErrorCode {
        guard !name.isEmpty else { return .invalidGroupId }
        return groups[name]?.group.heartbeat(
            member.member,
            instanceID: member.instanceID,
            generation: member.generation,
            now: now
        ) ?? .unknownMemberId
    }

    private func leave(
        _ name: String,
        _ members: [LeavingMember],
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        guard !name.isEmpty else { return completion(.error(.invalidGroupId)) }
        guard isKnown(name) else {
            return completion(.left(members.map { _ in .unknownMemberId }))
        }
        let errors = change(name) { group, effects in
            members.map { member in
                group.leave(
                    member.member,
                    instanceID: member.instanceID,
                    now: now,
                    wallTime: shard.wallTime,
                    into: &effects
                )
            }
        }
        completion(.left(errors ?? []))
    }

    /// Whether a member may commit, which counts as a sign of life; nil for a group that is not there.
    func checkCommit(_ name: String, by member: GroupMembership) -> ErrorCode? {
        groups[name]?.group.checkCommit(
            member.member,
            instanceID: member.instanceID,
            generation: member.generation,
            now: now
        )
    }

    // MARK: Groups

    private var groupSettings: ClassicGroup.Settings {
        ClassicGroup.Settings(
            initialDelay: shard.config.initialRebalanceDelay,
            maximumSize: shard.config.maximumGroupSize
        )
    }

    /// Whether the group is there; one that the log knows comes to life.
    private func isKnown(_ name: String) -> Bool {
        if groups[name] != nil { return true }
        guard let state = machine.table.groups[name]?.classic else { return false }
        revive(name, state)
        return true
    }

    private func revive(_ name: String, _ state: ClassicGroupState) {
        let group = ClassicGroup(
            name: name,
            state: state,
            settings: groupSettings,
            now: now,
            wallTime: shard.wallTime
        )
        groups[name] = LiveGroup(group: group)
        arm(name, group.nextDeadline)
    }

    /// Has a group do something that is answered later.
    private func perform(
        on name: String,
        _ completion: @escaping (GroupAnswer) -> Void,
        _ body: (inout ClassicGroup, ReplyTicket, inout [ClassicGroup.Effect]) -> Void
    ) {
        lastTicket += 1
        let ticket = ReplyTicket(number: lastTicket)
        waiting[ticket] = completion
        _ = change(name) { group, effects in body(&group, ticket, &effects) }
    }

    /// Has a group do something, in its place: a large one is not copied.
    private func change<Result>(
        _ name: String,
        _ body: (inout ClassicGroup, inout [ClassicGroup.Effect]) -> Result
    ) -> Result? {
        guard let place = groups.index(forKey: name) else { return nil }
        var effects: [ClassicGroup.Effect] = []
        let result = body(&groups.values[place].group, &effects)
        arm(name, groups.values[place].group.nextDeadline)
        perform(effects, of: name)
        forgetIfIdle(name)
        return result
    }

    /// A group without members is what the log says of it, as soon as that is all in the log.
    private func forgetIfIdle(_ name: String) {
        guard let live = groups[name], live.group.isIdle, !isWriting(name) else { return }
        if let timer = live.timer { shard.timers.cancel(timer.id) }
        groups[name] = nil
    }

    private func arm(_ name: String, _ deadline: Instant?) {
        guard let deadline else { return }
        if let timer = groups[name]?.timer {
            guard deadline < timer.deadline else { return }
            shard.timers.cancel(timer.id)
        }
        let id = shard.schedule(after: max(deadline - now, .zero)) { [weak self] in
            self?.timerFired(name)
        }
        groups[name]?.timer = (deadline, id)
    }

    private func timerFired(_ name: String) {
        groups[name]?.timer = nil
        _ = change(name) { group, effects in
            group.tick(now: now, wallTime: shard.wallTime, into: &effects)
        }
    }

    private func perform(_ effects: [ClassicGroup.Effect], of name: String) {
        for effect in effects {
            switch effect {
            case .joined(let ticket, let answer):
                waiting.removeValue(forKey: ticket)?(.joined(answer))
            case .synced(let ticket, let answer):
                waiting.removeValue(forKey: ticket)?(.synced(answer))
            case .persist(let state, let reason): persist(state, reason, of: name)
            }
        }
    }

    private func persist(
        _ state: ClassicGroupState,
        _ reason: ClassicGroup.Reason,
        of name: String
    ) {
        write([.classicGroup(name: name, state)], of: name, tooLong: .unknownServerError) {
            [unowned self] error in
            if reason == .emptied, error != nil { return self.persistLater(name) }
            _ = self.change(name) { group, effects in
                group.persisted(
                    reason,
                    error: error,
                    now: self.now,
                    wallTime: self.shard.wallTime,
                    into: &effects
                )
            }
        }
    }

    /// That a group is empty must be in the log some time: until it is, members of the past come back with another coordinator.
    private func persistLater(_ name: String) {
        // It counts as a write meanwhile, so that the group is not forgotten.
        writeCounts[name, default: 0] += 1
        let reign = reign
        shard.schedule(after: Self.retryDelay) { [weak self] in
            guard let self, self.reign == reign else { return }
            if let group = self.groups[name]?.group, group.phase == .empty {
                self.persist(group.state, .emptied, of: name)
            }
            self.writeEnded(name)
        }
    }

    /// The time between two attempts to write that a group is empty.
    private static let retryDelay = Duration.seconds(1)

    /// Stops the process if a group is in a state that nothing may bring about; for tests and the simulator.
    func checkInvariants() {
        for live in groups.values {
            live.group.checkInvariants()
            precondition(
                live.group.nextDeadline.map { deadline in
                    live.timer.map { $0.deadline <= deadline } ?? false
                } ?? true,
                "every group is looked at in time"
            )
        }
    }

    // MARK: Writing

    /// Whether something about a group is on its way into the log.
    func isWriting(_ name: String) -> Bool { writeCounts[name] != nil }

    private func writeEnded(_ name: String) {
        guard let count = writeCounts[name] else { return }
        writeCounts[name] = count > 1 ? count - 1 : nil
        forgetIfIdle(name)
    }

    /// Appends facts about a group, and goes on when they are committed and applied; not at all if this broker coordinates no more by then.
    func write(
        _ facts: [GroupRecord],
        of name: String,
        tooLong: ErrorCode,
        then completion: @escaping (ErrorCode?) -> Void
    ) {
        let reign = reign
        if let refusal = shard.writeRefusal(of: replica) { return completion(refusal) }
        do throws(GroupBatch.Fault) {
            let batch = try GroupBatch.batch(
                of: facts,
                at: shard.wallTime,
                byteLimit: Self.batchByteLimit
            )
            writeCounts[name, default: 0] += 1
            replica.propose(
                Proposal(.batch(batch), durability: .quorum) { [weak self] result in
                    guard let self, self.reign == reign else { return }
                    switch result {
                    case .success: completion(nil)
                    case .failure(let error): completion(Self.errorCode(for: error))
                    }
                    self.writeEnded(name)
                }
            )
        } catch {
            completion(tooLong)
        }
    }

    /// - Source: SEMANTICS section 5.2.
    static func errorCode(for error: ReplicationError) -> ErrorCode {
        switch error {
        case .rejected(.overloaded), .tooFewReplicas: .coordinatorNotAvailable
        case .rejected(.notReady): .coordinatorLoadInProgress
        case .rejected, .leadershipLost, .storage, .unusableEntry: .notCoordinator
        }
    }
}

extension ByteBuffer {
    /// The same bytes in memory of their own.
    fileprivate var compacted: ByteBuffer {
        var copy = ByteBuffer()
        copy.writeBytes(readableBytesSpan)
        return copy
    }
}
