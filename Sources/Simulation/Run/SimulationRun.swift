import FlotillaBroker
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaReplication
import FlotillaStorage

/// What came of a run.
package struct SimulationOutcome: Sendable {
    package var seed: UInt64
    /// The broken promise as a sentence; nil when all held.
    package var violation: String?
    package var eventCount: Int
    /// Equal for two runs of a seed, in whatever process.
    package var digest: UInt64
    /// Virtual time that passed.
    package var duration: Duration
    package var acknowledgedCount: Int
    package var seenCount: Int
    package var faultCounts: [FaultClass: Int]
    /// The last events, oldest first.
    package var transcript: [String]
}

/// One seed from start to end: faults and load, then peace, in which everything must come to its end.
package struct SimulationRun {
    private let plan: FaultPlan
    private let onLine: ((String) -> Void)?

    /// How long a cluster without faults may take until everything is answered, read and equal.
    private static let convergenceLimit = Duration.seconds(120)

    /// Describes a run.
    ///
    /// - Parameters:
    ///   - plan: what may happen.
    ///   - onLine: gets every line of the transcript as it happens.
    package init(_ plan: FaultPlan, onLine: ((String) -> Void)? = nil) {
        self.plan = plan
        self.onLine = onLine
    }

    /// Runs to the end, or to the first broken promise.
    package func perform() -> SimulationOutcome {
        let world = World(plan)
        world.trace.onLine = onLine
        let history = History(world: world)
        let topics = TopicDirectory(world: world)
        let replicas = ReplicaChecker(world: world)
        world.inspect = { place, broker, shard in
            replicas.look(at: shard, place, of: broker)
        }
        world.mourn = { broker in replicas.dies(broker) }
        let faults = FaultInjector(world)
        var workloads: [any Workload] = [
            Administering(world: world, topics: topics, history: history)
        ]
        if plan.workloads.contains(.produce) {
            workloads.append(Producing(world: world, topics: topics, history: history))
        }
        if plan.workloads.contains(.consume) {
            workloads.append(Consuming(world: world, topics: topics, history: history))
        }
        if plan.workloads.contains(.session) {
            workloads.append(SessionReading(world: world, topics: topics, history: history))
        }
        if plan.workloads.contains(.register) { workloads.append(Registering(world: world)) }
        if plan.workloads.contains(.group) { workloads.append(Grouping(world: world)) }
        if plan.workloads.contains(.consumerGroup) {
            workloads.append(ConsumerGrouping(world: world))
        }
        if plan.workloads.contains(.process) {
            workloads.append(Processing(world: world, topics: topics, history: history))
        }
        if plan.workloads.contains(.leave), plan.brokerCount > Leaving.leastBrokerCount {
            workloads.append(Leaving(world: world))
        }
        world.startAll()
        world.run(until: .start + .seconds(3))
        workloads.forEach { $0.start() }
        faults.start()
        world.run(until: world.now + plan.duration)
        world.tell("the faults are over")
        faults.end()
        world.run(until: world.now + .seconds(5))
        workloads.filter { !($0 is Consuming) }.forEach { $0.finish() }
        converge(world, workloads.filter { !($0 is Consuming) })
        workloads.forEach { $0.finish() }
        converge(world, workloads)
        if world.violation == nil { expectEqualReplicas(world, replicas) }
        if plan.workloads == Set(WorkloadKind.allCases),
            history.acknowledgedCount + history.seenCount == 0
        {
            world.violate("nothing was ever acknowledged or read")
        }
        let outcome = SimulationOutcome(
            seed: plan.seed,
            violation: world.violation,
            eventCount: world.trace.eventCount,
            digest: world.trace.digest,
            duration: world.now - .start,
            acknowledgedCount: history.acknowledgedCount,
            seenCount: history.seenCount,
            faultCounts: faults.counts,
            transcript: world.trace.transcript
        )
        world.end()
        return outcome
    }

    /// Lets time pass until the workloads have come to their end.
    private func converge(_ world: World, _ workloads: [any Workload]) {
        let end = world.now + Self.convergenceLimit
        while world.violation == nil, world.now < end {
            guard workloads.contains(where: { $0.whatIsLeft != nil }) else { return }
            world.run(until: world.now + .milliseconds(200))
        }
        if let left = workloads.compactMap(\.whatIsLeft).first {
            describeReplicas(world)
            world.lose("without faults the cluster does not come to rest: \(left)")
        }
    }

    /// All replicas of a partition hold the same log in the end.
    private func expectEqualReplicas(_ world: World, _ checker: ReplicaChecker) {
        let end = world.now + Self.convergenceLimit
        while world.violation == nil {
            let replicas = world.brokers.flatMap(\.shards).flatMap(\.allReplicas)
            guard let difference = difference(replicas) ?? checker.compareAtEnd(replicas) else {
                return
            }
            guard world.now < end else {
                describeReplicas(world)
                return world.lose(difference)
            }
            world.run(until: world.now + .milliseconds(200))
        }
    }

    /// Tells how far each replica is, and what leaders know of the others.
    private func describeReplicas(_ world: World) {
        for broker in world.brokers {
            for replica in broker.shards.flatMap(\.allReplicas) {
                let raft = replica.raft
                world.tell(
                    "\(replica.group) on broker \(broker.id): \(raft.role), term \(raft.term), ends at \(replica.log.lastIndex), "
                        + "committed \(raft.commitIndex), applied \(replica.appliedIndex)\(raft.isQuiet ? ", quiet" : "")"
                )
                for other in raft.membership.allMembers {
                    guard let progress = raft.progress(of: other) else { continue }
                    world.tell(
                        "  knows of \(other): \(progress.state), matched \(progress.match), next \(progress.next), "
                            + "\(progress.window.count) on their way, \(progress.isReachable ? "reachable" : "not reachable")"
                    )
                }
            }
        }
    }

    private func difference(_ replicas: [Replica]) -> String? {
        var ends: [TopicPartition: LogIndex] = [:]
        for replica in replicas {
            let partition = replica.group.partition
            guard replica.appliedIndex == replica.log.lastIndex else {
                return "\(partition) on \(replica.member) has not applied all that it has"
            }
            let other = ends[partition] ?? replica.log.lastIndex
            guard other == replica.log.lastIndex else {
                return "\(partition) ends at \(other) and at \(replica.log.lastIndex)"
            }
            ends[partition] = other
        }
        return nil
    }
}
