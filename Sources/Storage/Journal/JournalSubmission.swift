package import FlotillaModel
package import FlotillaRaft
package import FlotillaRecords

/// What a shard wants made durable for one group; it lies in one round, whole or not at all.
package struct JournalSubmission: Sendable {
    /// The shard that asks; the journal only gives it back.
    package var shard: Int
    /// The group whose records these are.
    package var group: GroupID
    /// The shard's name for this submission; the journal only gives it back.
    package var ticket: UInt64
    /// What to remember, in order.
    package var records: [JournalRecord]

    /// Asks for durability.
    package init(shard: Int, group: GroupID, ticket: UInt64, records: [JournalRecord]) {
        self.shard = shard
        self.group = group
        self.ticket = ticket
        self.records = records
    }
}

/// One fact about a group that must outlive a crash.
package enum JournalRecord: Sendable {
    /// Entries without a gap; at or below the group's last index they replace the suffix from their
    /// first index on.
    case entries([LogEntry])
    /// A newer term or a vote; written twice.
    case hardState(HardState)
    /// Entries up to here are committed; a hint that spares work at the next start.
    case commit(LogIndex)
    /// The membership as of a committed entry. Later ones lie in the entries that wait.
    case membership(IndexedMembership)
    /// A shipped prefix took the place of the whole log: it now ends here, and earlier entries are
    /// void.
    case reset(LogPosition, checksum: UInt32)
    /// A leader has matched a suspect group up to this end of its log: it may vote again.
    case trusted(LogPosition, checksum: UInt32)
    /// The replica is gone; its id is never used again.
    case remove
}

/// A submission that is durable.
package struct JournalCompletion: Hashable, Sendable {
    /// As submitted.
    package var shard: Int
    /// As submitted.
    package var group: GroupID
    /// As submitted.
    package var ticket: UInt64

    /// Completes a submission.
    init(_ submission: JournalSubmission) {
        shard = submission.shard
        group = submission.group
        ticket = submission.ticket
    }
}

/// What `Journal.perform(_:)` achieved.
package struct JournalRoundResult: Sendable {
    /// The submissions that are durable: a prefix of those given, in their order.
    package var completions: [JournalCompletion] = []
    /// How many submissions at the end were not written; make them again when room came back.
    package var remainder = 0
    /// Why there is a remainder: `.volumeFull` or a `.disk` error before anything was written.
    package var obstacle: StorageError?
    /// Rounds written, each one write and one sync.
    package var roundCount = 0
    /// Bytes written, padding included.
    package var byteCount = 0
}

/// What the journal asks of the shards so that its oldest file can be recycled.
package struct JournalDemand: Sendable {
    /// How a group gets out of the file.
    package enum Remedy: Hashable, Sendable {
        /// Write the entries to the segments, sync those, then `Journal.release(_:upTo:)`.
        case checkpoint
        /// Submit the group's whole suffix (all that is not in synced segments) again, as one
        /// submission.
        case copyForward
    }

    /// What one group is asked for.
    package struct Item: Sendable {
        /// The group.
        package var group: GroupID
        /// The last of its entries in the file; it may be uncommitted still, then the demand waits
        /// for it.
        package var upTo: LogIndex
        /// How.
        package var remedy: Remedy
    }

    /// Sorted by group.
    package var items: [Item]
}
