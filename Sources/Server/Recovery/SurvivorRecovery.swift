import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
package import FlotillaModel
import FlotillaStorage
import NIOCore

/// Makes the broker of a data directory the only one of its cluster, offline: `flotilla cluster recover --unsafe`.
///
/// `UnsafeRecovery` decides what becomes of each log; this is the driver around it: identity, journal, files, the audit log. It may be
/// cut short at every step: a mark stops the broker's start until the same command has come to its end.
package struct SurvivorRecovery {
    /// What was found, and done unless only that was asked for.
    package struct Report: Sendable {
        /// The broker that goes on.
        package var broker: BrokerID
        /// The cluster that was.
        package var from: String
        /// The cluster that is; the same id for a trial will not be used again.
        package var to: String
        /// The partitions that go on, the metadata first.
        package var kept: [Kept]
        /// Partitions that this broker has nothing of, by name.
        package var lost: [String]
        /// The brokers that are given up.
        package var lostBrokers: [BrokerID]
        /// Whether the journal was gone, so that only segments are left.
        package var isJournalLost: Bool
    }

    /// One partition as it goes on.
    package struct Kept: Hashable, Sendable {
        /// The replica.
        package var group: GroupID
        /// The partition's name.
        package var name: String
        /// Up to where it has records.
        package var logEndOffset: Offset
        /// The term of its last entry.
        package var term: Term
        /// Its last entry.
        package var lastIndex: LogIndex
        /// What speaks against its being complete; empty where only time does.
        package var doubts: [String]

        init(_ kept: UnsafeRecovery.Kept) {
            group = kept.group
            name = kept.name
            logEndOffset = kept.logEndOffset
            term = kept.term
            lastIndex = kept.lastIndex
            doubts = kept.doubts
        }
    }

    private let settings: Settings
    private let disk = PosixDisk()

    /// Describes a stopped broker by its settings.
    package init(_ settings: Settings) {
        self.settings = settings
    }

    /// Recovers.
    ///
    /// - Parameters:
    ///   - clusterID: as a person typed it; it must be the directory's.
    ///   - isTrial: only tells what would become. What every start does to the files is done, such as to cut an unfinished round.
    ///   - now: for the entries, and as text for the audit log.
    /// - Returns: what became, or would.
    /// - Throws: `RecoveryError`, `UnsafeRecovery.Obstacle`, `DataDirectoryError`, or what the disk or the journal says.
    package func perform(
        clusterID: String,
        isTrial: Bool,
        now: (time: Timestamp, text: String)
    ) async throws -> Report {
        let directory = settings.dataDirectory
        guard try disk.exists("\(directory)/broker.json") else {
            throw RecoveryError.noBroker(directory: directory)
        }
        let lock = try DataDirectoryLock(directory: directory)
        defer { withExtendedLifetime(lock) {} }
        var random = SystemRandomNumberGenerator()
        let identity = try BrokerIdentity.establish(
            in: directory,
            wanted: settings.nodeID,
            disk: disk,
            random: &random
        )
        let membership = try membership(identity)
        let former = try RecoveryMark.read(in: directory, disk: disk)
        guard [membership.clusterID, former?.from].contains(clusterID) else {
            throw RecoveryError.otherCluster(found: membership.clusterID, typed: clusterID)
        }
        let isJournalLost = try former?.isJournalLost ?? self.isJournalLost()
        let mark =
            former
            ?? RecoveryMark(
                from: clusterID,
                to: TopicID(high: random.next(), low: random.next()).description,
                isJournalLost: isJournalLost
            )
        if !isTrial {
            try mark.write(in: directory, disk: disk)
            try audit("begins", identity, mark, now.text)
            if try self.isJournalLost() { try beginJournal(&random) }
        }
        let (journal, found) = try openJournal(isTrial && isJournalLost, &random)
        var recovery = found
        // Nothing is known of what a journal held that is gone: what segments cannot prove is cut.
        if isJournalLost { recovery.areUnknownGroupsSuspect = true }
        let plan = try await plan(identity, membership, mark, recovery, now.time, &random)
        let report = Report(
            broker: BrokerID(identity.broker),
            from: mark.from,
            to: mark.to,
            kept: plan.kept.map { Kept($0) },
            lost: plan.lost,
            lostBrokers: plan.lostBrokers,
            isJournalLost: isJournalLost
        )
        guard !isTrial else {
            try journal?.close()
            return report
        }
        if isJournalLost { try syncSegments(of: plan.kept.map(\.group)) }
        try write(plan.submissions, to: journal)
        try establish(identity, membership, mark)
        try audit("is complete", identity, mark, now.text)
        try RecoveryMark.clear(in: directory, disk: disk)
        return report
    }

    // MARK: Identity

    private func membership(_ identity: BrokerIdentity) throws -> ClusterMembership {
        let state = try identity.clusterState(in: settings.dataDirectory, disk)
        guard case .member(let membership) = state else {
            throw RecoveryError.noCluster(directory: settings.dataDirectory)
        }
        return membership
    }

    /// Writes down the new cluster, founded by this broker alone: who belongs to the old one is refused by its id.
    private func establish(
        _ identity: BrokerIdentity,
        _ membership: ClusterMembership,
        _ mark: RecoveryMark
    ) throws {
        let broker = BrokerID(identity.broker)
        let incarnation = identity.parsedIncarnation ?? BrokerIncarnation(high: 0, low: 0)
        let founder = membership.founders.members.first { $0.broker == broker }
        let founders = FoundingList(
            [
                FoundingMember(
                    broker: broker,
                    incarnation: incarnation,
                    address: founder?.address
                )
            ],
            epoch: membership.epoch
        )
        let state = FormationState.member(
            ClusterMembership(clusterID: mark.to, epoch: membership.epoch, founders: founders)
        )
        try ClusterIdentity(broker: broker, incarnation: incarnation, state: state)?
            .write(in: settings.dataDirectory, disk: disk)
    }

    /// Adds a line to `audit.log`, durably.
    private func audit(
        _ what: String,
        _ identity: BrokerIdentity,
        _ mark: RecoveryMark,
        _ time: String
    ) throws {
        let path = "\(settings.dataDirectory)/audit.log"
        let file = try disk.open(path, .create)
        let line =
            "\(time) recover --unsafe \(what): broker \(identity.broker) goes on alone; cluster \(mark.from) is now \(mark.to)"
            + (mark.isJournalLost ? "; the journal was lost" : "") + "\n"
        try file.write([ByteBuffer(string: line)], at: file.byteCount())
        try file.sync()
        try disk.syncDirectory(settings.dataDirectory)
    }

    // MARK: The journal

    private var directories: JournalDirectories {
        JournalDirectories(journal: settings.journalDirectory, data: settings.dataDirectory)
    }

    private func isJournalLost() throws -> Bool {
        do {
            try Journal.checkIdentity(directories, disk: disk)
            return false
        } catch  where error.isJournalLost {
            return true
        }
    }

    private func beginJournal(_ random: inout SystemRandomNumberGenerator) throws {
        try Journal.beginIncarnation(
            directories,
            disk: disk,
            newIdentity: { DirectoryID(high: random.next(), low: random.next()) }
        )
    }

    private func openJournal(
        _ isAbsent: Bool,
        _ random: inout SystemRandomNumberGenerator
    ) throws -> (Journal?, JournalRecovery) {
        guard !isAbsent else { return (nil, JournalRecovery()) }
        let (journal, recovery) = try Journal.open(
            directories,
            disk: disk,
            configuration: JournalConfiguration(
                fileByteCount: settings.journalFileByteCount,
                liveByteLimit: settings.journalLiveByteCount
            ),
            newIdentity: { DirectoryID(high: random.next(), low: random.next()) },
            pastPageCache: try SyncFailureMark.isSet(in: settings.dataDirectory, disk: disk)
        )
        return (journal, recovery)
    }

    private func write(_ submissions: [JournalSubmission], to journal: Journal?) throws {
        guard let journal else { preconditionFailure("only a trial goes without a journal") }
        let result = try journal.perform(submissions)
        guard result.remainder == 0 else {
            throw RecoveryError.incomplete(result.obstacle?.description ?? "")
        }
        try journal.close()
    }

    /// The next start takes everything before the journal for durable: without the old journal nobody has seen to that.
    private func syncSegments(of groups: [GroupID]) throws {
        for group in groups {
            let directory = "\(settings.dataDirectory)/partitions/\(group)"
            guard try disk.exists(directory) else { continue }
            for name in try disk.list(directory) {
                try disk.open("\(directory)/\(name)", .readWrite).sync()
            }
            try disk.syncDirectory(directory)
        }
    }

    // MARK: Logs

    private func plan(
        _ identity: BrokerIdentity,
        _ membership: ClusterMembership,
        _ mark: RecoveryMark,
        _ recovery: JournalRecovery,
        _ now: Timestamp,
        _ random: inout SystemRandomNumberGenerator
    ) async throws -> UnsafeRecovery.Plan {
        let broker = BrokerID(identity.broker)
        let (replicas, failures) = try await ReplicaRecovery(
            dataDirectory: settings.dataDirectory,
            disk: disk,
            journal: recovery,
            verification: .sinceCheckpoint
        ).perform(threadCount: System.coreCount)
        return try UnsafeRecovery(
            broker: broker,
            replicas: replicas,
            unreadable: Set(failures.map(\.group)),
            dataDirectory: settings.dataDirectory,
            disk: disk,
            now: now
        ).plan(
            metadata: GroupMember(broker: broker, epoch: membership.epoch),
            as: mark.to,
            random: &random
        )
    }
}
