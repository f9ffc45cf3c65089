import FlotillaBroker
import FlotillaModel
import FlotillaRaft
import FlotillaReplication

/// Looks into the replicas after each step: every invariant of every state machine, and what holds between replicas.
///
/// A replica that the step did not touch is passed over, but for every seventeenth time. Then groups and bounds are looked at as well,
/// which change without their replicas.
final class ReplicaChecker {
    private unowned let world: World
    private let history: History
    private let leadership: LeadershipChecker
    private let memory: MemoryChecker
    private let entries: EntryChecker
    private let marks: WatermarkChecker
    private let quorum: QuorumChecker
    private let milestones: Milestones
    /// Looks until the next one at everything.
    private var countdown = 0
    /// The replicas of each shard at the last look, in the shard's order.
    private var known: [[Known]]

    /// What a replica was at the last look.
    private struct Known {
        /// Held, so that no other one can have its identity.
        let replica: Replica
        var changeCount = -1
        var appliedIndex = LogIndex.zero
        var commitIndex: LogIndex
        var durableIndex = LogIndex.zero
        var marks: WatermarkChecker.Marks
        /// The first of its committed entries that was not compared yet.
        var nextIndex = LogIndex(1)

        init(_ replica: Replica) {
            self.replica = replica
            commitIndex = replica.raft.commitIndex
            marks = WatermarkChecker.Marks(replica)
        }

        var isOutdated: Bool {
            changeCount != replica.changeCount || marks.highWatermark != replica.highWatermark
        }
    }

    init(world: World, history: History) {
        self.world = world
        self.history = history
        known = Array(repeating: [], count: world.plan.brokerCount * world.plan.shardCount)
        leadership = LeadershipChecker(world: world)
        memory = MemoryChecker(world: world)
        entries = EntryChecker(world: world)
        marks = WatermarkChecker(world: world)
        quorum = QuorumChecker(world: world)
        milestones = Milestones(world: world)
    }

    /// Looks at a shard after a step of it.
    func look(at shard: Shard, _ place: ShardPlace, of broker: SimulatedBroker) {
        let replicas = shard.allReplicas
        countdown -= 1
        let looksAtAll = countdown < 0
        let slot = place.broker * world.plan.shardCount + place.shard
        // Taken out, so that they are changed in place.
        var list = known[slot]
        known[slot] = []
        match(replicas, &list)
        for index in list.indices where looksAtAll || list[index].isOutdated {
            look(at: &list[index], of: shard)
        }
        known[slot] = list
        memory.look(at: replicas, of: broker)
        guard looksAtAll else { return }
        countdown = 16
        shard.checkInvariants()
        BoundsChecker.look(at: shard, replicas, of: broker, in: world)
    }

    /// Remembers the replicas that are open, and no others.
    private func match(_ replicas: [Replica], _ list: inout [Known]) {
        let isSame =
            list.count == replicas.count
            && list.indices.allSatisfy { list[$0].replica === replicas[$0] }
        guard !isSame else { return }
        let before = list
        list = replicas.map { replica in
            before.first { $0.replica === replica } ?? Known(replica)
        }
        // One step may commit something, tell of it, and close the replica.
        for var gone in before where !replicas.contains(where: { $0 === gone.replica }) {
            compare(&gone, with: gone.replica)
        }
    }

    private func look(at known: inout Known, of shard: Shard) {
        let replica = known.replica
        known.changeCount = replica.changeCount
        replica.checkInvariants()
        leadership.look(at: replica)
        milestones.look(at: replica)
        if known.appliedIndex != replica.appliedIndex {
            known.appliedIndex = replica.appliedIndex
            shard.checkInvariants(of: replica.group.partition)
        }
        compare(&known, with: replica)
    }

    /// What holds between the replicas of a partition, and between the lives of one.
    private func compare(_ known: inout Known, with replica: Replica) {
        guard !replica.isInstalling else { return }
        let durableIndex = QuorumChecker.durableIndex(of: replica)
        if known.durableIndex != durableIndex {
            known.durableIndex = durableIndex
            quorum.note(replica, durable: durableIndex)
        }
        if known.commitIndex < replica.raft.commitIndex {
            known.commitIndex = replica.raft.commitIndex
            if replica.isLeader { quorum.check(replica) }
        }
        known.marks = marks.look(at: replica, before: known.marks)
        history.log(replica.group.partition).note(visible: known.marks.highWatermark.rawValue)
        known.nextIndex = entries.compare(replica, from: known.nextIndex)
    }

    /// A process is about to end.
    func dies(_ broker: SimulatedBroker) {
        memory.dies(broker)
        guard let first = world.brokers.firstIndex(where: { $0 === broker }) else { return }
        for shard in 0..<world.plan.shardCount {
            known[first * world.plan.shardCount + shard] = []
        }
    }

    /// Compares all replicas with each other when everything has come to rest.
    ///
    /// - Returns: what has still to be healed, in words; nil when nothing has.
    func compareAtEnd(_ replicas: [Replica]) -> String? {
        if let damage = entries.damageAtEnd(replicas) { return damage }
        entries.compareStates(replicas)
        return nil
    }
}
