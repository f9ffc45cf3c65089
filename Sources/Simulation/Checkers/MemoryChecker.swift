import FlotillaBroker
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaReplication

/// A member that comes back has what it had on its disk: its term, its vote and its entries.
///
/// Where it knows that it may lack some, it neither votes nor leads before a leader has matched it, and nothing is asked of it here.
final class MemoryChecker {
    private unowned let world: World
    private var memories: [BrokerID: Memories] = [:]

    /// What a broker's replicas had when its process ended.
    private struct Memories {
        var life: Int
        var end: Instant
        var replicas: [GroupID: Memory]
    }

    private struct Memory {
        var hardState: HardState?
        var lastDurable: LogPosition?
    }

    /// A replica that is not opened for so long has been removed, or waits for a leader who says so.
    private static let patience = Duration.seconds(20)

    init(world: World) {
        self.world = world
    }

    /// A process is about to end.
    func dies(_ broker: SimulatedBroker) {
        var replicas: [GroupID: Memory] = [:]
        for replica in broker.shards.flatMap(\.allReplicas)
        where !replica.hasFailed && !replica.isInstalling {
            let raft = replica.raft
            guard raft.isElectable else { continue }
            let index = raft.flushedIndex
            replicas[replica.group] = Memory(
                hardState: raft.durableHardState,
                lastDurable: raft.log.term(at: index).map { LogPosition(term: $0, index: index) }
            )
        }
        memories[broker.id] = Memories(
            life: broker.life,
            end: world.now + Self.patience,
            replicas: replicas
        )
    }

    /// Looks at a broker's replicas after a step; each is compared when it is there again.
    func look(at replicas: [Replica], of broker: SimulatedBroker) {
        guard let known = memories[broker.id], known.life != broker.life else { return }
        guard known.end > world.now, !known.replicas.isEmpty else {
            return memories[broker.id] = nil
        }
        for replica in replicas {
            guard let memory = memories[broker.id]?.replicas.removeValue(forKey: replica.group)
            else {
                continue
            }
            if replica.raft.isElectable { compare(replica, memory) }
        }
    }

    private func compare(_ replica: Replica, _ memory: Memory) {
        let name = "\(replica.member) of \(replica.group.partition)"
        let raft = replica.raft
        if let before = memory.hardState {
            let now = raft.hardState
            if now.term < before.term {
                world.violate("\(name) was in term \(before.term) and comes back in \(now.term)")
            } else if now.term == before.term, let vote = before.votedFor, now.votedFor != vote {
                world.violate("\(name) voted for \(vote) in term \(now.term) and forgot it")
            }
        }
        if let last = memory.lastDurable, last.index > raft.base.index,
            raft.log.term(at: last.index) != last.term
        {
            world.violate(
                "\(name) had entry \(last.index) of term \(last.term) on its disk, and comes back with \(raft.lastPosition)"
            )
        }
    }
}
