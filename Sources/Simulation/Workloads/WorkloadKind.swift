/// What clients do in a run.
package enum WorkloadKind: String, CaseIterable, Hashable, Sendable, Comparable {
    case produce
    case consume
    /// Readers of many partitions, in fetch sessions.
    case session
    case administer
    /// A setting is written and read back.
    case register
    /// Consumer groups that share partitions and commit.
    case group
    /// The same with the consumer protocol.
    case consumerGroup
    /// Groups of both protocols that process what producers write.
    case process
    /// Brokers are drained and removed, and come back empty.
    case leave

    package static func < (left: WorkloadKind, right: WorkloadKind) -> Bool {
        left.rawValue < right.rawValue
    }
}

extension WorkloadKind {
    /// Makes the workload; nil where the cluster is too small for it.
    ///
    /// `administer` only says whether there is more to do than to create topics, which all the others need.
    func make(world: World, topics: TopicDirectory, history: History) -> (any Workload)? {
        switch self {
        case .produce: Producing(world: world, topics: topics, history: history)
        case .consume: Consuming(world: world, topics: topics, history: history)
        case .session: SessionReading(world: world, topics: topics, history: history)
        case .administer: Administering(world: world, topics: topics, history: history)
        case .register: Registering(world: world)
        case .group: Grouping(world: world)
        case .consumerGroup: ConsumerGrouping(world: world)
        case .process: Processing(world: world, topics: topics, history: history)
        case .leave:
            world.plan.brokerCount > Leaving.leastBrokerCount ? Leaving(world: world) : nil
        }
    }

    /// The kinds of a plan in the order in which they begin; topics are made in any case.
    static func inOrder(_ chosen: Set<WorkloadKind>) -> [WorkloadKind] {
        [.administer] + allCases.filter { chosen.contains($0) && $0 != .administer }
    }
}
