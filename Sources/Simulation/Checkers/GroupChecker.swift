/// What a group was told once holds: a commit never goes back, and no two members have one partition in one generation.
final class GroupChecker {
    private unowned let world: World
    private var owners: [Share: String] = [:]
    private var commits: [Place: Commits] = [:]
    /// The groups of which a commit was acknowledged.
    private var committers: Set<String> = []

    private struct Share: Hashable {
        var group: String
        var generation: Int32
        var partition: Int32
    }

    private struct Place: Hashable {
        var group: String
        var partition: Int32
    }

    private struct Commits {
        var sent: Set<Int64> = []
        var acknowledged: Int64 = -1
    }

    init(world: World) {
        self.world = world
    }

    /// A member was given partitions.
    ///
    /// `member`: the name that it keeps when it comes back under another id.
    func assigned(_ partitions: [Int32], to member: String, of group: String, in generation: Int32)
    {
        world.tell("\(group): \(member) has \(partitions) in generation \(generation)")
        for partition in partitions {
            let share = Share(group: group, generation: generation, partition: partition)
            let other = owners.updateValue(member, forKey: share)
            guard let other, other != member else { continue }
            world.violate(
                "group \(group): \(other) and \(member) both have partition \(partition) in generation \(generation)"
            )
        }
    }

    /// An offset is on its way to the coordinator.
    func sent(_ offset: Int64, for partition: Int32, by group: String) {
        commits[Place(group: group, partition: partition), default: Commits()].sent.insert(offset)
    }

    /// A commit was acknowledged.
    func acknowledged(_ offset: Int64, for partition: Int32, by group: String) {
        let place = Place(group: group, partition: partition)
        let before = commits[place]?.acknowledged ?? -1
        commits[place]?.acknowledged = max(before, offset)
        committers.insert(group)
    }

    /// What a group at rest must have done and has not, in words: its members have all the partitions among them, and it has committed.
    ///
    /// `count`: how many partitions there are at least; how many there are beyond is not known.
    func whatIsLeft(of members: [GroupClient], atLeast count: Int) -> String? {
        var shares: [String: Set<Int32>] = [:]
        for member in members { shares[member.group, default: []].formUnion(member.positions.keys) }
        for (group, partitions) in shares.sorted(by: { $0.key < $1.key }) {
            let isWhole =
                partitions.count >= count
                && (0..<Int32(partitions.count)).allSatisfy(partitions.contains)
            guard isWhole else {
                return "\(group) has the partitions \(partitions.sorted()) of \(count)"
            }
            guard committers.contains(group) else { return "\(group) has committed nothing" }
        }
        return nil
    }

    /// What was acknowledged so far; -1 for nothing.
    func lastAcknowledged(for partition: Int32, by group: String) -> Int64 {
        commits[Place(group: group, partition: partition)]?.acknowledged ?? -1
    }

    /// A commit was read.
    ///
    /// `known`: what had been acknowledged when it was asked for.
    func read(_ offset: Int64, for partition: Int32, by group: String, known: Int64) {
        if offset < known {
            world.violate(
                "group \(group) committed \(known) for partition \(partition), and was told \(offset) later"
            )
        }
        let sent = commits[Place(group: group, partition: partition)]?.sent ?? []
        if offset >= 0, !sent.contains(offset) {
            world.violate(
                "group \(group) was told \(offset) for partition \(partition), which nobody committed"
            )
        }
    }
}
