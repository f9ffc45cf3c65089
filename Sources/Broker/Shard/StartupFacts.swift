package import FlotillaCoordination
package import FlotillaModel
package import FlotillaRaft
package import FlotillaStorage

/// What the disk holds of the replicas of one shard when the broker starts.
package struct StartupFacts: Sendable {
    /// The replicas that have a directory or entries in the journal.
    package var replicas: [GroupID: RecoveredReplica]
    /// The replicas that the disk holds and that cannot be opened: they are left as they are, and nothing is made in
    /// their place.
    package var unreadable: Set<GroupID>
    /// Whether replicas may have been here of which the disk holds nothing any more.
    package var mayHaveForgotten: Bool
    /// The id that a new cluster gets, should there be none yet.
    package var newClusterID: String
    /// What the cluster is told of this broker.
    package var registration: BrokerRegistration

    /// Collects what start-up found.
    package init(
        replicas: [GroupID: RecoveredReplica],
        unreadable: Set<GroupID> = [],
        mayHaveForgotten: Bool = false,
        newClusterID: String,
        registration: BrokerRegistration
    ) {
        self.replicas = replicas
        self.unreadable = unreadable
        self.mayHaveForgotten = mayHaveForgotten
        self.newClusterID = newClusterID
        self.registration = registration
    }
}

/// One replica as recovery found it.
package struct RecoveredReplica: Sendable {
    /// The log, from segments and journal together.
    package var log: RecoveredLog
    /// The newest term and vote.
    package var hardState: HardState
    /// The last entry that the journal knows of; zero when it knows none.
    package var journalEnd: LogIndex
    /// Whether it may vote: nothing that it acknowledged can be missing.
    package var isElectable: Bool
    /// Whether it may have forgotten a vote or a term.
    ///
    /// No leader can give these back: matched by the leader of an older term it would help that one to commit, behind the
    /// back of the one that it voted for. Only another member can take its place.
    package var hasLostVote: Bool

    /// States what recovery found.
    ///
    /// - Parameters:
    ///   - log: the log, from segments and journal together.
    ///   - state: what the journal knows of the replica; nil when it knows nothing.
    ///   - journal: what the journal says of itself.
    package init(log: RecoveredLog, state: RecoveredGroup?, journal: JournalRecovery) {
        self.log = log
        hardState = state?.hardState ?? .initial
        // Where shipped files took the log's place just before a crash, the journal speaks of the old log.
        journalEnd = log.isJournalVoid ? .zero : state?.lastPosition?.index ?? .zero
        // A term is durable before the first entry that carries it.
        hasLostVote =
            state?.isHardStateLost ?? journal.areUnknownVotesLost || hardState.term < log.lastTerm
        let isSuspect = state?.isSuspect ?? journal.areUnknownGroupsSuspect
        isElectable = log.isEndKnown && !isSuspect && !hasLostVote
    }
}

/// The cluster's metadata after a change.
package struct MetadataUpdate: Sendable {
    package var image: MetadataImage
}
