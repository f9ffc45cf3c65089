import FlotillaEnvironment
import FlotillaModel

/// No two members of a group of the consumer protocol read one partition at a time.
///
/// A member reads what it was told until it gives it back, is told that it is out, or was not answered for as long as its session lasts.
final class OwnershipChecker {
    private unowned let world: World
    private var owners: [Share: Owner] = [:]

    private struct Share: Hashable {
        var group: String
        var partition: Int32
    }

    private struct Owner {
        var member: String
        var end: Instant
    }

    init(world: World) {
        self.world = world
    }

    /// A member was answered: it reads these partitions up to `end` if it hears nothing more.
    func reads(_ partitions: Set<Int32>, _ member: String, of group: String, until end: Instant) {
        for partition in partitions.sorted() {
            let share = Share(group: group, partition: partition)
            if let other = owners[share], other.member != member, other.end > world.now {
                world.violate(
                    "group \(group): \(member) was given partition \(partition) while \(other.member) has it"
                )
            }
            owners[share] = Owner(member: member, end: end)
        }
        for (share, owner) in owners
        where share.group == group && owner.member == member
            && !partitions.contains(share.partition)
        {
            owners[share] = nil
        }
    }

    /// A member reads nothing any more.
    func readsNothing(_ member: String, of group: String) {
        reads([], member, of: group, until: world.now)
    }
}
