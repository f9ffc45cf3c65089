import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import struct NIOCore.ByteBuffer

/// Groups of the classic protocol: members join and sync, and one of them shares out the partitions.
extension GroupCoordinator {
    func join(
        _ name: String,
        _ request: JoinRequest,
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        if let refusal = refusal(of: request, name) { return completion(.error(refusal)) }
        if hasConsumers(name) { return joinConsumers(name, compacted(request), then: completion) }
        guard isKnown(name) || found(name, for: request) else {
            return completion(
                .error(request.memberID.isEmpty ? .coordinatorNotAvailable : .unknownMemberId)
            )
        }
        let request = compacted(request)
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

    /// What stays for as long as the member must not keep the whole of what was received with it.
    private func compacted(_ request: JoinRequest) -> JoinRequest {
        var request = request
        while request.clientID.utf8.count > Self.idPrefixByteLimit { request.clientID.removeLast() }
        for place in request.protocols.indices {
            request.protocols[place].metadata = request.protocols[place].metadata.compacted
        }
        return request
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
        let byteCount = request.protocols.reduce(0) { $0 + $1.byteCount }
        guard words.allSatisfy({ $0.utf8.count <= Self.wordByteLimit }),
            request.memberID.utf8.count <= Self.memberIDByteLimit,
            request.protocols.count <= Self.protocolLimit,
            byteCount <= Self.metadataByteLimit, request.instanceID != ""
        else { return .invalidRequest }
        let isThere = hasRoom(for: byteCount, besides: request.memberID, in: name)
        return isThere ? nil : .coordinatorNotAvailable
    }

    /// Begins a group with its first member.
    private func found(_ name: String, for request: JoinRequest) -> Bool {
        guard request.memberID.isEmpty, groups.count < Self.groupLimit else { return false }
        forgetConsumers(name)
        groups[name] = Live(
            group: ClassicGroup(name: name, settings: groupSettings, wallTime: shard.wallTime)
        )
        return true
    }

    func sync(
        _ name: String,
        _ request: SyncRequest,
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        guard !name.isEmpty else { return completion(.error(.invalidGroupId)) }
        if hasConsumers(name) { return syncConsumers(name, request, then: completion) }
        guard isKnown(name) else { return completion(.error(.unknownMemberId)) }
        // The coordinator keeps all shares, and so does every replica of its log.
        let byteCount = request.assignments.reduce(0) { $0 + $1.assignment.readableBytes }
        guard hasRoom(for: byteCount) else { return completion(.error(.coordinatorNotAvailable)) }
        var request = request
        for place in request.assignments.indices {
            request.assignments[place].assignment = request.assignments[place].assignment.compacted
        }
        perform(on: name, completion) { group, ticket, effects in
            group.sync(request, ticket, now: now, wallTime: shard.wallTime, into: &effects)
        }
    }

    func heartbeat(
        _ name: String,
        _ member: GroupMembership,
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        guard !name.isEmpty else { return completion(.error(.invalidGroupId)) }
        if hasConsumers(name) { return beatConsumers(name, member, then: completion) }
        let error = groups[name]?.group.heartbeat(
            member.member,
            instanceID: member.instanceID,
            generation: member.generation,
            now: now
        )
        completion(.error(error ?? .unknownMemberId))
    }

    func leave(
        _ name: String,
        _ members: [LeavingMember],
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        guard !name.isEmpty else { return completion(.error(.invalidGroupId)) }
        if hasConsumers(name) { return leaveConsumers(name, members, then: completion) }
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

    /// Whether a member of a classic group may commit, which counts as a sign of life; nil for a group that is not there.
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

    func revive(_ name: String, _ state: ClassicGroupState) {
        let group = ClassicGroup(
            name: name,
            state: state,
            settings: groupSettings,
            now: now,
            wallTime: shard.wallTime
        )
        groups[name] = Live(group: group)
        arm(name, group.nextDeadline)
    }

    /// Has a group do something that is answered later.
    private func perform(
        on name: String,
        _ completion: @escaping (GroupAnswer) -> Void,
        _ body: (inout ClassicGroup, ReplyTicket, inout [ClassicGroup.Effect]) -> Void
    ) {
        let ticket = keep(completion)
        _ = change(name) { group, effects in body(&group, ticket, &effects) }
    }

    /// Has a group do something, in its place: a large one is not copied.
    func change<Result>(
        _ name: String,
        _ body: (inout ClassicGroup, inout [ClassicGroup.Effect]) -> Result
    ) -> Result? {
        beginHistory(of: name)
        guard let place = groups.index(forKey: name) else { return nil }
        var effects: [ClassicGroup.Effect] = []
        let result = body(&groups.values[place].group, &effects)
        rememberClassic(groups.values[place].group.takeEvents(), of: name)
        arm(name, groups.values[place].group.nextDeadline)
        perform(effects, of: name)
        forgetIfIdle(name)
        return result
    }

    /// A group without members is what the log says of it, as soon as that is all in the log.
    func forgetIfIdle(_ name: String) {
        guard let live = groups[name], live.group.isIdle, !isWriting(name) else { return }
        if let timer = live.timer { shard.timers.cancel(timer.id) }
        groups[name] = nil
    }

    private func arm(_ name: String, _ deadline: Instant?) {
        let timer = arm(groups[name]?.timer, deadline) { [weak self] in self?.timerFired(name) }
        groups[name]?.timer = timer
    }

    private func timerFired(_ name: String) {
        groups[name]?.timer = nil
        _ = change(name) { group, effects in
            group.tick(now: now, wallTime: shard.wallTime, into: &effects)
        }
    }

    func perform(_ effects: [ClassicGroup.Effect], of name: String) {
        for effect in effects {
            switch effect {
            case .joined(let ticket, let answer):
                settle(ticket, .joined(answer))
            case .synced(let ticket, let answer):
                settle(ticket, .synced(answer))
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
            let isThere: Void? = self.change(name) { group, effects in
                group.persisted(
                    reason,
                    error: error,
                    now: self.now,
                    wallTime: self.shard.wallTime,
                    into: &effects
                )
            }
            // The group went over to the other protocol meanwhile; the others that wait were told when it did.
            if isThere == nil, case .replaced(let member, _, let ticket, _) = reason {
                self.settle(ticket, .joined(.refused(.rebalanceInProgress, memberID: member)))
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

    /// The time between two attempts to write what has to be in the log some time.
    static let retryDelay = Duration.seconds(1)
}

extension ByteBuffer {
    /// The same bytes in memory of their own.
    fileprivate var compacted: ByteBuffer {
        var copy = ByteBuffer()
        copy.writeBytes(readableBytesSpan)
        return copy
    }
}
