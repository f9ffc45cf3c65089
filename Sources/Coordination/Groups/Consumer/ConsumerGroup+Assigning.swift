import FlotillaEnvironment
import FlotillaModel

/// What the members want, and what each of them is to have.
extension ConsumerGroup {
    /// Looks whether the topics that members want have changed; the group's epoch grows if they have.
    ///
    /// - Returns: whether it has grown.
    @discardableResult
    mutating func refreshTopics(_ image: MetadataImage) -> Bool {
        guard knownTopics != image.appliedIndex else { return false }
        knownTopics = image.appliedIndex
        refreshMatches(image)
        guard wantedTopics(in: image) != state.topics else { return false }
        bumpEpoch(image)
        return true
    }

    /// The group begins a new epoch.
    mutating func bumpEpoch(_ image: MetadataImage) {
        note(.epoch(state.epoch + 1))
        let topics = wantedTopics(in: image)
        if topics != state.topics { note(.topics(topics)) }
    }

    /// The topics that any member wants and that exist.
    private mutating func wantedTopics(in image: MetadataImage) -> [TopicID: SubscribedTopic] {
        var ids = Set(topicCounts.keys.compactMap { image.topic(named: $0)?.id })
        for pattern in patternCounts.keys { ids.formUnion(match(pattern, image)) }
        return ids.reduce(into: [:]) { topics, id in
            guard let topic = image.topic(id) else { return }
            topics[id] = SubscribedTopic(
                name: topic.name,
                partitionCount: Int32(clamping: topic.partitions.count)
            )
        }
    }

    /// Looks at the topics that are new since the expressions were matched.
    private mutating func refreshMatches(_ image: MetadataImage) {
        guard !matches.isEmpty else { return }
        let known = matchedTopics
        matchedTopics = Set(image.topics.map(\.value.id))
        let new = image.topics.filter { !$0.value.isInternal && !known.contains($0.value.id) }
        for text in matches.keys {
            guard let pattern = compiled(text) else { continue }
            matches[text]?.formIntersection(matchedTopics)
            for (name, topic) in new where pattern.matches(name) {
                matches[text]?.insert(topic.id)
            }
        }
    }

    /// The topics that an expression names; each topic is looked at once.
    private mutating func match(_ text: String, _ image: MetadataImage) -> Set<TopicID> {
        if let known = matches[text] { return known }
        if matches.isEmpty { matchedTopics = Set(image.topics.map(\.value.id)) }
        var ids: Set<TopicID> = []
        if let pattern = compiled(text) {
            for (name, topic) in image.topics where !topic.isInternal && pattern.matches(name) {
                ids.insert(topic.id)
            }
        }
        matches[text] = ids
        return ids
    }

    /// The expression, which was accepted when a member came with it.
    private mutating func compiled(_ text: String) -> TopicPattern? {
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
        guard state.epoch > state.targetEpoch else { return }
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
        let shares = assignor.assign(problem(image))
        for id in state.members.keys.sorted() {
            let share = shares[id] ?? []
            if state.members[id]?.target != share { note(.target(id, share)) }
        }
        note(.targetEpoch(state.epoch))
    }

    private mutating func problem(_ image: MetadataImage) -> AssignmentProblem {
        var problem = AssignmentProblem(members: [], topics: [:])
        for (id, topic) in state.topics {
            problem.topics[id] = AssignmentProblem.Topic(
                partitionCount: topic.partitionCount,
                racks: racks(of: id, image)
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

    private mutating func topics(
        of subscription: ConsumerSubscription,
        _ image: MetadataImage
    ) -> Set<TopicID> {
        var ids = Set(subscription.topics.compactMap { image.topic(named: $0)?.id })
        if let pattern = subscription.pattern { ids.formUnion(match(pattern, image)) }
        return ids
    }

    /// The racks in which each partition of a topic has replicas; empty where no broker names one.
    private func racks(of topic: TopicID, _ image: MetadataImage) -> [Set<String>] {
        let racks = image.brokers.reduce(into: [BrokerID: String]()) { racks, entry in
            racks[entry.key] = entry.value.rack
        }
        guard !racks.isEmpty, let partitions = image.topic(topic)?.partitions else { return [] }
        return partitions.map { partition in
            Set(partition.replicas.compactMap { racks[$0.broker] })
        }
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
            let deadline = now + member.rebalanceTimeout
            patience[id]?.revocation = deadline
            expect(deadline)
        }
        return next.assigned != member.current.assigned
    }
}
