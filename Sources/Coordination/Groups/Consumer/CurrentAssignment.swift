package import FlotillaModel

/// What a member of the consumer protocol has, and how it comes from there to what it is to have.
///
/// - Source: SEMANTICS rule CG-8.
package struct CurrentAssignment: Hashable, Sendable {
    /// How far a member is on its way to the target.
    package enum Phase: Int8, Sendable {
        /// It has all that its epoch gives it.
        case stable = 0
        /// It has to give something back first.
        case unrevoked = 1
        /// Something is still with another member.
        case unreleased = 2
    }

    /// Since when a static member is away for a while, in place of an epoch.
    package static let awayEpoch: Int32 = -2
    /// The epoch of a member that leaves, in its request.
    package static let leavingEpoch: Int32 = -1

    /// The group's epoch that the member has come to.
    package internal(set) var epoch: Int32 = 0
    /// The one before, which it may still name where our answer was lost.
    package internal(set) var previousEpoch: Int32 = 0
    /// How far it is.
    package internal(set) var phase = Phase.stable
    /// What it may read.
    package internal(set) var assigned: Set<TopicPartition> = []
    /// What it has to give back; nobody else gets that before.
    package internal(set) var revoking: Set<TopicPartition> = []

    /// Nothing, for a member that comes.
    package init() {}

    /// States an assignment.
    package init(
        epoch: Int32,
        previousEpoch: Int32,
        phase: Phase,
        assigned: Set<TopicPartition>,
        revoking: Set<TopicPartition>
    ) {
        self.epoch = epoch
        self.previousEpoch = previousEpoch
        self.phase = phase
        self.assigned = assigned
        self.revoking = revoking
    }

    /// Whether it has come to what it is to have.
    func isReconciled(to targetEpoch: Int32) -> Bool {
        phase == .stable && epoch == targetEpoch
    }

    /// The next step towards a target; the same where none can be done.
    ///
    /// `owned`: what the member says it reads; nil when it did not say.
    /// `isFree`: whether no other member has a partition.
    func next(
        target: Set<TopicPartition>,
        targetEpoch: Int32,
        owned: Set<TopicPartition>?,
        isFree: (TopicPartition) -> Bool
    ) -> CurrentAssignment {
        switch phase {
        case .stable where epoch == targetEpoch:
            return self
        case .unrevoked where owned.map({ !$0.isDisjoint(with: revoking) }) ?? true:
            return self
        case .stable, .unrevoked, .unreleased:
            break
        }
        let kept = assigned.intersection(target)
        let extra = assigned.subtracting(target)
        if !extra.isEmpty, owned.map({ !$0.isDisjoint(with: extra) }) ?? true {
            return CurrentAssignment(
                epoch: epoch,
                previousEpoch: epoch,
                phase: .unrevoked,
                assigned: kept,
                revoking: extra
            )
        }
        let missing = target.subtracting(kept)
        let free = missing.filter(isFree)
        var next = self
        if epoch != targetEpoch { next.previousEpoch = epoch }
        next.epoch = targetEpoch
        next.phase = free.count == missing.count ? .stable : .unreleased
        next.assigned = kept.union(free)
        next.revoking = []
        return next
    }
}
