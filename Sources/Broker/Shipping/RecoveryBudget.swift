import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication

/// How much a shard reads for replicas that catch up, files and old entries together.
///
/// Bytes per second, so that a catch-up leaves the disk to producers and consumers, and a bounded number of replicas at a
/// time, so that a broker that comes back with thousands of them is not sent all at once (research/architecture.md, bug 24).
struct RecoveryBudget {
    /// The most replicas that a shard brings up at a time.
    static let memberLimit = 8
    /// How long a replica that asks for nothing keeps its place.
    static let memberPatience = Duration.seconds(2)
    /// What may be read at once after a pause, in time at the full rate.
    static let burst = Duration.milliseconds(200)

    /// A replica elsewhere that catches up.
    struct Member: Hashable {
        /// The partition's group.
        var group: GroupID
        /// The replica.
        var member: GroupMember
    }

    private let byteRate: Int
    private let burstByteCount: Int
    private var available: Int
    private var lastTime: Instant?
    private var members: [Member: Instant] = [:]

    /// Begins with a full burst.
    ///
    /// `byteRate`: bytes per second. `leastBurst`: what one read may need.
    init(byteRate: Int, leastBurst: Int) {
        self.byteRate = max(1, byteRate)
        let burst = Int(Self.burst.wholeMilliseconds) * (self.byteRate / 1000)
        burstByteCount = max(burst, leastBurst)
        available = burstByteCount
    }

    /// How many replicas catch up.
    mutating func memberCount(now: Instant) -> Int {
        expire(now)
        return members.count
    }

    /// Takes bytes for a replica.
    ///
    /// - Returns: false while there are none, or others come first.
    mutating func take(_ byteCount: Int, for member: Member, now: Instant) -> Bool {
        guard admit(member, now: now) else { return false }
        refill(now)
        guard available > 0 else { return false }
        // More than there are may be taken, once: so a small rate never keeps a large entry for ever.
        available -= byteCount
        return true
    }

    /// Gives a replica a place, or keeps the one that it has.
    mutating func admit(_ member: Member, now: Instant) -> Bool {
        if members[member] == nil {
            expire(now)
            guard members.count < Self.memberLimit else { return false }
        }
        members[member] = now
        return true
    }

    /// A replica has caught up, or was given up.
    mutating func release(_ member: Member) {
        members[member] = nil
    }

    private mutating func expire(_ now: Instant) {
        members = members.filter { now - $0.value <= Self.memberPatience }
    }

    private mutating func refill(_ now: Instant) {
        defer { lastTime = now }
        guard let lastTime else { return }
        let elapsed = min(now - lastTime, Self.burst + .seconds(60)).wholeNanoseconds / 1000
        let (gained, overflow) = Int(elapsed).multipliedReportingOverflow(by: byteRate)
        available = overflow ? burstByteCount : min(burstByteCount, available + gained / 1_000_000)
    }
}
