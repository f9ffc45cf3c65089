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
    /// The id that a new cluster gets, should there be none yet.
    package var newClusterID: String
    /// What the cluster is told of this broker.
    package var registration: BrokerRegistration

    /// Collects what start-up found.
    package init(
        replicas: [GroupID: RecoveredReplica],
        unreadable: Set<GroupID> = [],
        newClusterID: String,
        registration: BrokerRegistration
    ) {
        self.replicas = replicas
        self.unreadable = unreadable
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

    /// States what recovery found.
    package init(
        log: RecoveredLog,
        hardState: HardState,
        journalEnd: LogIndex,
        isElectable: Bool
    ) {
        self.log = log
        // Where shipped files took the log's place just before a crash, the journal speaks of the old log.
        self.journalEnd = log.isJournalVoid ? .zero : journalEnd
        self.hardState = hardState
        self.isElectable = isElectable
    }
}

/// The cluster's metadata after a change.
package struct MetadataUpdate: Sendable {
    package var image: MetadataImage
}
