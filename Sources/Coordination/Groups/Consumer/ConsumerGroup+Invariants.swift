import FlotillaModel

extension ConsumerGroup {
    /// Stops the process if the group is in a state that no sequence of calls may bring about; for tests and the simulator.
    package func checkInvariants() {
        precondition(state.targetEpoch <= state.epoch, "a target is for an epoch that has begun")
        precondition(
            Set(patience.keys) == Set(state.members.keys),
            "every member is waited for, and nobody else"
        )
        precondition(
            state.members.values.count { $0.subscription.instanceID != nil } == instances.count,
            "every static member has its name"
        )
        precondition(
            instances.allSatisfy { state.members[$0.value]?.subscription.instanceID == $0.key },
            "a static name is that of a member"
        )
        var held = 0
        var targeted: Set<TopicPartition> = []
        var targetCount = 0
        for (id, member) in state.members {
            let current = member.current
            precondition(
                current.assigned.isDisjoint(with: current.revoking),
                "what is given back is not read"
            )
            precondition(
                (current.phase == .unrevoked) == !current.revoking.isEmpty,
                "who has to give something back has something to give"
            )
            precondition(current.epoch <= state.targetEpoch, "nobody is ahead of the target")
            precondition(
                (patience[id]?.revocation != nil) == (current.phase == .unrevoked),
                "who has to give something back has so much time for it"
            )
            precondition(
                current.held.allSatisfy { owners[$0] == id },
                "a partition is with one member"
            )
            precondition(
                current.phase != .stable || current.epoch != state.targetEpoch
                    || current.assigned == member.target,
                "who has come to the target has what it names"
            )
            held += current.held.count
            targeted.formUnion(member.target)
            targetCount += member.target.count
        }
        precondition(held == owners.count, "only members have partitions")
        precondition(targeted.count == targetCount, "a partition is to go to one member")
        precondition(
            state.members.isEmpty || nextDeadline != nil,
            "timers are looked at"
        )
        precondition(
            state.epoch == state.targetEpoch || assignmentDeadline != nil,
            "a target that is missing is computed some time"
        )
    }
}
