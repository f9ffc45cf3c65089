import FlotillaModel
import FlotillaRaft
import FlotillaReplication

/// A term has one leader, and that one commits nothing before its term has begun.
final class LeadershipChecker {
    private unowned let world: World
    /// Who led in which term, and up to where it had committed when that was seen first.
    private var leaders: [Reign: (member: GroupMember, commitIndex: LogIndex)] = [:]

    private struct Reign: Hashable {
        var partition: TopicPartition
        var term: Term
    }

    init(world: World) {
        self.world = world
    }

    /// Looks at a replica after a step.
    func look(at replica: Replica) {
        guard replica.isLeader, !replica.hasFailed else { return }
        let reign = Reign(partition: replica.group.partition, term: replica.term)
        guard let known = leaders[reign] else {
            return leaders[reign] = (replica.member, replica.committedIndex)
        }
        if known.member != replica.member {
            world.violate(
                "\(known.member) and \(replica.member) both lead \(reign.partition) in term \(reign.term)"
            )
        } else if replica.committedIndex != known.commitIndex, !replica.hasBegunTerm {
            world.violate(
                "\(replica.member) leads \(reign.partition) and commits \(replica.committedIndex) before its term \(reign.term) has begun"
            )
        }
    }
}
