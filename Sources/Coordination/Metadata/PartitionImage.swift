package import FlotillaModel

/// A partition's place in the cluster: the members that its group is to have.
///
/// This is the wish; who belongs to the Raft group at a moment is the group's own fact, and the group's leader brings the fact to the
/// wish (`PartitionGuide`). While that is under way the partition is *moving*, and `adding` and `removing` say how.
///
/// - Source: DESIGN §5; Redpanda's controller backend for the order learner, joint, removed, and deletion after that alone.
package struct PartitionImage: Hashable, Sendable {
    /// The members that the group is to have, the preferred leader first.
    package private(set) var replicas: [GroupMember]
    /// Those among the replicas that the group need not have yet; empty at rest.
    package private(set) var adding: [GroupMember] = []
    /// Members that the group may still have and shall lose; empty at rest.
    ///
    /// They keep their data until the movement is finished.
    package private(set) var removing: [GroupMember] = []
    /// What cancelling leads back to; empty unless a reassignment that was asked for is under way.
    package private(set) var previous: [GroupMember] = []
    /// How often other members were wished for; a leader that reports the end of a movement names it.
    package private(set) var revision: UInt64 = 0
    /// The members that the group was created with; empty while `replicas` are those.
    private(set) var founders: [GroupMember] = []

    /// Places a new partition.
    package init(replicas: [GroupMember]) {
        self.replicas = replicas
    }

    /// Restores a partition from a record or a snapshot; `fault` tells whether it makes sense.
    init(
        replicas: [GroupMember],
        adding: [GroupMember],
        removing: [GroupMember],
        previous: [GroupMember],
        revision: UInt64,
        founders: [GroupMember]
    ) {
        self.replicas = replicas
        self.adding = adding
        self.removing = removing
        self.previous = previous
        self.revision = revision
        self.founders = founders
    }

    /// Whether the group's members are to become others.
    package var isMoving: Bool {
        !adding.isEmpty || !removing.isEmpty
    }

    /// Whether a reassignment is under way that can be cancelled.
    package var isCancellable: Bool {
        !previous.isEmpty
    }

    /// Every member that has or should have data: the replicas, and those that shall go.
    package var members: [GroupMember] {
        replicas + removing
    }

    /// The members that the group has for certain, whether they still have what they promised or not.
    var certainMembers: [GroupMember] {
        members.filter { !adding.contains($0) }
    }

    /// Whether the group has a quorum among the certain members that `isCounted`, and that were not replaced on their own broker since
    /// they lost what they promised.
    func hasQuorum(where isCounted: (GroupMember) -> Bool) -> Bool {
        let certain = certainMembers
        let sound = certain.count { member in
            isCounted(member) && !adding.contains { $0.broker == member.broker }
        }
        return sound > certain.count / 2
    }

    /// Whether a quorum of the group seems to be there; for plans, since only the group itself knows.
    ///
    /// Looks at the replicas that need not come first, and where all must come at those that go.
    func seemsMovable(where isLive: (GroupMember) -> Bool) -> Bool {
        let settled = replicas.filter { !adding.contains($0) }
        let known = settled.isEmpty ? removing : settled
        return known.count(where: isLive) > known.count / 2
    }

    /// This broker's member; nil when it holds no replica.
    ///
    /// Where a broker has a member that is wanted and an old one, it is the wanted one; of several old ones the latest.
    package func replica(on broker: BrokerID) -> GroupMember? {
        replicas.first { $0.broker == broker } ?? removing.filter { $0.broker == broker }.max()
    }

    /// The voters that a replica begins with which has no data yet.
    ///
    /// A founding member begins with all founding members, however late it comes: it is then like one that was cut off since the
    /// beginning. Every other member begins with nobody, and learns from the group's leader who belongs to it; it must not count votes
    /// in a group that may never have been.
    package func initialVoters(for member: GroupMember) -> [GroupMember] {
        let first = founders.isEmpty ? replicas : founders
        return first.contains(member) ? first : []
    }

    /// The brokers in the order of their preference.
    package var brokers: [BrokerID] {
        replicas.map(\.broker)
    }
}

// MARK: Movement

extension PartitionImage {
    /// The partition with other brokers: a replica that is there already stays, any other is a new member with this epoch.
    ///
    /// Members of a movement that this one replaces are kept where they are wanted again, since their data is still there.
    func moved(to brokers: [BrokerID], epoch: CreationEpoch) -> PartitionImage {
        let target = brokers.map { replica(on: $0) ?? GroupMember(broker: $0, epoch: epoch) }
        var next = self
        next.replicas = target
        next.adding = target.filter { adding.contains($0) || !replicas.contains($0) }
        next.removing = members.filter { !target.contains($0) }
        next.previous = isCancellable ? previous : replicas
        next.noteMovement(from: self)
        return next
    }

    /// The partition with what it had before the reassignment that is under way.
    func cancelled() -> PartitionImage {
        precondition(isCancellable, "only a reassignment that is under way is cancelled")
        var next = self
        next.replicas = previous
        // One that was to go may have left the group already.
        next.adding = previous.filter { adding.contains($0) || removing.contains($0) }
        next.removing = members.filter { !previous.contains($0) }
        next.previous = []
        next.noteMovement(from: self)
        return next
    }

    /// The partition with a new member in the place of one whose data is lost.
    ///
    /// - Parameters:
    ///   - broker: the broker that lost it.
    ///   - epoch: the new member's.
    ///   - keepsRemains: whether something of the old member lies on the disk and must be deleted when the movement is done.
    /// - Returns: nil when the broker has no member of the group.
    func renewed(on broker: BrokerID, epoch: CreationEpoch, keepsRemains: Bool) -> PartitionImage? {
        guard members.contains(where: { $0.broker == broker }) else { return nil }
        let fresh = GroupMember(broker: broker, epoch: epoch)
        let renew = { (member: GroupMember) in member.broker == broker ? fresh : member }
        var next = self
        next.replicas = replicas.map(renew)
        next.previous = previous.map(renew)
        next.adding = next.replicas.filter { $0 == fresh || adding.contains($0) }
        next.removing = removing.filter { $0.broker != broker }
        if !next.replicas.contains(fresh) {
            next.removing.append(fresh)
        }
        if keepsRemains {
            next.removing += members.filter { $0.broker == broker }
        }
        next.noteMovement(from: self)
        return next
    }

    /// The partition when one member is all that is left of its group, on its way in or out as it may be; nil where that changes nothing.
    func adopted(_ member: GroupMember) -> PartitionImage? {
        var next = self
        next.adding.removeAll { $0 == member }
        next.removing.removeAll { $0 != member }
        next.previous = []
        guard next != self else { return nil }
        next.noteMovement(from: self)
        return next
    }

    /// The partition after its leader said that the group has become what was wished for.
    func settled() -> PartitionImage {
        var next = self
        next.adding = []
        next.removing = []
        next.previous = []
        return next
    }

    /// Numbers a wish for other members, and remembers who founded the group; another order alone is no movement.
    private mutating func noteMovement(from before: PartitionImage) {
        if !isMoving { previous = [] }
        guard isMoving || before.isMoving else { return }
        revision += 1
        if founders.isEmpty { founders = before.replicas }
    }
}

// MARK: Rules

extension PartitionImage {
    /// What makes this no partition; nil when all is well.
    var fault: String? {
        guard !replicas.isEmpty else { return "a partition has at least one replica" }
        if let broker = Self.repeated(replicas.map(\.broker)) {
            return "broker \(broker) holds one partition twice"
        }
        if Self.repeated(members) != nil || Self.repeated(previous.map(\.broker)) != nil
            || Self.repeated(founders) != nil
        {
            return "a member is listed twice"
        }
        guard adding.allSatisfy(replicas.contains) else { return "only a replica is added" }
        let everybody = members
        guard previous.allSatisfy(everybody.contains) else {
            return "what a movement leads back to is still there"
        }
        guard isMoving || previous.isEmpty else { return "only a movement leads back" }
        guard revision > 0 || !isMoving && founders.isEmpty else {
            return "a movement has a number"
        }
        guard revision == 0 || !founders.isEmpty else { return "a group has founders" }
        return nil
    }

    private static func repeated<Element: Comparable>(_ elements: [Element]) -> Element? {
        let sorted = elements.sorted()
        return zip(sorted, sorted.dropFirst()).first { $0 == $1 }?.0
    }
}
