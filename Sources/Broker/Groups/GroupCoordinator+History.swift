package import FlotillaCoordination
import FlotillaKafkaWire
package import FlotillaModel
import FlotillaReplication
import struct NIOCore.ByteBuffer

/// What happened to groups, for whoever wants to know why.
extension GroupCoordinator {
    /// What is remembered of groups while this broker coordinates them.
    struct Memory {
        var histories = GroupHistories()
        /// What the members of a group of the consumer protocol were when its history was last added to.
        var watches: [String: ConsumerGroupWatch] = [:]
        /// The members that the present step takes out, and why.
        var departures: [String: GroupEvent.Departure] = [:]
        /// Whom the present step refuses.
        var refusal: GroupEvent?
        /// When this broker began to coordinate.
        var beginning: GroupHistory.Moment
    }

    /// The most members that a history begins with by name.
    private static let presentLimit = 50

    private var moment: GroupHistory.Moment {
        GroupHistory.Moment(wallTime: shard.wallTime, instant: now)
    }

    func remember(_ events: [GroupEvent], of name: String) {
        guard !events.isEmpty else { return }
        beginHistory(of: name)
        // The last member that goes leaves nothing to share out.
        let isEmptied = events.contains { if case .emptied = $0 { true } else { false } }
        for event in events where !isEmptied {
            if case .rebalanceBegan(let cause, _) = event {
                shard.counters.rebalanceCounts[cause.word, default: 0] += 1
            }
        }
        memory.histories.note(events, of: name, at: moment)
    }

    /// Begins a group's history with those who are there, before something happens to it.
    func beginHistory(of name: String) {
        guard memory.histories[name] == nil else { return }
        begin(name, with: present(in: name))
    }

    private func begin(_ name: String, with members: [GroupEventMember]) {
        let (events, moment) = beginning(of: name, with: members)
        memory.histories.note(events, of: name, at: moment)
    }

    /// How the history of a group begins, and when.
    private func beginning(
        of name: String,
        with members: [GroupEventMember]
    ) -> ([GroupEvent], GroupHistory.Moment) {
        let isNew = machine.table.groups[name] == nil
        // Where histories have made room this may be one of them, and its members may have come at any time.
        let isResumed = memory.histories.droppedCount > 0
        let first: [GroupEvent] =
            isResumed
            ? [.resumed]
            : isNew ? [] : [.coordinated(by: shard.settings.broker, term: replica.term)]
        let named = members.prefix(Self.presentLimit).map { GroupEvent.present($0) }
        let rest = members.count - named.count
        return (
            first + named + (rest > 0 ? [.morePresent(rest)] : []),
            isResumed || isNew ? moment : memory.beginning
        )
    }

    private func present(in name: String) -> [GroupEventMember] {
        if let group = consumerGroups[name]?.group {
            return ConsumerGroupWatch(group.state).present
        }
        return (groups[name]?.group.memberDescriptions ?? []).map { member in
            GroupEventMember(
                id: member.id,
                instanceID: member.instanceID,
                clientID: member.clientID,
                clientHost: member.clientHost
            )
        }
    }

    /// Commits are gone, or go.
    func rememberForgotten(_ count: Int, _ why: GroupEvent.Forgetting, of name: String) {
        beginHistory(of: name)
        remember([.commitsForgotten(count: count, why)], of: name)
    }

    // MARK: The classic protocol

    /// Takes in what happened in a classic group.
    func rememberClassic(_ events: [GroupEvent], of name: String) {
        guard !events.isEmpty else { return }
        remember(
            events.map { event in
                guard case .rebalanceEnded(var rebalance) = event else { return event }
                rebalance.partitionCount = groups[name].flatMap { Self.sharedCount(in: $0.group) }
                return .rebalanceEnded(rebalance)
            },
            of: name
        )
    }

    /// How many partitions the members share; nil where they do not read topics, or say so in a form that nobody else knows.
    private static func sharedCount(in group: ClassicGroup) -> Int? {
        guard group.protocolType == consumerType else { return nil }
        var count = 0
        for member in group.memberDescriptions where member.assignment.readableBytes > 0 {
            do throws(WireError) {
                let assignment = try ConsumerProtocolAssignment(
                    versionPrefixed: member.assignment,
                    acceptsNewer: true
                )
                count += assignment.assignedPartitions.reduce(0) { $0 + $1.partitions.count }
            } catch {
                return nil
            }
        }
        return count
    }

    // MARK: The consumer protocol

    /// Takes in what a step of a group of the consumer protocol decided.
    func rememberConsumers(_ records: [ConsumerGroupRecord], of name: String) {
        if let refusal = memory.refusal {
            memory.refusal = nil
            remember([refusal], of: name)
        }
        let departures = memory.departures
        memory.departures.removeAll()
        guard !records.isEmpty, let group = consumerGroups[name]?.group,
            var watch = memory.watches.removeValue(forKey: name)
        else { return }
        let before = memory.histories[name] == nil ? watch.present : []
        let events = watch.events(in: records, departures: departures)
        memory.watches[name] = watch
        if memory.histories[name] == nil, !events.isEmpty { begin(name, with: before) }
        remember(events, of: name)
        let mayEnd = records.contains {
            switch $0 {
            case .current, .targetEpoch: true
            case .epoch, .topics, .member, .target: false
            }
        }
        guard mayEnd, memory.histories[name]?.isRebalancing == true, group.phase == .stable else {
            return
        }
        let partitionCount = group.state.members.values.reduce(0) { $0 + $1.target.count }
        remember(
            [
                .rebalanceEnded(
                    Rebalance(
                        generation: group.state.epoch,
                        memberCount: group.memberCount,
                        partitionCount: partitionCount,
                        strategy: group.assignor.rawValue
                    )
                )
            ],
            of: name
        )
    }

    /// Begins to watch a group of the consumer protocol before a step that may change it.
    func watchConsumers(of name: String) {
        guard memory.watches[name] == nil, let group = consumerGroups[name]?.group else { return }
        memory.watches[name] = ConsumerGroupWatch(group.state)
    }

    /// A group of the consumer protocol is not live any more, or is read from the log again.
    func unwatchConsumers(of name: String) { memory.watches[name] = nil }

    /// The members that the present step takes out since they did not do what they had to.
    func noteDepartures(_ late: [(id: String, reason: ConsumerGroup.Silence)]) {
        for (id, reason) in late {
            memory.departures[id] =
                switch reason {
                case .silent: .silent
                case .keeping: .keeping
                }
        }
    }

    /// A client was refused; what tells of a member that another one replaced is part of the history.
    func noteRefusal(_ refusal: HeartbeatRefusal, of member: String) {
        switch refusal.code {
        case .fencedMemberEpoch, .fencedInstanceId, .unreleasedInstanceId:
            memory.refusal = .fenced(GroupEvent.clipped(member), refusal.code)
        default: break
        }
    }

    // MARK: Telling

    /// What is remembered of a group.
    func history(_ name: String) -> GroupAnswer {
        let isThere =
            groups[name] != nil || consumerGroups[name] != nil || machine.table.groups[name] != nil
        guard let known = memory.histories[name] else {
            guard isThere else { return .error(.groupIdNotFound) }
            var history = GroupHistory()
            let (events, moment) = beginning(of: name, with: present(in: name))
            history.note(events, at: moment)
            return told(history)
        }
        return told(known)
    }

    private func told(_ history: GroupHistory) -> GroupAnswer {
        .history(
            GroupHistoryReply(
                coordinator: shard.settings.broker,
                droppedCount: history.droppedCount,
                lines: history.events.map { GroupHistoryLine($0) }
            )
        )
    }
}

/// The history of a group, and who remembers it.
package struct GroupHistoryReply: Hashable, Sendable {
    package var coordinator: BrokerID
    /// How many older events were dropped.
    package var droppedCount: Int
    /// What is remembered, the oldest first.
    package var lines: [GroupHistoryLine]
}
