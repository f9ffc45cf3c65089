import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaStorage

/// A replica with damage, and how far its healing is.
final class Patient {
    /// Where the healing of the replica stands.
    enum Stage {
        /// It waits for its turn.
        case waiting
        /// It is being healed.
        case treated
        /// Nobody could help it; asked again at this time.
        case resting(until: Instant)
    }

    let replica: Replica
    let writer: SegmentWriter
    /// The log that has the damage.
    let log: PartitionLog
    var stage = Stage.waiting
    /// How many ranges were healed in this treatment.
    var healedCount = 0
    /// What could not be healed in this treatment.
    private(set) var tried: [Damage] = []
    /// Whether somebody who may have what is missing did not answer, or was not there, in this treatment.
    var hasSilentPeer = false
    /// Whether something was found in this treatment that nobody who answered has.
    var lacksSomething = false
    /// Whether entries are lost that cannot be put back: no segment has a place for them, or they do not fit in.
    var hasLostItsPlace = false
    /// Whether a peer has the same damage.
    var hasDamagedPeer = false
    /// How many treatments in a row ended with nothing left to try.
    var hopelessCount = 0
    /// Whether leadership was offered to another replica since the damage was found.
    var hasOfferedLeadership = false
    /// The damage that was left when the last treatment ended.
    private(set) var leftDamage: [Damage] = []
    /// Whether all replicas were asked, and none has what is missing.
    private(set) var isLost = false
    private var retryDelay = Patient.firstRetryDelay

    init(_ writer: SegmentWriter) {
        self.writer = writer
        replica = writer.replica
        log = writer.replica.log
    }

    var group: GroupID { replica.group }

    /// Whether only a new member can take the replica's place, as far as this treatment has come.
    var isBeyondHealing: Bool {
        replica.obstacle != nil || hasLostItsPlace || !log.areTermsKnown
    }

    /// What is damaged.
    ///
    /// Records that the log's head seems to lack may have been deleted: its own entries tell, when they are applied.
    var damage: [Damage] {
        let isReplayed =
            replica.isServing
            || replica.leader != nil
                && replica.appliedIndex == replica.committedIndex
        return log.damage.filter { isReplayed || $0.indexes != nil || $0.offsets == nil }
    }

    /// The next damage to deal with; nil when none is left that was not tried.
    ///
    /// States come last: a peer's is compared with the log, which is to be whole by then.
    var nextDamage: Damage? {
        let left = damage.filter { damage in !tried.contains { $0.covers(damage) } }
        return left.first { $0.reason != .state } ?? left.first
    }

    /// Gives up on damage for this time.
    func giveUp(on damage: [Damage]) { tried += damage }

    /// Whether there is damage that was not there when the last treatment ended.
    var hasNewDamage: Bool {
        damage.contains { damage in !leftDamage.contains { $0.covers(damage) } }
    }

    func beginTreatment() {
        stage = .treated
        tried = []
        healedCount = 0
        hasSilentPeer = false
        lacksSomething = false
        if !isBeyondHealing { hopelessCount = 0 }
        hasLostItsPlace = false
        hasDamagedPeer = false
    }

    /// Ends a treatment that left damage.
    ///
    /// - Returns: how long to wait for the next.
    func rest(now: Instant) -> Duration {
        let delay = retryDelay
        retryDelay = min(retryDelay * 2, Self.lastRetryDelay)
        leftDamage = damage
        isLost = lacksSomething && !hasSilentPeer
        stage = .resting(until: now + delay)
        return delay
    }

    /// Somebody who may have what is missing is there, or there is more to heal: it is not to wait long.
    func becomeDue() {
        retryDelay = Self.firstRetryDelay
    }

    /// The waits between two attempts to heal what nobody could help with: the first, and the longest.
    private static let firstRetryDelay = Duration.seconds(5)
    private static let lastRetryDelay = Duration.seconds(600)
}

extension Damage {
    /// Whether this says all that another damage says.
    fileprivate func covers(_ other: Damage) -> Bool {
        guard let found = other.indexes else {
            return indexes == nil && file == other.file && reason == other.reason
        }
        guard let indexes else { return false }
        return indexes.lowerBound <= found.lowerBound && found.upperBound <= indexes.upperBound
    }
}
