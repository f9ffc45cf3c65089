import FlotillaBroker
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage

/// Looks into the replicas: one leader in a term, the same committed entries everywhere, and every invariant of every state machine.
final class ReplicaChecker {
    private unowned let world: World
    /// Who led which group in which term.
    private var leaders: [Key: GroupMember] = [:]
    /// The checksums of committed entries; each covers all before it.
    private var committed: [TopicPartition: [LogIndex: UInt32]] = [:]
    /// How far a replica's committed entries were compared in this life.
    private var compared: [Replicated: (life: Int, index: LogIndex)] = [:]
    /// Looks between two comparisons of entries.
    private var countdown = 0

    private struct Replicated: Hashable {
        var group: GroupID
        var broker: BrokerID
    }

    private struct Key: Hashable {
        var partition: TopicPartition
        var term: Term
    }

    init(world: World) {
        self.world = world
    }

    /// Looks at a shard after a step of it.
    func look(at shard: Shard, of broker: SimulatedBroker) {
        let replicas = shard.allReplicas
        for replica in replicas {
            replica.checkInvariants()
            noteLeader(replica)
        }
        countdown -= 1
        guard countdown < 0 else { return }
        countdown = 16
        for replica in replicas { compare(replica, life: broker.life) }
    }

    private func noteLeader(_ replica: Replica) {
        guard replica.isLeader, !replica.hasFailed else { return }
        let key = Key(partition: replica.group.partition, term: replica.term)
        if let other = leaders[key] {
            if other != replica.member {
                world.violate(
                    "\(other) and \(replica.member) both lead \(key.partition) in term \(key.term)"
                )
            }
        } else {
            leaders[key] = replica.member
        }
    }

    /// Compares what is committed and in memory with what others have there.
    func compare(_ replica: Replica, life: Int) {
        guard !replica.hasFailed, !replica.isInstalling else { return }
        let partition = replica.group.partition
        let log = replica.log
        let replicated = Replicated(group: replica.group, broker: replica.member.broker)
        var next = LogIndex(1)
        if let last = compared[replicated], last.life == life { next = last.index }
        next = max(next, log.firstIndex)
        while next <= log.commitIndex {
            if let frame = log.frame(at: next) {
                if let known = committed[partition]?[next], known != frame.checksum {
                    return world.violate(
                        "\(partition): entry \(next) is committed with two contents, one of them on \(replica.member)"
                    )
                }
                committed[partition, default: [:]][next] = frame.checksum
            }
            next = next.next
        }
        compared[replicated] = (life, next)
    }
}
