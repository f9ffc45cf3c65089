import FlotillaBroker
import FlotillaEnvironment
import FlotillaModel
import FlotillaStorage
import Logging
import NIOCore
import NIOPosix

/// A data directory in this process's hands: locked, its journal open, its replicas recovered.
///
/// Whoever gives it up stops `journal` and `pool`; the lock goes with the last reference.
struct OpenData: Sendable {
    let identity: BrokerIdentity
    let disk: PosixDisk
    let eventLoops: [any EventLoop]
    let mailboxes: [ShardMailbox<ShardMessage>]
    let journal: JournalThread<JournalService>
    let pool: WorkerPool
    let replicas: [GroupID: RecoveredReplica]
    /// Replicas that could not be opened; they are left as they are.
    let unreadable: Set<GroupID>
    let mayHaveForgotten: Bool
    private let locks: [DataDirectoryLock]
    private let directory: String
    private let hasSyncFailed: Bool

    /// Opens and recovers.
    ///
    /// A broker of a cluster that lost its memory begins another life here, and waits for its cluster to do so.
    ///
    /// - Throws: when the directory is in use or cannot be read; nothing then runs on.
    init(
        _ settings: Settings,
        _ group: MultiThreadedEventLoopGroup,
        _ metrics: MetricsRegistry,
        _ progress: StartProgress,
        _ logger: Logger
    ) async throws {
        let disk = PosixDisk()
        let directory = settings.dataDirectory
        var locks = [try DataDirectoryLock(directory: directory)]
        if !settings.journalDirectory.hasPrefix(directory + "/") {
            // Another broker's journal may be set aside where it is stopped, never from under its feet.
            locks.append(try DataDirectoryLock(directory: settings.journalDirectory))
        }
        guard try RecoveryMark.read(in: directory, disk: disk) == nil else {
            throw StartError.recoveryInterrupted(directory: directory)
        }
        var random = SystemRandomNumberGenerator()
        var identity = try BrokerIdentity.establish(
            in: directory,
            wanted: settings.nodeID,
            disk: disk,
            random: &random
        )
        let loops = Array(group.makeIterator())
        let mailboxes = loops.map { ShardMailbox<ShardMessage>(eventLoop: $0) }
        let hasSyncFailed = try SyncFailureMark.isSet(in: directory, disk: disk)
        let opening = Opening(
            settings: settings,
            disk: disk,
            mailboxes: mailboxes,
            hasSyncFailed: hasSyncFailed,
            metrics: metrics,
            logger: logger
        )
        var contents = try await opening.perform(identity)
        if case .failure(let loss) = contents {
            let incarnation = NewIncarnation(
                settings: settings,
                identity: identity,
                disk: disk,
                group: group,
                progress: progress,
                logger: logger
            )
            identity = try await incarnation.begin(reason: loss.reason)
            contents = try await opening.perform(identity)
        }
        switch contents {
        case .success(let contents):
            journal = contents.journal
            replicas = contents.replicas
            unreadable = contents.unreadable
            mayHaveForgotten = contents.mayHaveForgotten
        case .failure(let loss): throw StartError.memoryLost(loss.reason)
        }
        self.identity = identity
        self.disk = disk
        self.directory = directory
        self.locks = locks
        self.hasSyncFailed = hasSyncFailed
        self.mailboxes = mailboxes
        eventLoops = loops
        pool = WorkerPool(
            threadCount: settings.workerCount
                ?? ProcessSetup.workerCount(coreCount: System.coreCount)
        )
    }

    /// The newest creation of a metadata replica that recovery found; nil for none.
    var metadataEpoch: CreationEpoch? {
        replicas.keys.filter { $0.partition == .clusterMetadata }.map(\.epoch).max()
    }

    /// What a failed sync may have left was verified, and is forgotten.
    func forgetSyncFailure() throws {
        if hasSyncFailed { try SyncFailureMark.clear(in: directory, disk: disk) }
    }
}
