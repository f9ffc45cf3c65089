import FlotillaCoordination
import FlotillaModel
import FlotillaReplication

/// Where groups are coordinated, and how a request finds its way there.
extension Shard {
    /// The partition of `__consumer_offsets` that a group belongs to; nil while there is no such topic.
    func groupPartition(of group: String) -> TopicPartition? {
        guard let topic = image.topic(named: TopicName.consumerOffsets) else { return nil }
        let number = GroupPlacement.partition(of: group, count: topic.partitions.count)
        return TopicPartition(topic: topic.id, partition: number)
    }

    /// Has a group's coordinator answer, if it is on this broker.
    func askCoordinator(
        of group: String,
        _ question: GroupCall.Question,
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        askCoordinators([(group, question)]) { completion($0[0]) }
    }

    /// Has the coordinators of several groups answer, in the order of the questions.
    func askCoordinators(
        _ questions: [(group: String, question: GroupCall.Question)],
        then completion: @escaping ([GroupAnswer]) -> Void
    ) {
        let items: [Result<GroupCall, Settled<GroupAnswer>>] = questions.map { item in
            guard let partition = groupPartition(of: item.group) else {
                return .failure(Settled(answer: .error(.notCoordinator)))
            }
            return .success(
                GroupCall(partition: partition, group: item.group, question: item.question)
            )
        }
        scatter(items, partition: \.partition, call: { .groups($0) }) { reply in
            if case .groups(let answers) = reply { answers } else { nil }
        } then: {
            completion($0)
        }
    }

    /// Answers questions about groups whose partitions live on this shard.
    func answer(_ calls: [GroupCall], then completion: @escaping (ShardReply) -> Void) {
        gather(calls) { call, done in
            guard let coordinator = partition(call.partition)?.coordinator else {
                return done(.error(.notCoordinator))
            }
            coordinator.answer(call.question, of: call.group, then: done)
        } then: {
            completion(.groups($0))
        }
    }

    /// The groups that this shard coordinates; nil while it has yet to know some of them.
    var groupListings: [GroupListing]? {
        let coordinators = allPartitions.compactMap(\.coordinator)
        guard !coordinators.contains(where: \.isLoading) else { return nil }
        return coordinators.flatMap(\.listings)
    }

    /// Why nothing can be written about groups at the moment; nil where something can.
    ///
    /// A commit is as small as a record, and has to fit into the same bounds.
    func writeRefusal(of replica: Replica) -> ErrorCode? {
        let isHeld =
            replica.uncommittedByteCount >= settings.uncommittedHoldByteCount || isJournalFull
            || isVolumeFull
        return isHeld ? .coordinatorNotAvailable : nil
    }

    // MARK: The topic

    /// Goes on when `__consumer_offsets` is there and its partitions are led, or when that takes too long.
    func withGroupTopic(_ action: @escaping () -> Void) {
        guard image.topic(named: TopicName.consumerOffsets) == nil else { return action() }
        let wanted = Int(config.offsetsReplicationFactor)
        // While a cluster comes together it must not get fewer copies of what its groups commit than it is large enough for.
        guard image.brokers.count >= min(wanted, image.metadataMembers.count) else {
            return action()
        }
        let request = TopicRequest(
            name: TopicName.consumerOffsets,
            partitionCount: config.offsetsPartitionCount,
            replicationFactor: Int16(clamping: min(wanted, max(1, image.activeBrokers.count))),
            configs: [
                ConfigChange("cleanup.policy", "compact"),
                ConfigChange("compression.type", "producer"),
                ConfigChange("segment.bytes", "\(Self.groupSegmentByteCount)"),
            ]
        )
        ask(0, .metadata(.createTopics([request], validateOnly: false))) { [unowned self] _ in
            self.waitForLeaders(of: [TopicName.consumerOffsets], then: action)
        }
    }

    /// The size of the segments that hold groups: each begins with the whole state, and what lies before it is not needed to start.
    private static let groupSegmentByteCount = 64 << 20

    // MARK: Time

    /// How often commits are looked for that nobody needs any more.
    private static let offsetExpiryInterval = Duration.seconds(600)

    func scheduleOffsetExpiry() {
        schedule(after: Self.offsetExpiryInterval) { [unowned self] in
            for partition in self.allPartitions { partition.coordinator?.expireOffsets() }
            self.scheduleOffsetExpiry()
        }
    }

    /// What was committed for topics that are gone goes with them.
    func forgetOffsets(of topics: [TopicImage]) {
        guard !topics.isEmpty else { return }
        let names = Set(topics.map(\.name))
        for partition in allPartitions { partition.coordinator?.topicsDeleted(names) }
    }
}
