import FlotillaBroker
import FlotillaReplication

/// Looks into the replicas after each step: every invariant of every state machine, and what holds between replicas.
///
/// A replica that the step did not touch is passed over, but for every sixteenth time.
final class ReplicaChecker {
    private unowned let world: World
    private let leadership: LeadershipChecker
    private let memory: MemoryChecker
    private let entries: EntryChecker
    private let marks: WatermarkChecker
    /// Looks until the next one at everything.
    private var countdown = 0
    /// How often each replica of a shard had changed at the last look, in the shard's order.
    private var changeCounts: [[Int]]

    init(world: World) {
        self.world = world
        changeCounts = Array(repeating: [], count: world.plan.brokerCount * world.plan.shardCount)
        leadership = LeadershipChecker(world: world)
        memory = MemoryChecker(world: world)
        entries = EntryChecker(world: world)
        marks = WatermarkChecker(world: world)
    }

    /// Looks at a shard after a step of it.
    func look(at shard: Shard, _ place: ShardPlace, of broker: SimulatedBroker) {
        let replicas = shard.allReplicas
        countdown -= 1
        let looksAtAll = countdown < 0
        check(replicas, at: place, looksAtAll)
        memory.look(at: replicas, of: broker)
        guard looksAtAll else { return }
        countdown = 16
        for replica in replicas {
            entries.compare(replica, life: broker.life)
            marks.look(at: replica, life: broker.life)
        }
        shard.checkGroups()
        BoundsChecker.look(at: shard, of: broker, in: world)
    }

    private func check(_ replicas: [Replica], at place: ShardPlace, _ looksAtAll: Bool) {
        let slot = place.broker * world.plan.shardCount + place.shard
        if changeCounts[slot].count != replicas.count {
            changeCounts[slot] = Array(repeating: -1, count: replicas.count)
        }
        for (index, replica) in replicas.enumerated()
        where looksAtAll || changeCounts[slot][index] != replica.changeCount {
            changeCounts[slot][index] = replica.changeCount
            replica.checkInvariants()
            leadership.look(at: replica)
        }
    }

    /// A process is about to end.
    func dies(_ broker: SimulatedBroker) { memory.dies(broker) }

    /// Compares all replicas with each other when everything has come to rest.
    ///
    /// - Returns: what has still to be healed, in words; nil when nothing has.
    func compareAtEnd(_ replicas: [Replica]) -> String? {
        if let damage = entries.damageAtEnd(replicas) { return damage }
        entries.compareStates(replicas)
        return nil
    }
}
