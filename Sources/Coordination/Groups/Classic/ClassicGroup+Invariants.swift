extension ClassicGroup {
    /// Stops the process if the group is in a state that no sequence of calls may bring about; for tests and the simulator.
    package func checkInvariants() {
        precondition(
            joinedCount == members.values.count { $0.join != nil },
            "who waits in JoinGroup is counted"
        )
        var counts: [String: Int] = [:]
        for member in members.values {
            for name in Set(member.protocols.map(\.name)) { counts[name, default: 0] += 1 }
        }
        precondition(supporters == counts, "who knows a strategy is counted")
        precondition(
            instances.allSatisfy { members[$0.value]?.instanceID == $0.key },
            "a static name is that of a member"
        )
        precondition(
            members.values.count { $0.instanceID != nil } == instances.count,
            "every static member has its name"
        )
        precondition(
            phase != .preparingRebalance || joinDeadline != nil,
            "nobody waits for ever for others to join"
        )
        precondition(
            phase != .completingRebalance || unsyncedDeadline != nil || unsynced.isEmpty,
            "nobody waits for ever for others to sync"
        )
        precondition(
            phase == .completingRebalance || members.values.allSatisfy { $0.sync == nil },
            "shares are awaited between joining and being stable"
        )
        precondition(
            phase == .preparingRebalance || joinedCount == 0,
            "who joins waits for others to join"
        )
        precondition(phase != .empty || members.isEmpty, "an empty group has no members")
        precondition(
            !members.isEmpty || phase == .empty || !pending.isEmpty,
            "a group without members is empty, unless somebody is expected"
        )
        precondition(leader.map { members[$0] != nil } ?? true, "who assigns is a member")
        precondition(
            unsynced.allSatisfy { members[$0] != nil },
            "only members are waited for"
        )
        precondition(
            nextDeadline != nil || joinDeadline == nil && unsyncedDeadline == nil,
            "timers are looked at"
        )
    }
}
