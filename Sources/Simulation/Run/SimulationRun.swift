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
    /// What led to the broken promise, oldest first; empty when all held.
    package var transcript: [String]
}

/// One seed from start to end: faults and load, then peace, in which everything must come to its end.
package struct SimulationRun {
    private let plan: FaultPlan
    private let onLine: ((String) -> Void)?
    private let onEvent: ((String) -> Void)?
    /// What counts as a run that does not end.
    var limits = World.Limits()

    /// How long a cluster without faults may take until everything is answered, read and equal.
    private static let convergenceLimit = Duration.seconds(120)

    /// Describes a run.
    ///
    /// - Parameters:
    ///   - plan: what may happen.
    ///   - onLine: gets every line of the transcript as it happens.
    ///   - onEvent: gets every event in words before it happens, which takes many times as long as the run.
    package init(
        _ plan: FaultPlan,
        onLine: ((String) -> Void)? = nil,
        onEvent: ((String) -> Void)? = nil
    ) {
        self.plan = plan
        self.onLine = onLine
        self.onEvent = onEvent
    }

    /// Runs to the end, or to the first broken promise.
    package func perform() -> SimulationOutcome {
        let world = World(plan, limits: limits)
        let history = History(world: world)
        let topics = TopicDirectory(world: world)
        let replicas = ReplicaChecker(world: world, history: history)
        let names = TopicNames(world: world, topics: topics)
        world.trace.onLine = onLine.map { onLine in { onLine(names.named($0)) } }
        world.onEvent = onEvent.map { onEvent in { onEvent(names.named($0)) } }
        world.inspect = { place, broker, shard in
            replicas.look(at: shard, place, of: broker)
        }
        world.mourn = { broker in replicas.dies(broker) }
        world.tell("seed \(plan.seed): \(plan.words)")
        let faults = FaultInjector(world)
        let workloads = WorkloadKind.inOrder(plan.workloads)
            .compactMap { $0.make(world: world, topics: topics, history: history) }
        play(world, faults, workloads)
        if world.violation == nil {
            EndChecker(world: world, replicas: replicas)
                .check(workloads, within: Self.convergenceLimit)
        }
        let outcome = outcome(of: world, history, faults, names)
        world.end()
        return outcome
    }

    /// All that happens up to the last check; a broken promise ends each of the steps at once.
    private func play(_ world: World, _ faults: FaultInjector, _ workloads: [any Workload]) {
        world.startAll()
        world.run(until: .start + .seconds(3))
        workloads.forEach { $0.start() }
        faults.start()
        world.run(until: world.now + plan.duration)
        guard world.violation == nil else { return }
        world.tell("the faults are over")
        let leftOut = faults.end()
        world.run(until: world.now + .seconds(5))
        guard world.violation == nil else { return }
        // A healthy core comes to rest whatever becomes of the broker that is left out.
        let core = leftOut == nil ? workloads : workloads.filter { !$0.needsEveryBroker }
        workloads.filter { !($0 is Consuming) }.forEach { $0.finish() }
        converge(world, core.filter { !($0 is Consuming) })
        guard world.violation == nil else { return }
        workloads.forEach { $0.finish() }
        converge(world, core)
        guard world.violation == nil, leftOut != nil else { return }
        world.tell("the last faults are over")
        faults.healAll()
        converge(world, workloads)
    }

    private func outcome(
        of world: World,
        _ history: History,
        _ faults: FaultInjector,
        _ names: TopicNames
    ) -> SimulationOutcome {
        let (digest, now) = (world.trace.digest, world.now)
        var transcript: [String] = []
        if world.violation != nil {
            world.tellState()
            transcript = world.trace.transcript { world.words($0) }.map { names.named($0) }
        }
        return SimulationOutcome(
            seed: plan.seed,
            violation: world.violation.map { names.named($0) },
            eventCount: world.trace.eventCount,
            digest: digest,
            duration: now - .start,
            acknowledgedCount: history.acknowledgedCount,
            seenCount: history.seenCount,
            faultCounts: faults.counts,
            transcript: transcript
        )
    }

    /// Lets time pass until the workloads have come to their end.
    private func converge(_ world: World, _ workloads: [any Workload]) {
        let end = world.now + Self.convergenceLimit
        while world.violation == nil, world.now < end {
            guard workloads.contains(where: { $0.whatIsLeft != nil }) else { return }
            world.run(until: world.now + .milliseconds(200))
        }
        if let left = workloads.compactMap(\.whatIsLeft).first {
            world.lose("without faults the cluster does not come to rest: \(left)")
        }
    }
}
