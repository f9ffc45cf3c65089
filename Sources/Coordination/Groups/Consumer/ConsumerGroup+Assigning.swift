package import FlotillaEnvironment
import FlotillaModel

/// What the members want, and what each of them is to have.
extension ConsumerGroup {
    /// Looks whether the topics that members want have changed, or the racks of their replicas; the group's epoch grows if they have.
    ///
    /// - Returns: whether it has grown.
    /// - Source: SEMANTICS rule CG-7.
    @discardableResult
    mutating func refreshTopics(_ image: MetadataImage) -> Bool {
        let isNewer = knownTopics != image.appliedIndex
        guard isNewer || !isMatched else { return false }
        knownTopics = image.appliedIndex
        if isNewer || hasNewPatterns { prepareMatches(image) }
        match(image)
        // One epoch for all that is found, not one for each turn.
        guard isMatched, wantedTopics(in: image) != state.topics || hasOtherRacks(image) else {
            return false
        }
        bumpEpoch(image)
        return true
    }

    /// The group begins a new epoch.
    mutating func bumpEpoch(_ image: MetadataImage) {
        // Who has just begun to coordinate may be told of somebody that goes before anybody else.
        if hasNewPatterns, unmatched.isEmpty {
            prepareMatches(image)
            match(image)
        }
        note(.epoch(state.epoch + 1))
        let topics = wantedTopics(in: image)
        if topics != state.topics { note(.topics(topics)) }
        // The target that is due now looks at the racks as they are then.
        assignedRacks = nil
    }

    /// The topics that any member wants and that exist.
    ///
    /// As long as expressions have not been compared with all topics, what they were known to name is not given up.
    private func wantedTopics(in image: MetadataImage) -> [TopicID: SubscribedTopic] {
        var ids = Set(topicCounts.keys.compactMap { image.topic(named: $0)?.id })
        for pattern in patternCounts.keys { ids.formUnion(matches[pattern] ?? []) }
        if !isMatched { ids.formUnion(state.topics.keys) }
        return ids.reduce(into: [:]) { topics, id in
            guard let topic = image.topic(id) else { return }
            topics[id] = SubscribedTopic(
                name: topic.name,
                partitionCount: Int32(clamping: topic.partitions.count)
            )
        }
    }

    // MARK: Expressions

    /// Topics that an expression has yet to be compared with.
    struct Comparison: Sendable {
        var pattern: String
        var topics: ArraySlice<TopicID>
    }

    /// The most steps that a group's expressions take in one turn: a hundredth of a second.
    static let turnStepLimit = 5_000_000

    /// Whether it is known which topics the expressions name.
    var isMatched: Bool { unmatched.isEmpty && !hasNewPatterns }

    private var hasNewPatterns: Bool { patternCounts.keys.contains { matches[$0] == nil } }

    /// Has known expressions be compared with new topics, and new expressions with all of them.
    private mutating func prepareMatches(_ image: MetadataImage) {
        guard !patternCounts.isEmpty else { return }
        let all = image.topics.filter { !$0.value.isInternal }.map(\.value.id)
        let known = matchedTopics
        matchedTopics = Set(all)
        let new = all.filter { !known.contains($0) }
        let areSomeGone = all.count < known.count + new.count
        for text in patternCounts.keys.sorted() {
            let isNew = matches[text] == nil
            if isNew { matches[text] = [] }
            if areSomeGone { matches[text]?.formIntersection(matchedTopics) }
            let topics = isNew ? all : new
            if !topics.isEmpty { unmatched.append(Comparison(pattern: text, topics: topics[...])) }
        }
    }

    /// Compares expressions with topics, as many as fit into a turn.
    ///
    /// A coordinator that begins knows of no comparison, and every group of a shard may have thousands of topics before it: all at once
    /// they would keep its replicas silent for longer than others wait before they elect another leader.
    private mutating func match(_ image: MetadataImage) {
        var stepsLeft = Self.turnStepLimit
        while let next = unmatched.first, stepsLeft > 0 {
            let pattern = compiled(next.pattern)
            var topics = next.topics
            while stepsLeft > 0, let id = topics.popFirst() {
                guard let name = image.topic(id)?.name, let pattern else { continue }
                stepsLeft -= pattern.size * name.utf8.count
                if pattern.matches(name) { matches[next.pattern]?.insert(id) }
            }
            if topics.isEmpty {
                unmatched.removeFirst()
            } else {
                unmatched[0].topics = topics
            }
        }
    }

    /// The expression, which was accepted when a member came with it.
    mutating func compiled(_ text: String) -> TopicPattern? {
        if let known = patterns[text] { return known }
        // What an older program accepted and this one does not names nothing.
        let pattern = try? TopicPattern(text)
        patterns[text] = pattern
        return pattern
    }

    // MARK: The target

    /// Computes what each member is to have, if the group has begun another epoch and nothing is gained by waiting.
    ///
    /// Where hundreds of members come one after the other, a target for each of them would be thrown away at once.
    mutating func assignIfDue(_ image: MetadataImage, now: Instant) {
        if !unmatched.isEmpty { expect(now + Self.shortestTick) }
        guard state.epoch > state.targetEpoch else { return }
        // What an expression has yet to be compared with would be taken from its members, and given back a moment later; where nobody has
        // anything yet the first ones are given what is known, since an epoch of 0 is none.
        guard isMatched || state.targetEpoch == 0 else {
            assignmentDeadline = now
            return expect(now + Self.shortestTick)
        }
        let wait = min(Self.assignmentDelayPerMember * memberCount, Self.longestAssignmentDelay)
        if memberCount >= Self.crowd, let last = assignmentTime, now < last + wait {
            assignmentDeadline = last + wait
            return expect(last + wait)
        }
        assign(image, now: now)
    }

    /// From so many members on, targets are not computed for each change.
    private static let crowd = 64

    /// The least time between two targets of a group, for each of its members.
    private static let assignmentDelayPerMember = Duration.microseconds(200)
    /// The longest time that a target is put off.
    private static let longestAssignmentDelay = Duration.seconds(1)

    private mutating func assign(_ image: MetadataImage, now: Instant) {
        assignmentTime = now
        assignmentDeadline = nil
        let problem = problem(image)
        let assignor = assignor
        let shares = assignor.assign(problem)
        // By ranges it does not matter where somebody stands.
        let looksAtRacks = assignor == .uniform && problem.members.contains { $0.rack != nil }
        assignedRacks = looksAtRacks ? problem.topics.mapValues(\.racks) : nil
        for id in state.members.keys.sorted() {
            let share = shares[id] ?? []
            if state.members[id]?.target != share { note(.target(id, share)) }
        }
        note(.targetEpoch(state.epoch))
    }

    private func problem(_ image: MetadataImage) -> AssignmentProblem {
        var problem = AssignmentProblem(members: [], topics: [:])
        let racks = racks(image)
        for (id, topic) in state.topics {
            problem.topics[id] = AssignmentProblem.Topic(
                partitionCount: topic.partitionCount,
                racks: racks[id] ?? []
            )
        }
        for (id, member) in state.members {
            problem.members.append(
                AssignmentProblem.Member(
                    id: id,
                    instanceID: member.subscription.instanceID,
                    rack: member.subscription.rack,
                    topics: topics(of: member.subscription, image),
                    current: member.target
                )
            )
        }
        return problem
    }

    private func topics(
        of subscription: ConsumerSubscription,
        _ image: MetadataImage
    ) -> Set<TopicID> {
        var ids = Set(subscription.topics.compactMap { image.topic(named: $0)?.id })
        if let pattern = subscription.pattern { ids.formUnion(matches[pattern] ?? []) }
        return ids
    }

    /// The racks in which each partition of the topics has replicas; none where no broker names one.
    private func racks(_ image: MetadataImage) -> [TopicID: [Set<String>]] {
        let racks = image.brokers.reduce(into: [BrokerID: String]()) { racks, entry in
            racks[entry.key] = entry.value.rack
        }
        return state.topics.keys.reduce(into: [:]) { found, id in
            let partitions = racks.isEmpty ? nil : image.topic(id)?.partitions
            found[id] = (partitions ?? []).map { partition in
                Set(partition.replicas.compactMap { racks[$0.broker] })
            }
        }
    }

    /// Whether replicas have moved between racks since the target was computed.
    private func hasOtherRacks(_ image: MetadataImage) -> Bool {
        guard let assignedRacks else { return false }
        return assignedRacks != racks(image)
    }

    // MARK: The way there

    /// Brings a member one step nearer to its target.
    ///
    /// - Returns: whether what it may read has changed.
    mutating func reconcile(_ id: String, owned: Set<TopicPartition>?, now: Instant) -> Bool {
        guard let member = state.members[id] else { return false }
        let next = member.current.next(
            target: member.target,
            targetEpoch: state.targetEpoch,
            owned: owned,
            isFree: { owners[$0].map { $0 == id } ?? true }
        )
        guard next != member.current else { return false }
        note(.current(id, next))
        if next.phase != .unrevoked {
            patience[id]?.revocation = nil
        } else if member.current.phase != .unrevoked || member.current.revoking != next.revoking {
            patience[id]?.revocation = .untold
        }
        return next.assigned != member.current.assigned
    }

    /// A member is told now what it may read: what it has to give back is waited for from now on.
    ///
    /// Where the log stood still, that is long after it was decided.
    package mutating func isTold(_ current: CurrentAssignment, _ id: String, now: Instant) {
        guard let member = state.members[id], member.current == current,
            case .untold = patience[id]?.revocation
        else { return }
        let deadline = now + member.rebalanceTimeout
        patience[id]?.revocation = .until(deadline)
        expect(deadline)
    }
}
