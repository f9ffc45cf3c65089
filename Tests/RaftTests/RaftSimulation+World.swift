import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft

// Clients, faults, and the calm after them.

extension RaftSimulation {
    /// One tenth of a tick of the world: a little work, a little mischief.
    func changeWorld() {
        if now % 10 == 0 {
            beat()
        }
        if plan.works {
            work()
        }
        if happens(perMille: plan.crashPerMille) {
            crash(draw(0...(members.count - 1)))
        }
        if happens(perMille: plan.healPerMille * 2) {
            restartOne()
        }
        if happens(perMille: plan.cutPerMille) {
            cut()
        }
        if happens(perMille: plan.healPerMille) {
            heal()
        }
        if plan.trims, happens(perMille: 10) {
            trim(draw(0...(members.count - 1)))
        }
    }

    // MARK: Clients

    private func work() {
        let slot = believedLeader
        if happens(perMille: 60) {
            let payloads = takePayloads(draw(1...5))
            let entries = payloads.map { _ in
                ProposedEntry(kind: .data, byteCount: draw(1...400))
            }
            step(slot, .propose(entries), payloads: payloads)
        }
        if happens(perMille: 20) {
            let requestID = takeRequestID()
            checker.noteReadAsked(requestID)
            step(slot, .readIndex(requestID: requestID))
        }
        if plan.transfers, happens(perMille: 5) {
            let target = draw(0...1) == 0 ? nil : members[draw(0...(members.count - 1))].id
            step(slot, draw(0...4) == 0 ? .diskSlow : .transferLeadership(to: target))
        }
        if plan.changesMembership, happens(perMille: 12) {
            changeMembership(slot)
        }
        if happens(perMille: plan.isRestless ? 30 : 1) {
            step(draw(0...(members.count - 1)), .campaign)
        }
        if happens(perMille: 2) {
            var settings = settings(of: slot)
            settings.minInSyncReplicas = draw(1...3)
            step(slot, .settings(settings))
        }
    }

    /// Where a client turns: mostly to the newest leader, often to one that is deposed and does not
    /// know.
    private var believedLeader: Int {
        let leaders = members.indices.filter {
            members[$0].isUp && members[$0].raft.role == .leader
        }
        switch draw(0...9) {
        case 0: return draw(0...(members.count - 1))
        case 1...4: return leaders.randomElement(using: &random) ?? 0
        default: return newestLeader ?? 0
        }
    }

    /// Moves one to three brokers in, out, up or down.
    private func changeMembership(_ slot: Int) {
        let membership = members[slot].raft.membership
        var voters = membership.voters
        var learners = membership.learners
        for _ in 0..<draw(1...3) {
            let place = draw(0...(members.count - 1))
            let id = members[place].id
            if voters.contains(id) {
                guard voters.count > 1 else {
                    continue
                }
                voters.removeAll { $0 == id }
                if draw(0...2) == 0 {
                    learners.append(id)
                }
            } else if learners.contains(id) {
                learners.removeAll { $0 == id }
                if draw(0...4) > 0 {
                    voters.append(id)
                }
            } else {
                learners.append(renew(place))
            }
        }
        step(slot, .changeMembership(voters: voters, learners: learners))
    }

    /// A broker that nobody counts on may come back as a new creation with an empty log.
    private func renew(_ slot: Int) -> GroupMember {
        let old = members[slot]
        let isKnown =
            checker.committedMembership.contains(old.id) || checker.committedMembership.isJoint
            || members.contains { member in
                member.log.memberships(upTo: member.log.lastIndex).contains {
                    $0.membership.contains(old.id)
                }
                    || member.raft.membership.contains(old.id)
            }
        guard !isKnown, draw(0...1) == 0 else {
            return old.id
        }
        old.crash(survivors: 0)
        let next = GroupMember(
            broker: old.id.broker,
            epoch: CreationEpoch(old.id.epoch.rawValue + 1)
        )
        members[slot] = TestMember(
            id: next,
            membership: .empty,
            settings: settings(of: slot),
            seed: random.next(),
            incarnation: old.incarnation + 1
        )
        isFlushing[slot] = false
        startTicking(slot)
        return next
    }

    // MARK: Faults

    func crash(_ slot: Int) {
        let member = members[slot]
        guard member.isUp else {
            return
        }
        counts.crashes += 1
        member.crash(survivors: draw(0...member.writes.count))
        isFlushing[slot] = false
        if plan.damages, members.allSatisfy({ !$0.isDamaged }), draw(0...2) == 0 {
            let span = draw(0...8)
            let index = max(Int(member.durable.lastIndex.rawValue) - span, 1)
            member.damage(from: LogIndex(UInt64(index)))
        }
    }

    private func restartOne() {
        if let slot = members.indices.filter({ !members[$0].isUp }).randomElement(using: &random) {
            restart(slot)
        }
    }

    func restart(_ slot: Int) {
        let member = members[slot]
        let hint = LogIndex(UInt64(draw(0...Int(member.raft.durableCommitIndex.rawValue))))
        member.restart(commitHint: hint, settings: settings(of: slot), seed: random.next())
        checker.noteStart(of: member.id, at: member.raft.commitIndex)
        startTicking(slot)
    }

    /// Isolates a member, or cuts one direction of one link.
    private func cut() {
        var slot = draw(0...(members.count - 1))
        if plan.isRestless, let leader = newestLeader {
            slot = leader
        }
        if draw(0...1) == 0 {
            isolate(slot)
        } else {
            isCut[slot][draw(0...(members.count - 1))] = true
        }
    }

    func isolate(_ slot: Int) {
        for other in members.indices where other != slot {
            isCut[slot][other] = true
            isCut[other][slot] = true
        }
    }

    private func heal() {
        for slot in isCut.indices {
            for other in isCut.indices {
                isCut[slot][other] = false
            }
        }
    }

    private func trim(_ slot: Int) {
        let member = members[slot]
        guard member.isUp else {
            return
        }
        let end = Int(min(member.raft.commitIndex, member.raft.flushedIndex).rawValue) + 1
        let index = LogIndex(UInt64(draw(1...max(end, 1))))
        _ = member.trim(to: index)
    }

    /// The brokers' own beat: it misses those that are down or cut off, and notices a new start.
    private func beat() {
        for slot in members.indices where members[slot].isUp {
            for other in members.indices where other != slot {
                let isHeard = members[other].isUp && !isCut[slot][other] && !isCut[other][slot]
                let heard = isHeard ? members[other].incarnation : nil
                let before = beats[slot][other]
                guard heard != before else {
                    continue
                }
                beats[slot][other] = heard
                if before != nil {
                    step(slot, .unreachable(members[other].id))
                }
                if heard != nil {
                    step(slot, .reachable(members[other].id))
                }
            }
        }
    }

    // MARK: Calm

    /// Heals every link, starts everybody, and lets nothing fail any more.
    func calm() {
        plan.calm()
        heal()
        for slot in members.indices where !members[slot].isUp {
            restart(slot)
        }
    }

    /// Proposes one entry at a leader that can take it.
    ///
    /// - Returns: its index once it was taken.
    func proposeGoal() -> LogIndex? {
        guard let slot = newestLeader, members[slot].raft.isReady,
            !members[slot].raft.membership.isJoint
        else {
            return nil
        }
        let before = members[slot].raft.lastIndex
        step(slot, .propose([ProposedEntry(kind: .data, byteCount: 1)]), payloads: takePayloads(1))
        return members[slot].raft.lastIndex > before ? members[slot].raft.lastIndex : nil
    }

    /// Whether the leader that took the goal's entry was replaced by one without it.
    func isLost(_ goal: LogIndex?) -> Bool {
        guard let goal, let slot = newestLeader else {
            return false
        }
        return members[slot].raft.lastIndex < goal
    }

    /// Whether every member of the group has committed `index`, and all logs end alike.
    func isReached(_ index: LogIndex) -> Bool {
        guard let slot = newestLeader else {
            return false
        }
        let leader = members[slot].raft
        return leader.membership.allMembers.allSatisfy { id in
            guard let place = self.slot(of: id) else {
                return true
            }
            let raft = members[place].raft
            return raft.commitIndex >= index && raft.lastPosition == leader.lastPosition
                && raft.isElectable
        }
    }

    /// The state of all members, for the report of a run that made no progress.
    func describe() -> String {
        members.map { member in
            let raft = member.raft
            return "\(member.id) \(raft.role) term=\(raft.term) last=\(raft.lastPosition.index)"
                + " commit=\(raft.commitIndex) electable=\(raft.isElectable) quiet=\(raft.isQuiet)"
                + " \(raft.membership)"
        }
        .joined(separator: "; ")
    }
}
