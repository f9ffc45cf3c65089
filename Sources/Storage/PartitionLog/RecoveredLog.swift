package import FlotillaModel
package import FlotillaRaft
package import FlotillaRecords

/// What the journal still has of a replica's log when the broker starts.
package struct JournalSuffix: Sendable {
    /// The entries in order; the journal may hold some that segments have as well, and lack some
    /// after damage.
    package var entries: [LogEntry]
    /// Up to where the journal knows the log to be committed; a hint that may lag.
    package var commitIndex: LogIndex
    /// The newest committed membership that the journal was told of.
    package var membership: IndexedMembership?
    /// Where the journal knows the log to have ended, whether it still has that entry or not.
    package var lastIndex: LogIndex
    /// Whether damage may have taken entries before the first of these: they were then let go by nobody.
    package var mayLackEntries = false

    /// Describes what the journal has; empty for a replica whose entries were all let go.
    package init(
        entries: [LogEntry] = [],
        commitIndex: LogIndex = .zero,
        membership: IndexedMembership? = nil,
        lastIndex: LogIndex = .zero
    ) {
        self.entries = entries
        self.commitIndex = max(commitIndex, membership?.index ?? .zero)
        self.membership = membership
        self.lastIndex = max(lastIndex, entries.last?.frame.index ?? .zero)
    }
}

/// What recovery found of a replica's log: a value that travels from a worker to the log's shard.
package struct RecoveredLog: Sendable {
    /// A segment and how far it is filled.
    struct RecoveredSegment: Sendable {
        var name: SegmentName
        var extent: SegmentExtent
        var lastMark: LogMark
    }

    /// The replica.
    package let group: GroupID
    /// The replica's directory.
    package let directory: String
    /// The newest readable checkpoint.
    package internal(set) var state: LogState
    /// What is damaged or missing.
    package internal(set) var damage: [Damage] = []
    /// The entries behind what segments durably have.
    package internal(set) var entries: [LogEntry] = []
    /// Up to where the log is known to be committed.
    package internal(set) var commitIndex: LogIndex
    /// Whether the log's end is known: false when entries that were committed are missing behind
    /// the last readable one.
    ///
    /// A replica that does not know its end must neither vote nor lead until a leader has matched
    /// it.
    package internal(set) var isEndKnown = true
    /// Damaged entries among which a term begins, and nobody knows where.
    package internal(set) var uncertainTerms: [Range<LogIndex>] = []
    /// Whether the journal's entries belong to a log whose place a shipped one took; the journal
    /// then needs a reset, whatever it says of the log's end.
    package internal(set) var isJournalVoid = false

    var segments: [RecoveredSegment] = []
    var writtenMark: LogMark
    var syncedMark: LogMark
    var terms: TermTable
    var memberships: [IndexedMembership]
    /// What the journal remembers of the members, should damage have taken the entry.
    var journaledMembership: IndexedMembership?
    var checkpointNames: [SegmentName] = []
    /// Files that go when the log's start is known to lie behind them.
    var remains: [String] = []

    /// A log that has nothing yet.
    init(empty group: GroupID, directory: String, state: LogState = .initial) {
        self.group = group
        self.directory = directory
        self.state = state
        commitIndex = state.mark.index
        writtenMark = state.mark
        syncedMark = state.mark
        terms = state.terms
        memberships = [state.membership]
    }

    /// The term of the last entry; zero for a log without one.
    package var lastTerm: Term {
        endMark.term
    }

    /// What the next entry continues.
    package var endMark: LogMark {
        entries.last.map { LogMark($0.frame) } ?? writtenMark
    }

    /// Stands for the largest timestamp of a segment whose last row is damaged: no search passes
    /// the segment by.
    static let unknownTimestamp = Timestamp(.max)

    /// Notes damage, joined with what lies right before it.
    mutating func note(_ found: Damage) {
        if let merged = damage.last?.merged(with: found) {
            damage[damage.count - 1] = merged
        } else if damage.count < PartitionLog.maximumDamageCount {
            damage.append(found)
        }
    }
}
