import FlotillaModel

/// A role with what only that role holds.
enum RoleState: Hashable, Sendable {
    case follower(FollowerState)
    case preCandidate(Ballot)
    case candidate(Ballot)
    case leader(LeaderState)
}

/// What a follower knows of its leader.
struct FollowerState: Hashable, Sendable {
    /// The leader of this term, once it was heard.
    var leader: GroupMember?
    /// The log equals the leader's up to here; the commit index may follow up to here and no
    /// further.
    var verifiedIndex: LogIndex
    /// Ticks since the leader was last heard.
    var ticksSinceLeader = 0
    /// Files on their way from the leader.
    var offer: SnapshotOffer?
    /// The brokers' beat vouches for the leader.
    var isQuiet = false
}

/// A leader whose link broke a short while ago.
struct LostLeader: Hashable, Sendable {
    var member: GroupMember
    /// How many more ticks what it says passes for something said before.
    var ticks: Int
}

/// The votes that came in so far.
struct Ballot: Hashable, Sendable {
    var granted: [GroupMember] = []
    var refused: [GroupMember] = []

    /// Counts a member's first answer; a repeated one changes nothing.
    mutating func count(_ member: GroupMember, isGranted: Bool) {
        guard !granted.contains(member), !refused.contains(member) else {
            return
        }
        if isGranted {
            granted.append(member)
        } else {
            refused.append(member)
        }
    }
}

/// What a leader keeps while it leads.
struct LeaderState: Hashable, Sendable {
    /// A read that waits until leadership was proven by a round that began after it came.
    struct PendingRead: Hashable, Sendable {
        var requestID: UInt64
        var index: LogIndex
        var round: UInt64
    }

    /// A hand-over in progress.
    struct Transfer: Hashable, Sendable {
        var target: GroupMember
        var elapsedTicks = 0
        var hasToldTarget = false
    }

    /// The last entry of a proposal and the proposal's bytes, while it is not committed.
    struct Uncommitted: Hashable, Sendable {
        var lastIndex: LogIndex
        var byteCount: Int
    }

    /// The other members, sorted.
    var progress: [Progress]
    /// The entry that began the term.
    var termStartIndex: LogIndex
    /// Whether that entry is committed.
    var isReady = false
    /// Descriptors of the newest entries.
    var recent: RecentEntries
    /// Up to where producers that asked for all replicas have been answered.
    var acknowledgedIndex: LogIndex
    /// Proposals that wait for their commit, and their bytes.
    var uncommitted: [Uncommitted] = []
    var uncommittedByteCount = 0

    var ticksSinceHeartbeat = 0
    var ticksSinceQuorumCheck = 0
    /// The last round of heartbeats that was sent.
    var round: UInt64 = 0
    /// Reads, oldest first, and the round that is out for the first of them.
    var reads: [PendingRead] = []
    var readRoundInFlight: UInt64?

    var transfer: Transfer?
    /// Whether a membership change was asked for here and has not settled.
    var isChangingMembership = false

    var idleTicks = 0
    /// The brokers' beat stands in for heartbeats and quorum checks.
    var isQuiet = false

    /// Where `member` stands in `progress`.
    func slot(of member: GroupMember) -> Int? {
        progress.firstIndex { $0.member == member }
    }
}
