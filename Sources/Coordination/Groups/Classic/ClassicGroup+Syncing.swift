package import FlotillaEnvironment
package import FlotillaModel
package import struct NIOCore.ByteBuffer

/// A member that wants its share, and brings all shares if it assigns.
package struct SyncRequest: Sendable {
    package var memberID: String
    package var instanceID: String?
    package var generation: Int32
    package var protocolType: String?
    package var protocolName: String?
    /// The shares, by member; of the one that assigns only.
    package var assignments: [(member: String, assignment: ByteBuffer)]

    /// States a request.
    package init(
        memberID: String,
        instanceID: String?,
        generation: Int32,
        protocolType: String?,
        protocolName: String?,
        assignments: [(member: String, assignment: ByteBuffer)]
    ) {
        self.memberID = memberID
        self.instanceID = instanceID
        self.generation = generation
        self.protocolType = protocolType
        self.protocolName = protocolName
        self.assignments = assignments
    }
}

/// What a member is told that wanted its share.
package struct SyncAnswer: Hashable, Sendable {
    package var error: ErrorCode
    package var protocolType: String?
    package var protocolName: String?
    package var assignment = ByteBuffer()

    /// A share.
    package static func share(
        _ assignment: ByteBuffer,
        protocolType: String?,
        protocolName: String?
    ) -> SyncAnswer {
        SyncAnswer(
            error: .noError,
            protocolType: protocolType,
            protocolName: protocolName,
            assignment: assignment
        )
    }

    /// A refusal.
    package static func refused(_ error: ErrorCode) -> SyncAnswer { SyncAnswer(error: error) }
}

/// How members get their shares.
extension ClassicGroup {
    /// Takes a SyncGroup; its answer comes with an effect, now or later.
    package mutating func sync(
        _ request: SyncRequest,
        _ ticket: ReplyTicket,
        now: Instant,
        wallTime: Timestamp,
        into effects: inout [Effect]
    ) {
        self.wallTime = wallTime
        let id = request.memberID
        if let fault = fault(of: request) {
            return effects.append(.synced(ticket, .refused(fault)))
        }
        unsynced.remove(id)
        touch(id, now: now)
        guard phase == .completingRebalance else {
            return effects.append(.synced(ticket, share(of: id)))
        }
        if let older = members[id]?.sync, older != ticket {
            effects.append(.synced(older, .refused(.rebalanceInProgress)))
        }
        members[id]?.sync = ticket
        guard id == leader, !isStoring else { return }
        isStoring = true
        var shares: [String: ByteBuffer] = [:]
        for (member, assignment) in request.assignments where shares[member] == nil {
            shares[member] = assignment
        }
        for member in members.keys { members[member]?.assignment = shares[member] ?? ByteBuffer() }
        effects.append(.persist(state, .assigned(generation: generation)))
    }

    private func fault(of request: SyncRequest) -> ErrorCode? {
        if let fault = fault(of: request.memberID, request.instanceID) { return fault }
        guard request.generation == generation else { return .illegalGeneration }
        let isForeign =
            request.protocolType.map { $0 != protocolType } ?? false
            || request.protocolName.map { $0 != protocolName } ?? false
        if isForeign { return .inconsistentGroupProtocol }
        switch phase {
        case .empty: return .unknownMemberId
        case .preparingRebalance: return .rebalanceInProgress
        case .completingRebalance, .stable: return nil
        }
    }

    private func share(of id: String) -> SyncAnswer {
        SyncAnswer(
            error: .noError,
            protocolType: protocolType,
            protocolName: protocolName,
            assignment: members[id]?.assignment ?? ByteBuffer()
        )
    }

    /// What was to be written down is committed, or could not be written.
    package mutating func persisted(
        _ reason: Reason,
        error: ErrorCode?,
        now: Instant,
        wallTime: Timestamp,
        into effects: inout [Effect]
    ) {
        self.wallTime = wallTime
        switch reason {
        case .emptied: break
        case .replaced(let id, let instance, let ticket, let answer):
            // Its share may have been given away meanwhile; the next heartbeat tells it.
            let isFenced = instances[instance].map { $0 != id } ?? false
            let refusal: ErrorCode? =
                if isFenced { .fencedInstanceId } else if members[id] == nil {
                    .unknownMemberId
                } else { error }
            effects.append(
                .joined(ticket, refusal.map { .refused($0, memberID: id) } ?? answer)
            )
        case .assigned(let generation):
            guard phase == .completingRebalance, generation == self.generation else { return }
            isStoring = false
            guard let error else { return becomeStable(now: now, into: &effects) }
            for member in members.keys { members[member]?.assignment = ByteBuffer() }
            refuseSyncs(error, now: now, into: &effects)
            note(.unwritten(error))
            prepareRebalance(.unwritten, now: now, into: &effects)
            completeJoinIfAllCame(now: now, into: &effects)
        }
    }

    private mutating func becomeStable(now: Instant, into effects: inout [Effect]) {
        enter(.stable)
        note(
            .rebalanceEnded(
                Rebalance(
                    generation: generation,
                    memberCount: members.count,
                    partitionCount: nil,
                    strategy: protocolName ?? ""
                )
            )
        )
        for member in sortedMembers {
            guard let ticket = member.sync else { continue }
            members[member.id]?.sync = nil
            touch(member.id, now: now)
            effects.append(.synced(ticket, share(of: member.id)))
        }
    }

    mutating func refuseSyncs(
        _ error: ErrorCode,
        now: Instant,
        into effects: inout [Effect]
    ) {
        for member in sortedMembers {
            guard let ticket = member.sync else { continue }
            members[member.id]?.sync = nil
            // While it waited for us it could not be heard.
            touch(member.id, now: now)
            effects.append(.synced(ticket, .refused(error)))
        }
    }
}
