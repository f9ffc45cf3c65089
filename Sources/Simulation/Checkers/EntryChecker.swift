import FlotillaModel
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage

/// Committed entries are the same on all replicas, and in the end so is what they made of them.
final class EntryChecker {
    private unowned let world: World
    /// The checksums of committed entries; each covers all before it.
    private var committed: [TopicPartition: [LogIndex: UInt32]] = [:]
    /// How far a replica's committed entries were compared in this life.
    private var compared: [Place: (life: Int, index: LogIndex)] = [:]

    private struct Place: Hashable {
        var group: GroupID
        var broker: BrokerID
    }

    init(world: World) {
        self.world = world
    }

    /// Compares what is committed and in memory with what others have there.
    func compare(_ replica: Replica, life: Int) {
        guard !replica.hasFailed, !replica.isInstalling else { return }
        let partition = replica.group.partition
        let log = replica.log
        let place = Place(group: replica.group, broker: replica.member.broker)
        var next = LogIndex(1)
        if let last = compared[place], last.life == life { next = last.index }
        next = max(next, log.firstIndex)
        guard next <= log.commitIndex else { return }
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
        compared[place] = (life, next)
    }

    /// Compares all of it at the end of a run, when all replicas have applied the same entries.
    func compareAtEnd(_ replicas: [Replica]) {
        var first: [TopicPartition: Replica] = [:]
        for replica in replicas {
            compare(replica, life: -1)
            let partition = replica.group.partition
            guard let other = first[partition] else {
                first[partition] = replica
                continue
            }
            if replica.machine.snapshot() != other.machine.snapshot() {
                world.violate(
                    "\(partition): \(other.member) and \(replica.member) applied the same entries and came to different states"
                )
            }
        }
    }
}
