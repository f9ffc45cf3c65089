package import FlotillaModel

/// Who belongs to a group, and whose word counts.
///
/// While a change of voters is under way the membership is *joint*: `voters` are the new ones,
/// `outgoingVoters` the old ones, and every decision needs a quorum of each. Learners receive the
/// log and decide nothing. The three lists are sorted and hold no member twice; a voter that
/// becomes a learner is listed as one from the joint membership on, and still votes with the old.
///
/// - Source: Ongaro, "Consensus: Bridging Theory and Practice" (2014), §4.2.1 and §4.3.
package struct Membership: Hashable, Sendable {
    /// The members that vote; in a joint membership those of the new configuration.
    package private(set) var voters: [GroupMember]
    /// The voters of the old configuration while the membership is joint; otherwise empty.
    package private(set) var outgoingVoters: [GroupMember]
    /// The members that receive the log without voting.
    package private(set) var learners: [GroupMember]

    /// Builds a membership from lists in any order.
    ///
    /// - Parameters:
    ///   - voters: the members that vote, each once.
    ///   - outgoingVoters: the old voters of a joint membership; empty for a simple one.
    ///   - learners: members without a vote; none of them is in `voters`.
    package init(
        voters: [GroupMember],
        outgoingVoters: [GroupMember] = [],
        learners: [GroupMember] = []
    ) {
        self.voters = voters.sorted()
        self.outgoingVoters = outgoingVoters.sorted()
        self.learners = learners.sorted()
        precondition(isConsistent, "a member is listed once: as voter or as learner")
    }

    /// A group that nobody has been admitted to: what a new replica knows before its leader calls.
    package static let empty = Membership(voters: [])

    /// Whether a change of voters is under way.
    package var isJoint: Bool {
        !outgoingVoters.isEmpty
    }

    /// Every member once, sorted.
    package var allMembers: [GroupMember] {
        var members = voters
        for member in outgoingVoters where !members.contains(member) {
            members.append(member)
        }
        for member in learners where !members.contains(member) {
            members.append(member)
        }
        return members.sorted()
    }

    /// Whether `member` belongs to the group in any part.
    package func contains(_ member: GroupMember) -> Bool {
        isVoter(member) || learners.contains(member)
    }

    /// Whether `member` votes, in the new configuration or in the old one.
    package func isVoter(_ member: GroupMember) -> Bool {
        voters.contains(member) || outgoingVoters.contains(member)
    }

    /// Whether `member` is the only one whose vote is needed.
    package func isOnlyVoter(_ member: GroupMember) -> Bool {
        !isJoint && voters.count == 1 && voters[0] == member
    }

    /// The membership that ends a joint one: the new voters alone.
    package var settled: Membership {
        Membership(voters: voters, learners: learners)
    }

    /// Whether the members that satisfy `predicate` make a quorum; of both sides when joint.
    ///
    /// Nobody is a quorum of an empty group.
    package func hasQuorum(
        _ quorum: Quorum = .majority,
        where predicate: (GroupMember) -> Bool
    ) -> Bool {
        func isMet(by side: [GroupMember]) -> Bool {
            var count = 0
            for member in side where predicate(member) {
                count += 1
            }
            return count >= quorum.size(of: side.count)
        }
        return isMet(by: voters) && (!isJoint || isMet(by: outgoingVoters))
    }

    /// The highest index that a quorum has reached, of both sides when joint.
    ///
    /// - Parameters:
    ///   - quorum: how many voters must have reached it.
    ///   - reachedIndex: up to where one member has the log; 0 for nothing.
    /// - Returns: 0 when no quorum has anything, or when the quorum can never be met.
    package func highestIndex(
        reachedBy quorum: Quorum = .majority,
        _ reachedIndex: (GroupMember) -> LogIndex
    ) -> LogIndex {
        let current = Self.highestIndex(of: voters, quorum, reachedIndex)
        guard isJoint else {
            return current
        }
        return min(current, Self.highestIndex(of: outgoingVoters, quorum, reachedIndex))
    }

    /// Counts instead of sorting: groups are small, and this runs at every acknowledgement.
    private static func highestIndex(
        of side: [GroupMember],
        _ quorum: Quorum,
        _ reachedIndex: (GroupMember) -> LogIndex
    ) -> LogIndex {
        let needed = quorum.size(of: side.count)
        var best = LogIndex.zero
        for member in side {
            let candidate = reachedIndex(member)
            guard candidate > best else {
                continue
            }
            var count = 0
            for other in side where reachedIndex(other) >= candidate {
                count += 1
            }
            if count >= needed {
                best = candidate
            }
        }
        return best
    }

    private var isConsistent: Bool {
        func isStrictlySorted(_ members: [GroupMember]) -> Bool {
            zip(members, members.dropFirst()).allSatisfy { $0 < $1 }
        }
        return isStrictlySorted(voters) && isStrictlySorted(outgoingVoters)
            && isStrictlySorted(learners)
            && !learners.contains(where: voters.contains)
    }
}

extension Membership: CustomStringConvertible {
    /// `voters=1.1,2.1 outgoing=3.1 learners=4.1`; empty parts are left out.
    package var description: String {
        func list(_ members: [GroupMember]) -> String {
            members.map(\.description).joined(separator: ",")
        }
        var parts = ["voters=\(list(voters))"]
        if isJoint {
            parts.append("outgoing=\(list(outgoingVoters))")
        }
        if !learners.isEmpty {
            parts.append("learners=\(list(learners))")
        }
        return parts.joined(separator: " ")
    }
}
