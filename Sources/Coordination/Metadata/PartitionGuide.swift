package import FlotillaModel

/// What a partition's leader does next.
package enum PartitionStep: Hashable, Sendable {
    /// A step of the group, and never `.nothing`.
    case group(GroupStep)
    /// Tell the controller that the movement with this revision is finished.
    case reportFinished(revision: UInt64)
    /// All is as it should be.
    case nothing
}

/// Tells the leader of a partition the next step of its movement.
///
/// The image must be as new as any that an earlier leader of this group went by: a new leader hears of all that was committed when it
/// was elected before it asks (one read of the metadata group's commit index). Else it could give a vote back to a member that is being
/// deleted, by a wish that was cancelled meanwhile.
package enum PartitionGuide {
    /// The next step; the leader asks again when the image, the membership or a learner's progress changes.
    ///
    /// - Parameters:
    ///   - place: the partition in the image.
    ///   - fact: the group's membership.
    ///   - isCaughtUp: whether a learner holds nearly all that is committed.
    /// - Returns: `.nothing` only when the group is as wished and the controller knows it.
    package static func step(
        of place: PartitionImage,
        from fact: GroupFact,
        isCaughtUp: (GroupMember) -> Bool
    ) -> PartitionStep {
        let wish = GroupWish(voters: place.replicas)
        switch GroupGuide.step(from: fact, to: wish, isCaughtUp: isCaughtUp) {
        case .nothing:
            return place.isMoving ? .reportFinished(revision: place.revision) : .nothing
        case .awaitChange: return .group(.awaitChange)
        case .awaitLearners(let members): return .group(.awaitLearners(members))
        case .change(let voters, let learners):
            return .group(.change(voters: voters, learners: learners))
        }
    }
}
