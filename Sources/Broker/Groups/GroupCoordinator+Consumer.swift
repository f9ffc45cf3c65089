import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel

/// Groups of the consumer protocol: members send heartbeats, and the coordinator shares out the partitions.
///
/// What a member is told has to be in the log before; an answer that changes nothing is given after a round of heartbeats between the
/// replicas, since what a deposed coordinator remembers may be another member's by now. A group is changed in memory first; where the log does not take that, the group is
/// read from the log again.
extension GroupCoordinator {
    func heartbeat(
        _ name: String,
        _ request: ConsumerHeartbeat,
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        let said = (request.topics ?? []).reduce(0) { $0 + $1.utf8.count }
        guard hasRoom(for: said, besides: request.memberID, in: name) else {
            return completion(
                .refused(
                    HeartbeatRefusal(
                        .coordinatorNotAvailable,
                        "the members of all groups here say too much of themselves for another large one"
                    )
                )
            )
        }
        if let refusal = prepare(name, request) { return completion(.refused(refusal)) }
        decide(name, completion) { group in
            group.settings = consumerSettings(name)
            do throws(HeartbeatRefusal) {
                return .heartbeat(try group.heartbeat(request, shard.image, now: now))
            } catch {
                noteRefusal(error, of: request.memberID)
                return .refused(error)
            }
        }
    }

    /// Has the group of a heartbeat come to life, as one of the consumer protocol.
    ///
    /// - Returns: why that cannot be.
    private func prepare(_ name: String, _ request: ConsumerHeartbeat) -> HeartbeatRefusal? {
        if consumerGroups[name] != nil { return nil }
        let known = machine.table.groups[name]
        if let state = known?.consumer, groups[name] == nil {
            revive(name, state)
            return nil
        }
        guard request.epoch == 0 else {
            return HeartbeatRefusal(
                .groupIdNotFound,
                "there is no group \(name) of the consumer protocol"
            )
        }
        if let classic = groups[name]?.group, !classic.isIdle { return upgrade(name, for: request) }
        guard consumerGroups.count < Self.groupLimit else {
            return HeartbeatRefusal(
                .coordinatorNotAvailable,
                "this broker coordinates \(Self.groupLimit) groups already"
            )
        }
        if let timer = groups.removeValue(forKey: name)?.timer { shard.timers.cancel(timer.id) }
        revive(name, ConsumerGroupState())
        return nil
    }

    // MARK: Groups

    func consumerSettings(_ name: String) -> ConsumerGroup.Settings {
        ConsumerGroup.Settings(
            sessionTimeout: GroupConfig.sessionTimeout(
                in: shard.image.configs(ofGroup: name),
                within: shard.config.groupConfigBounds
            ) ?? shard.config.consumerSessionTimeout,
            maximumSize: shard.config.maximumConsumerGroupSize,
            assignors: shard.config.assignors
        )
    }

    /// Whether a group has members of the consumer protocol, or had them a moment ago.
    func hasConsumers(_ name: String) -> Bool {
        consumerGroups[name].map { $0.group.memberCount > 0 } ?? false || decisions[name] != nil
    }

    /// A group without members begins anew with the other protocol.
    func forgetConsumers(_ name: String) {
        if let timer = consumerGroups.removeValue(forKey: name)?.timer {
            shard.timers.cancel(timer.id)
        }
        unwatchConsumers(of: name)
    }

    /// A group without members is what the log says of it, as soon as that is all in the log.
    func forgetConsumersIfIdle(_ name: String) {
        guard let live = consumerGroups[name], live.group.memberCount == 0, decisions[name] == nil
        else { return }
        forgetConsumers(name)
    }

    func revive(_ name: String, _ state: ConsumerGroupState) {
        let group = ConsumerGroup(
            name: name,
            state: state,
            settings: consumerSettings(name),
            now: now
        )
        consumerGroups[name] = Live(group: group)
        armConsumers(name)
    }

    /// Has a group do something, in its place: a large one is not copied.
    ///
    /// - Returns: what the log has to be told, and what whoever asked; nil for a group that is not there.
    private func change(
        _ name: String,
        _ body: (inout ConsumerGroup) -> GroupAnswer
    ) -> GroupDecisions.Decision? {
        watchConsumers(of: name)
        guard let place = consumerGroups.index(forKey: name) else { return nil }
        let answer = body(&consumerGroups.values[place].group)
        let records = consumerGroups.values[place].group.takeRecords()
        rememberConsumers(records, of: name)
        armConsumers(name)
        var decision = GroupDecisions.Decision(
            records: records.map { .consumerGroup(name: name, $0) },
            answer: answer
        )
        if !records.isEmpty, let record = downgrade(name) {
            decision.records.append(record)
            decision.isLast = true
        }
        return decision
    }

    /// Has a group be looked at when it wants that next.
    func armConsumers(_ name: String) {
        guard let live = consumerGroups[name] else { return }
        let timer = arm(live.timer, live.group.nextDeadline) { [weak self] in
            self?.consumerTimerFired(name)
        }
        consumerGroups[name]?.timer = timer
    }

    private func consumerTimerFired(_ name: String) {
        consumerGroups[name]?.timer = nil
        let decision = change(name) { group in
            noteDepartures(group.tick(shard.image, now: now))
            return .error(.noError)
        }
        if let decision, !decision.records.isEmpty { decide(name, decision) }
    }

    // MARK: Writing

    /// Has a group do something, and answers when that is in the log.
    func decide(
        _ name: String,
        _ completion: @escaping (GroupAnswer) -> Void,
        _ body: (inout ConsumerGroup) -> GroupAnswer
    ) {
        guard var decision = change(name, body) else { return completion(.error(.unknownMemberId)) }
        decision.ticket = keep(completion)
        decide(name, decision)
    }

    private func decide(_ name: String, _ decision: GroupDecisions.Decision) {
        decisions[name, default: GroupDecisions()].add(decision)
        if decisions[name]?.current.isEmpty == true { writeNext(name) }
    }

    private func writeNext(_ name: String) {
        // Whoever was answered may have decided something already.
        guard decisions[name]?.current.isEmpty == true,
            let records = decisions[name]?.begin()
        else { return }
        guard !records.isEmpty else { return decisionsAreWritten(name) }
        write(records, of: name, tooLong: .unknownServerError) { [unowned self] error in
            if let error { self.reload(name, error) } else { self.decisionsAreWritten(name) }
        }
    }

    private func decisionsAreWritten(_ name: String) {
        let written = decisions[name]?.end() ?? []
        if written.contains(where: { !$0.records.isEmpty }),
            machine.table.groups[name]?.consumer?.members.isEmpty == true
        {
            emptyTimes[name] = shard.wallTime
        }
        if written.last?.isLast == true {
            // What was decided on top of it was decided by a group that is no more.
            let void = decisions.removeValue(forKey: name)?.next ?? []
            downgraded(name)
            for ticket in void.compactMap(\.ticket) {
                settle(ticket, .error(.coordinatorLoadInProgress))
            }
        }
        tellMembers(of: name, written.flatMap(\.records))
        for decision in written {
            guard let ticket = decision.ticket else { continue }
            guard decision.records.isEmpty else {
                settle(ticket, decision.answer)
                continue
            }
            proveLeadership { [weak self] isProven in
                self?.settle(ticket, isProven ? decision.answer : .error(.notCoordinator))
            }
        }
        guard let left = decisions[name] else { return }
        guard left.isEmpty else { return writeNext(name) }
        decisions[name] = nil
        forgetConsumersIfIdle(name)
    }

    /// Members are told now what they may read.
    private func tellMembers(of name: String, _ records: [GroupRecord]) {
        for case .consumerGroup(_, .current(let id, let current?)?) in records {
            consumerGroups[name]?.group.isTold(current, id, now: now)
        }
        armConsumers(name)
    }

    /// What was decided did not come into the log: the group is what the log says, and its members have a whole session again.
    private func reload(_ name: String, _ error: ErrorCode) {
        guard let lost = decisions.removeValue(forKey: name) else { return }
        remember([.unwritten(error)], of: name)
        forgetConsumers(name)
        revive(name)
        for decision in lost.current + lost.next {
            if let ticket = decision.ticket { settle(ticket, .error(error)) }
        }
    }

    // MARK: Tools

    func describeConsumer(_ name: String) -> GroupAnswer {
        let live = consumerGroups[name]?.group
        guard let state = live?.state ?? machine.table.groups[name]?.consumer,
            groups[name] == nil
        else { return .error(.groupIdNotFound) }
        let group =
            live
            ?? ConsumerGroup(name: name, state: state, settings: consumerSettings(name), now: now)
        return .describedConsumer(
            ConsumerGroupDescription(
                name: name,
                phase: group.phase,
                assignor: group.assignor.rawValue,
                state: state
            )
        )
    }
}
