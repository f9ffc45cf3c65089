import FlotillaModel

/// Tells from a group's records what happens to it, so that what decides does not have to know who keeps its history.
package struct ConsumerGroupWatch: Sendable {
    private struct Member {
        var instanceID: String?
        var clientID: String
        var clientHost: String
        var isAway: Bool

        init(_ subscription: ConsumerSubscription, isAway: Bool) {
            instanceID = subscription.instanceID
            clientID = subscription.clientID
            clientHost = subscription.clientHost
            self.isAway = isAway
        }

        func named(_ id: String) -> GroupEventMember {
            GroupEventMember(
                id: id,
                instanceID: instanceID,
                clientID: clientID,
                clientHost: clientHost
            )
        }
    }

    private var members: [String: Member] = [:]
    private var topics: [TopicID: SubscribedTopic]

    /// Begins with a group as it is.
    package init(_ state: ConsumerGroupState) {
        topics = state.topics
        for (id, member) in state.members {
            members[id] = Member(
                member.subscription,
                isAway: member.current.epoch == CurrentAssignment.awayEpoch
            )
        }
    }

    /// The members, by id.
    package var present: [GroupEventMember] {
        members.sorted { $0.key < $1.key }.map { $0.value.named($0.key) }
    }

    /// What one step of the group's records says.
    ///
    /// `departures`: the members that were taken out for another reason than that they left, and why.
    package mutating func events(
        in records: [ConsumerGroupRecord],
        departures: [String: GroupEvent.Departure] = [:]
    ) -> [GroupEvent] {
        var step = Step(departures: departures)
        for record in records {
            switch record {
            case .member(let id, let subscription?): take(id, subscription, &step)
            case .member(let id, nil):
                if let gone = members.removeValue(forKey: id) {
                    step.gone.append((id, gone.instanceID))
                }
            case .current(let id, let assignment?): take(id, assignment, &step)
            case .epoch(let epoch): step.epoch = epoch
            case .topics(let topics):
                step.topics = Self.differences(self.topics, topics)
                self.topics = topics
            case .targetEpoch, .target, .current(_, nil): break
            }
        }
        return step.events(isEmpty: members.isEmpty)
    }

    private mutating func take(
        _ id: String,
        _ subscription: ConsumerSubscription,
        _ step: inout Step
    ) {
        let instanceID = subscription.instanceID
        if let known = members[id] {
            members[id] = Member(subscription, isAway: known.isAway)
            return step.changed = id
        }
        let new = Member(subscription, isAway: false)
        members[id] = new
        let member = new.named(id)
        let former = step.gone.firstIndex { $0.instanceID != nil && $0.instanceID == instanceID }
        if let former {
            step.events.append(
                .replaced(GroupEvent.clipped(step.gone.remove(at: former).id), by: member)
            )
        } else {
            step.came.append(id)
            step.events.append(.joined(member))
        }
    }

    private mutating func take(_ id: String, _ assignment: CurrentAssignment, _ step: inout Step) {
        let isAway = assignment.epoch == CurrentAssignment.awayEpoch
        guard let known = members[id], known.isAway != isAway else { return }
        members[id]?.isAway = isAway
        let name = GroupEvent.clipped(id)
        step.events.append(isAway ? .away(name) : .returned(name))
    }

    /// The names of topics that came, went or grew.
    private static func differences(
        _ old: [TopicID: SubscribedTopic],
        _ new: [TopicID: SubscribedTopic]
    ) -> [String] {
        let ids = Set(old.keys).union(new.keys).filter { old[$0] != new[$0] }
        return Set(ids.compactMap { (new[$0] ?? old[$0])?.name }).sorted()
    }

    /// What the records of one step have said so far.
    private struct Step {
        var departures: [String: GroupEvent.Departure]
        var events: [GroupEvent] = []
        var came: [String] = []
        var gone: [(id: String, instanceID: String?)] = []
        var changed: String?
        var topics: [String] = []
        var epoch: Int32?

        init(departures: [String: GroupEvent.Departure]) { self.departures = departures }

        func events(isEmpty: Bool) -> [GroupEvent] {
            var all =
                gone.map { GroupEvent.gone(GroupEvent.clipped($0.id), departures[$0.id] ?? .left) }
                + events
            guard let epoch else { return all }
            let cause: GroupEvent.RebalanceCause =
                if !gone.isEmpty {
                    .went(gone.map(\.id))
                } else if !came.isEmpty {
                    .came(came)
                } else if let changed {
                    .changed(changed)
                } else {
                    topics.isEmpty ? .racks : .topics(topics)
                }
            all.append(
                isEmpty
                    ? .emptied(generation: epoch) : .rebalanceBegan(cause.shortened, epoch: epoch)
            )
            return all
        }
    }
}
