import FlotillaModel
import FlotillaRaft
import FlotillaReplication
import FlotillaStorage

/// What a leader commits, a majority of its members has on disk; of both sides where the membership is joint.
///
/// Only what was synced counts, and learners do not. Of a member that is down, or whose disk was lost, counts what it had last: that is
/// what it told, truly, and whoever takes its place is another member. The same goes for one that knows that it may lack something.
final class QuorumChecker {
    private unowned let world: World
    private var holdings: [Holder: Holding] = [:]

    private struct Holder: Hashable {
        var partition: TopicPartition
        var member: GroupMember
    }

    /// What a member has on disk.
    private struct Holding {
        /// Everything up to here.
        var index: LogIndex
        /// Says of which terms the entries are.
        var log: RaftLog
        var areTermsKnown: Bool
    }

    init(world: World) {
        self.world = world
    }

    /// Up to where a replica's disk has its log.
    ///
    /// Files that have become the log are durable, though Raft waits for the journal to know of them.
    static func durableIndex(of replica: Replica) -> LogIndex {
        max(replica.raft.flushedIndex, replica.log.commitIndex)
    }

    /// A replica's disk has more of its log than before, or less.
    func note(_ replica: Replica, durable index: LogIndex) {
        let raft = replica.raft
        let holder = Holder(partition: replica.group.partition, member: replica.member)
        // A leader may count on what it was told before the damage, and nobody is elected with the vote of who lacks that.
        if !raft.isElectable, let known = holdings[holder], known.index > index { return }
        holdings[holder] = Holding(
            index: index,
            log: raft.log,
            areTermsKnown: raft.areTermsKnown
        )
    }

    /// A leader has committed more.
    func check(_ leader: Replica) {
        let log = leader.raft.log
        let partition = leader.group.partition
        guard let term = log.term(at: leader.raft.commitIndex) else { return }
        let last = LogPosition(term: term, index: leader.raft.commitIndex)
        // The members are changed again only when the last change is committed: that one was decided by its own members. Of any other
        // entry nobody can tell afterwards by which of those that are known, when they changed in the same step.
        let known = log.memberships
        let deciding = known[0].index == last.index ? known.prefix(1) : known[...]
        let isHeld = deciding.contains { item in
            item.membership.hasQuorum { self.has($0, last, of: partition) }
        }
        guard !isHeld else { return }
        let membership = deciding.last?.membership ?? .empty
        let holders = membership.allMembers.filter { has($0, last, of: partition) }
        world.violate(
            "\(leader.member) commits entry \(last.index) of \(partition), which only \(holders) of \(membership) have on disk"
        )
    }

    private func has(
        _ member: GroupMember,
        _ entry: LogPosition,
        of partition: TopicPartition
    ) -> Bool {
        guard let holding = holdings[Holder(partition: partition, member: member)],
            holding.index >= entry.index
        else { return false }
        // What has left a log was committed.
        return !holding.areTermsKnown || entry.index <= holding.log.base.index
            || holding.log.contains(entry)
    }
}
