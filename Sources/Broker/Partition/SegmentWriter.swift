import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaStorage

/// Brings one replica's committed entries into its segments, one write or sync at a time; see `Shard+Segments.swift`.
final class SegmentWriter {
    let replica: Replica
    /// Whether a write or a sync runs on a worker.
    var isBusy = false
    /// Whether the shard has the writer on its list.
    var isListed = false
    /// Since when committed entries wait for their segment.
    var waitingSince: Instant?
    /// The journal wants its file back: everything up to here has to be written and synced.
    var demandedIndex: LogIndex?

    /// Called when more of the segments is durable than before.
    var synced: () -> Void = {}

    init(replica: Replica) {
        self.replica = replica
    }

    /// Whether the shard has to look at this writer again.
    var hasWork: Bool {
        replica.log.pendingByteCount > 0 || demandedIndex != nil
    }
}
