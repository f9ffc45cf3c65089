package import FlotillaEnvironment
package import FlotillaModel

/// How members come in, and when those that have come go on.
extension ClassicGroup {
    /// Takes a JoinGroup; its answer comes with an effect, now or later.
    ///
    /// `newID`: what an id for a new member ends with.
    package mutating func join(
        _ request: JoinRequest,
        _ ticket: ReplyTicket,
        newID: @autoclosure () -> String,
        now: Instant,
        wallTime: Timestamp,
        into effects: inout [Effect]
    ) {
        self.wallTime = wallTime
        do throws(JoinRefusal) {
            try check(request)
            if !request.memberID.isEmpty {
                try joinAgain(request, ticket, now: now, into: &effects)
            } else if let instance = request.instanceID, let known = instances[instance] {
                let id = "\(instance)-\(newID())"
                replace(known, with: id, request, ticket, now: now, into: &effects)
            } else {
                let id = "\(request.instanceID ?? request.clientID)-\(newID())"
                try joinFirst(id, request, ticket, now: now, into: &effects)
            }
        } catch {
            effects.append(.joined(ticket, .refused(error.code, memberID: error.memberID)))
        }
    }

    private struct JoinRefusal: Error {
        var code: ErrorCode
        var memberID: String
    }

    private func check(_ request: JoinRequest) throws(JoinRefusal) {
        let isShared =
            members.isEmpty
            || (protocolType == request.protocolType
                && request.protocols.contains { isKnownToAll($0.name) })
        guard !request.protocolType.isEmpty, !request.protocols.isEmpty, isShared else {
            throw JoinRefusal(code: .inconsistentGroupProtocol, memberID: request.memberID)
        }
    }

    /// Somebody who was never here.
    private mutating func joinFirst(
        _ id: String,
        _ request: JoinRequest,
        _ ticket: ReplyTicket,
        now: Instant,
        into effects: inout [Effect]
    ) throws(JoinRefusal) {
        guard hasRoom, pending.count < Self.pendingLimit else {
            throw JoinRefusal(code: .groupMaxSizeReached, memberID: "")
        }
        guard request.instanceID == nil, request.mustKnowID else {
            return add(id, request, ticket, now: now, into: &effects)
        }
        pending[id] = now + request.sessionTimeout
        expect(now + request.sessionTimeout)
        throw JoinRefusal(code: .memberIdRequired, memberID: id)
    }

    /// Whether one more member may come in.
    ///
    /// While JoinGroup requests are collected, former members may never come again: only who has come counts.
    private var hasRoom: Bool {
        let count = phase == .preparingRebalance ? joinedCount : members.count
        return count + pending.count < settings.maximumSize
    }

    private mutating func joinAgain(
        _ request: JoinRequest,
        _ ticket: ReplyTicket,
        now: Instant,
        into effects: inout [Effect]
    ) throws(JoinRefusal) {
        let id = request.memberID
        if request.instanceID == nil, pending.removeValue(forKey: id) != nil {
            guard hasRoom else { throw JoinRefusal(code: .groupMaxSizeReached, memberID: "") }
            return add(id, request, ticket, now: now, into: &effects)
        }
        if let fault = fault(of: id, request.instanceID) {
            throw JoinRefusal(code: fault, memberID: id)
        }
        let isUnchanged = members[id]?.protocols == request.protocols
        switch phase {
        case .completingRebalance where isUnchanged:
            // It did not hear the answer.
            effects.append(.joined(ticket, present(to: id)))
            touch(id, now: now)
        case .stable where isUnchanged && id != leader:
            effects.append(.joined(ticket, present(to: id)))
            touch(id, now: now)
        case .preparingRebalance where members[id]?.join == nil && !hasRoom:
            // Others came first.
            remove([id], .crowded, now: now, into: &effects)
            throw JoinRefusal(code: .groupMaxSizeReached, memberID: "")
        case .preparingRebalance, .completingRebalance, .stable:
            let cause: GroupEvent.RebalanceCause =
                isUnchanged ? .asked(GroupEvent.clipped(id)) : .changed(GroupEvent.clipped(id))
            update(id, request, ticket, now: now, into: &effects)
            prepareRebalance(cause, now: now, into: &effects)
            completeJoinIfAllCame(now: now, into: &effects)
        case .empty:
            throw JoinRefusal(code: .unknownMemberId, memberID: id)
        }
    }

    /// What is wrong with a member that names itself so; nil when nothing is.
    func fault(of id: String, _ instanceID: String?) -> ErrorCode? {
        if let instanceID {
            guard let known = instances[instanceID] else { return .unknownMemberId }
            return known == id ? nil : .fencedInstanceId
        }
        return members[id] == nil ? .unknownMemberId : nil
    }

    private mutating func add(
        _ id: String,
        _ request: JoinRequest,
        _ ticket: ReplyTicket,
        now: Instant,
        into effects: inout [Effect]
    ) {
        if members.isEmpty { protocolType = request.protocolType }
        let member = ClassicMember(
            id: id,
            instanceID: request.instanceID,
            clientID: request.clientID,
            clientHost: request.clientHost,
            rebalanceTimeout: request.rebalanceTimeout,
            sessionTimeout: request.sessionTimeout,
            protocols: request.protocols,
            join: ticket,
            isNew: true,
            deadline: now + Self.newMemberTimeout
        )
        insert(member)
        note(.joined(member.named))
        if leader == nil { leader = id }
        initialWait?.hasNewMember = true
        prepareRebalance(.came([GroupEvent.clipped(id)]), now: now, into: &effects)
        completeJoinIfAllCame(now: now, into: &effects)
    }

    private mutating func update(
        _ id: String,
        _ request: JoinRequest,
        _ ticket: ReplyTicket,
        now: Instant,
        into effects: inout [Effect]
    ) {
        change(request.protocols, of: id)
        members[id]?.rebalanceTimeout = request.rebalanceTimeout
        members[id]?.sessionTimeout = request.sessionTimeout
        if let older = members[id]?.join, older != ticket {
            effects.append(.joined(older, .refused(.rebalanceInProgress, memberID: id)))
        }
        park(ticket, of: id)
        touch(id, now: now)
    }

    /// A static member has come back: it gets a new id, and who has the old one is fenced.
    private mutating func replace(
        _ old: String,
        with id: String,
        _ request: JoinRequest,
        _ ticket: ReplyTicket,
        now: Instant,
        into effects: inout [Effect]
    ) {
        let wasLeader = leader == old
        guard var member = take(old) else {
            preconditionFailure("a static name is that of a member")
        }
        if let join = member.join {
            effects.append(.joined(join, .refused(.fencedInstanceId, memberID: old)))
        }
        if let sync = member.sync { effects.append(.synced(sync, .refused(.fencedInstanceId))) }
        member.join = nil
        member.sync = nil
        member.id = id
        member.clientID = request.clientID
        member.clientHost = request.clientHost
        member.rebalanceTimeout = request.rebalanceTimeout
        member.sessionTimeout = request.sessionTimeout
        member.protocols = request.protocols
        // It may wait in JoinGroup as long as the member whose place it takes might.
        member.deadline = now + (member.isNew ? Self.newMemberTimeout : request.sessionTimeout)
        insert(member)
        note(.replaced(GroupEvent.clipped(old), by: member.named))
        if wasLeader { leader = id }
        guard phase == .stable, electProtocol() == protocolName else {
            park(ticket, of: id)
            prepareRebalance(.changed(GroupEvent.clipped(id)), now: now, into: &effects)
            return completeJoinIfAllCame(now: now, into: &effects)
        }
        // Its share is what it was, so nobody else is disturbed.
        var answer = present(to: id)
        if wasLeader, request.canSkipAssignment {
            answer.skipsAssignment = true
        } else if wasLeader {
            // An older client would assign if it were told that it leads.
            answer.leader = old
            answer.members = []
        }
        effects.append(
            .persist(
                state,
                .replaced(member: id, instance: request.instanceID ?? "", ticket, answer)
            )
        )
    }

    /// What a member is told of the present generation.
    private func present(to id: String) -> JoinAnswer {
        JoinAnswer(
            error: .noError,
            generation: generation,
            protocolType: protocolType,
            protocolName: protocolName,
            leader: leader ?? "",
            memberID: id,
            members: id == leader ? membersForLeader : []
        )
    }

    private var membersForLeader: [JoinAnswer.Member] {
        sortedMembers.map { member in
            JoinAnswer.Member(
                id: member.id,
                instanceID: member.instanceID,
                metadata: member.metadata(for: protocolName)
            )
        }
    }

    // MARK: Rebalances

    /// Everybody has to join again, if that is not so already.
    mutating func prepareRebalance(
        _ cause: GroupEvent.RebalanceCause,
        now: Instant,
        into effects: inout [Effect]
    ) {
        guard phase != .preparingRebalance else { return }
        note(.rebalanceBegan(cause.shortened, epoch: nil))
        refuseSyncs(.rebalanceInProgress, now: now, into: &effects)
        unsynced.removeAll()
        unsyncedDeadline = nil
        if phase == .empty {
            let delay = settings.initialDelay
            let rest = rebalanceTimeout - delay
            initialWait = InitialWait(rest: max(rest, .zero))
            joinDeadline = now + delay
        } else {
            joinDeadline = now + rebalanceTimeout
        }
        if let joinDeadline { expect(joinDeadline) }
        enter(.preparingRebalance)
    }

    /// Goes on as soon as all are there; a new group waits its time.
    mutating func completeJoinIfAllCame(now: Instant, into effects: inout [Effect]) {
        guard phase == .preparingRebalance else { return }
        if initialWait != nil, settings.initialDelay > .zero, !members.isEmpty { return }
        guard joinedCount == members.count, pending.isEmpty else { return }
        completeJoin(now: now, into: &effects)
    }

    /// The time to join is over.
    mutating func joinTimeEnded(now: Instant, into effects: inout [Effect]) {
        if var wait = initialWait, wait.hasNewMember, wait.rest > .zero {
            let delay = min(settings.initialDelay, wait.rest)
            wait.rest -= delay
            wait.hasNewMember = false
            initialWait = wait
            joinDeadline = now + delay
            return expect(now + delay)
        }
        completeJoin(now: now, into: &effects)
    }

    private mutating func completeJoin(now: Instant, into effects: inout [Effect]) {
        initialWait = nil
        joinDeadline = nil
        for member in sortedMembers where member.join == nil && member.instanceID == nil {
            _ = take(member.id)
            note(.gone(GroupEvent.clipped(member.id), .absent))
            if leader == member.id { leader = nil }
        }
        electLeader()
        guard joinedCount > 0 || members.isEmpty else {
            // Static members alone, and none of them has come: they have until their sessions end.
            joinDeadline = now + rebalanceTimeout
            return expect(now + rebalanceTimeout)
        }
        generation = generation == .max ? 1 : generation + 1
        guard !members.isEmpty else { return becomeEmpty(into: &effects) }
        protocolName = electProtocol()
        enter(.completingRebalance)
        isStoring = false
        for member in sortedMembers {
            members[member.id]?.isNew = false
            touch(member.id, now: now)
            unsynced.insert(member.id)
            guard let ticket = member.join else { continue }
            park(nil, of: member.id)
            effects.append(.joined(ticket, present(to: member.id)))
        }
        unsyncedDeadline = now + rebalanceTimeout
        expect(now + rebalanceTimeout)
    }

    /// Who assigned before goes on, if it has joined; else the first that has.
    private mutating func electLeader() {
        if let leader, members[leader]?.join != nil { return }
        leader = sortedMembers.first { $0.join != nil }?.id ?? leader ?? sortedMembers.first?.id
    }

    private mutating func becomeEmpty(into effects: inout [Effect]) {
        protocolName = nil
        leader = nil
        enter(.empty)
        note(.emptied(generation: generation))
        effects.append(.persist(state, .emptied))
    }
}
