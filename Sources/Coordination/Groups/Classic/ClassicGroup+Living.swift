package import FlotillaEnvironment
package import FlotillaModel

/// Heartbeats, commits, members that go, and time.
extension ClassicGroup {
    /// A member is alive; the error tells it what to do.
    package mutating func heartbeat(
        _ id: String,
        instanceID: String?,
        generation: Int32,
        now: Instant
    ) -> ErrorCode {
        if let fault = fault(of: id, instanceID) { return fault }
        guard generation == self.generation else { return .illegalGeneration }
        switch phase {
        case .empty: return .unknownMemberId
        case .preparingRebalance:
            touch(id, now: now)
            return .rebalanceInProgress
        case .completingRebalance, .stable:
            touch(id, now: now)
            return .noError
        }
    }

    /// Whether a member may commit; the error says why not.
    ///
    /// A commit counts as a sign of life.
    ///
    /// `generation`: below 0 for somebody without a group, who may commit while nobody is in it.
    package mutating func checkCommit(
        _ id: String,
        instanceID: String?,
        generation: Int32,
        now: Instant
    ) -> ErrorCode {
        if generation < 0, id.isEmpty, instanceID == nil {
            return phase == .empty ? .noError : .unknownMemberId
        }
        if let fault = fault(of: id, instanceID) { return fault }
        guard generation == self.generation else { return .illegalGeneration }
        switch phase {
        case .empty: return .unknownMemberId
        case .completingRebalance: return .rebalanceInProgress
        case .preparingRebalance, .stable:
            touch(id, now: now)
            return .noError
        }
    }

    /// A member goes, by its id or by its static name.
    ///
    /// - Returns: the error for it.
    package mutating func leave(
        _ id: String,
        instanceID: String?,
        now: Instant,
        wallTime: Timestamp,
        into effects: inout [Effect]
    ) -> ErrorCode {
        self.wallTime = wallTime
        var leaving = id
        // Members know their ids; tools may know the static name alone.
        let departure: GroupEvent.Departure = id.isEmpty ? .removed : .left
        if let instanceID {
            guard let known = instances[instanceID] else { return .unknownMemberId }
            guard id.isEmpty || id == known else { return .fencedInstanceId }
            leaving = known
        } else if pending.removeValue(forKey: id) != nil {
            completeJoinIfAllCame(now: now, into: &effects)
            return .noError
        }
        guard members[leaving] != nil else { return .unknownMemberId }
        remove([leaving], departure, now: now, into: &effects)
        return .noError
    }

    /// Takes members out, and has the others share anew.
    mutating func remove(
        _ ids: [String],
        _ departure: GroupEvent.Departure,
        now: Instant,
        into effects: inout [Effect]
    ) {
        for id in ids {
            guard let member = take(id) else { continue }
            note(.gone(GroupEvent.clipped(id), departure))
            if let join = member.join {
                effects.append(.joined(join, .refused(.unknownMemberId, memberID: id)))
            }
            if let sync = member.sync { effects.append(.synced(sync, .refused(.unknownMemberId))) }
            if leader == id { leader = nil }
        }
        prepareRebalance(.went(ids), now: now, into: &effects)
        completeJoinIfAllCame(now: now, into: &effects)
    }

    // MARK: Time

    /// Looks at all timers.
    package mutating func tick(now: Instant, wallTime: Timestamp, into effects: inout [Effect]) {
        self.wallTime = wallTime
        let late = pending.filter { $0.value <= now }
        for id in late.keys { pending[id] = nil }
        let silent = members.values.filter { $0.deadline <= now && !isAwaited($0) }.map(\.id)
        if !silent.isEmpty {
            remove(silent.sorted(), .silent, now: now, into: &effects)
        } else if !late.isEmpty {
            completeJoinIfAllCame(now: now, into: &effects)
        }
        if let joinDeadline, joinDeadline <= now { joinTimeEnded(now: now, into: &effects) }
        if let unsyncedDeadline, unsyncedDeadline <= now {
            self.unsyncedDeadline = nil
            // A member that lost the answer to its JoinGroup would else hold up the others for ever.
            let missing = unsynced.sorted()
            unsynced.removeAll()
            let isSharing = phase == .completingRebalance || phase == .stable
            if isSharing, !missing.isEmpty { remove(missing, .unsynced, now: now, into: &effects) }
        }
        findNextDeadline(now: now)
    }

    /// Who waits for an answer of ours is not silent; a new one may wait so long and no longer.
    private func isAwaited(_ member: ClassicMember) -> Bool {
        !member.isNew && (member.join != nil || member.sync != nil)
    }

    private mutating func findNextDeadline(now: Instant) {
        var deadlines = [joinDeadline, unsyncedDeadline].compactMap(\.self)
        deadlines += pending.values
        deadlines += members.values.filter { !isAwaited($0) }.map(\.deadline)
        // Many members that fall silent one after the other are looked at together.
        nextDeadline = deadlines.min().map { max($0, now + Self.shortestTick) }
    }

    /// The least time between two looks at the timers.
    private static let shortestTick = Duration.milliseconds(20)
}
