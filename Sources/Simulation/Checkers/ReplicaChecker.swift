import FlotillaBroker
import FlotillaReplication

/// Looks into the replicas after each step: every invariant of every state machine, and what holds between replicas.
final class ReplicaChecker {
    private unowned let world: World
    private let leadership: LeadershipChecker
    private let memory: MemoryChecker
    private let entries: EntryChecker
    private let marks: WatermarkChecker
    /// Looks between two comparisons of entries.
    private var countdown = 0

    init(world: World) {
        self.world = world
        leadership = LeadershipChecker(world: world)
        memory = MemoryChecker(world: world)
        entries = EntryChecker(world: world)
        marks = WatermarkChecker(world: world)
    }

    /// Looks at a shard after a step of it.
    func look(at shard: Shard, of broker: SimulatedBroker) {
        let replicas = shard.allReplicas
        for replica in replicas {
            replica.checkInvariants()
            leadership.look(at: replica)
        }
        memory.look(at: replicas, of: broker)
        countdown -= 1
        guard countdown < 0 else { return }
        countdown = 16
        for replica in replicas {
            entries.compare(replica, life: broker.life)
            marks.look(at: replica, life: broker.life)
        }
        shard.checkGroups()
        BoundsChecker.look(at: shard, of: broker, in: world)
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
