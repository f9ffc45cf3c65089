package import FlotillaModel

/// Who is to belong to a Raft group.
package struct GroupWish: Hashable, Sendable {
    /// The voters, in any order.
    package var voters: [GroupMember]
    /// Members that only receive the log, in any order.
    package var learners: [GroupMember]

    /// States a wish.
    package init(voters: [GroupMember], learners: [GroupMember] = []) {
        self.voters = voters
        self.learners = learners
    }
}

/// Who belongs to a Raft group now, as its leader knows.
package struct GroupFact: Hashable, Sendable {
    /// The voters; while the membership is joint those of the new side.
    package var voters: [GroupMember]
    /// The voters of the old side while the membership is joint; else empty.
    package var outgoingVoters: [GroupMember]
    /// Members that only receive the log.
    package var learners: [GroupMember]
    /// Whether this membership is committed and the leader may change it: it has committed an entry of its own term.
    package var isCommitted: Bool

    /// States what is.
    package init(
        voters: [GroupMember],
        outgoingVoters: [GroupMember] = [],
        learners: [GroupMember] = [],
        isCommitted: Bool = true
    ) {
        self.voters = voters
        self.outgoingVoters = outgoingVoters
        self.learners = learners
        self.isCommitted = isCommitted
    }
}

/// What a group's leader does next to bring the fact to the wish.
package enum GroupStep: Hashable, Sendable {
    /// The fact is the wish.
    case nothing
    /// A change is under way; look again when it is committed.
    case awaitChange
    /// These learners are not caught up; look again when they are.
    case awaitLearners([GroupMember])
    /// Change the membership to this; the two lists are the whole of it, sorted.
    case change(voters: [GroupMember], learners: [GroupMember])
}

/// Tells the leader of a Raft group the next step from the membership that is to the one that is wished for.
///
/// New members are added as learners first, and become voters by a joint change when they are caught up; whoever is not wished for
/// leaves in that same change. It remembers nothing: a new leader goes on where the old one stopped, and a wish that changed, such as a
/// cancelled one, is just another wish.
///
/// - Source: Ongaro (2014), §4.2.1 (learners first) and §4.3 (joint); DESIGN §5.
package enum GroupGuide {
    /// The next step.
    ///
    /// - Parameters:
    ///   - fact: who belongs to the group.
    ///   - wish: who is to belong to it.
    ///   - isCaughtUp: whether a learner holds nearly all that is committed.
    /// - Returns: `.nothing` only when the fact is the wish.
    package static func step(
        from fact: GroupFact,
        to wish: GroupWish,
        isCaughtUp: (GroupMember) -> Bool
    ) -> GroupStep {
        guard fact.isCommitted, fact.outgoingVoters.isEmpty else { return .awaitChange }
        let newVoters = wish.voters.filter { !fact.voters.contains($0) }
        let learners = newVoters + wish.learners.filter { !fact.voters.contains($0) }
        // Who comes and who goes as a learner needs no joint change, and a stray learner costs bandwidth.
        guard same(learners, fact.learners) else {
            return .change(voters: fact.voters.sorted(), learners: learners.sorted())
        }
        let laggards = newVoters.filter { !isCaughtUp($0) }
        guard !laggards.isEmpty else {
            if same(fact.voters, wish.voters) { return .nothing }
            return .change(voters: wish.voters.sorted(), learners: wish.learners.sorted())
        }
        return replacement(of: newVoters, in: fact, isCaughtUp: isCaughtUp)
            ?? .awaitLearners(laggards.sorted())
    }

    /// A broker's new member takes the vote of its lost one as soon as it can, whatever else the wish waits for.
    private static func replacement(
        of newVoters: [GroupMember],
        in fact: GroupFact,
        isCaughtUp: (GroupMember) -> Bool
    ) -> GroupStep? {
        var voters = fact.voters
        var learners = fact.learners
        for member in newVoters where isCaughtUp(member) {
            guard let old = voters.firstIndex(where: { $0.broker == member.broker }) else {
                continue
            }
            voters[old] = member
            learners.removeAll { $0 == member }
        }
        guard voters != fact.voters else { return nil }
        return .change(voters: voters.sorted(), learners: learners.sorted())
    }

    private static func same(_ left: [GroupMember], _ right: [GroupMember]) -> Bool {
        left.sorted() == right.sorted()
    }
}
