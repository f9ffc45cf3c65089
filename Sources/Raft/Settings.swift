/// What the driver may choose for one member; every limit has its name here.
package struct Settings: Hashable, Sendable {
    /// The shortest time without a leader before a member campaigns, in ticks.
    ///
    /// Each member waits up to half of it longer, at random, and half of it more for each step of
    /// `electionRank`.
    package var electionTimeoutTicks = 10
    /// The time between two heartbeats, in ticks.
    package var heartbeatTicks = 1
    /// The member's place in the order of preferred leaders, 0 first; beyond 4 counts as 4.
    package var electionRank = 0
    /// The topic's `min.insync.replicas`: acknowledgements need this many voters, and a majority.
    package var minInSyncReplicas = 1

    /// The most bytes in one `AppendRequest`; a single larger entry still goes alone.
    package var appendByteLimit = 1 << 20
    /// The most entries in one `AppendRequest`.
    package var appendEntryLimit = 1024
    /// The most bytes on their way to one follower; a single larger entry still goes alone.
    package var windowByteLimit = 8 << 20
    /// The most `AppendRequest`s on their way to one follower.
    package var windowMessageLimit = 256
    /// How many ticks without progress make a follower's unanswered requests count as lost.
    package var retransmitTicks = 5
    /// The most bytes that may wait for their commit before proposals are refused.
    package var uncommittedByteLimit = 64 << 20
    /// How many of the newest entries' descriptors a leader keeps; older ones it asks the driver
    /// for.
    package var recentEntryLimit = 4096
    /// The most reads that may wait for their round of heartbeats.
    package var pendingReadLimit = 4096

    /// How many ticks a hand-over may take before the leader resumes.
    package var transferTimeoutTicks = 20
    /// How many committed entries a learner may lack and still become a voter.
    package var promotionLag: UInt64 = 256
    /// How many idle ticks make a group quiet; `nil` never.
    package var quietAfterTicks: Int?

    /// The defaults, for ticks of 100 ms.
    package init() {}
}
