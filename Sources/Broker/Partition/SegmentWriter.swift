import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaStorage

/// Brings one replica's committed entries into its segments, one write or sync at a time; see `Shard+Segments.swift`.
final class SegmentWriter {
    let replica: Replica
    /// Whether a write or a sync runs on a worker.
    var isBusy = false
    /// Whether nothing more is begun, so that a repair gets its turn.
    var isHeldBack = false
    /// The repairs, steps of a scrub and removals that run on workers; the log sees to it that they do not meet a write.
    private var tendingCount = 0
    /// Whether the shard has the writer on its list.
    var isListed = false
    /// Since when committed entries wait for their segment.
    var waitingSince: Instant?
    /// The journal wants its file back: everything up to here has to be written and synced.
    var demandedIndex: LogIndex?
    /// When what is not committed was last written to the journal once more.
    var forwardedAt: Instant?

    /// Called when more of the segments is durable than before.
    var synced: () -> Void = {}
    /// Whether nothing is written any more, because the replica is deleted.
    private(set) var isRetired = false
    private var afterLastJob: (() -> Void)?

    init(replica: Replica) {
        self.replica = replica
    }

    /// Whether the shard has to look at this writer again.
    var hasWork: Bool {
        !isRetired && (replica.log.pendingByteCount > 0 || demandedIndex != nil)
    }

    /// Writes nothing from now on; `action` runs when no job is under way that could make a file again.
    func retire(then action: @escaping () -> Void) {
        isRetired = true
        demandedIndex = nil
        synced = {}
        guard isBusy || isTended else { return action() }
        afterLastJob = action
    }

    /// Files took the log's place: what was asked of the old one is void.
    func logWasReplaced() {
        waitingSince = nil
        demandedIndex = nil
    }

    /// Whether a repair, a step of a scrub or a removal runs on a worker.
    var isTended: Bool { tendingCount > 0 }

    /// A repair, a step of a scrub or a removal begins.
    func tendingBegan() { tendingCount += 1 }

    /// One of them has ended.
    ///
    /// - Returns: whether the replica is still there.
    func tendingEnded() -> Bool {
        tendingCount -= 1
        return isOpenAfterJob()
    }

    /// A job has ended.
    ///
    /// - Returns: whether there is more to do.
    func jobEnded() -> Bool {
        isBusy = false
        return isOpenAfterJob()
    }

    private func isOpenAfterJob() -> Bool {
        guard isRetired else { return true }
        guard !isBusy, !isTended else { return false }
        afterLastJob?()
        afterLastJob = nil
        return false
    }
}
