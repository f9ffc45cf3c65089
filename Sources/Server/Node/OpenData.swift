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
    private let lock: DataDirectoryLock
    private let directory: String
    private let hasSyncFailed: Bool

    /// Opens and recovers.
    ///
    /// - Throws: when the directory is in use or cannot be read; nothing then runs on.
    init(
        _ settings: Settings,
        _ group: MultiThreadedEventLoopGroup,
        _ metrics: MetricsRegistry,
        _ logger: Logger
    ) async throws {
        disk = PosixDisk()
        directory = settings.dataDirectory
        lock = try DataDirectoryLock(directory: directory)
        var random = SystemRandomNumberGenerator()
        identity = try BrokerIdentity.establish(
            in: directory,
            wanted: settings.nodeID,
            disk: disk,
            random: &random
        )
        eventLoops = Array(group.makeIterator())
        mailboxes = eventLoops.map { ShardMailbox<ShardMessage>(eventLoop: $0) }
        hasSyncFailed = try SyncFailureMark.isSet(in: directory, disk: disk)
        let recovery: JournalRecovery
        (journal, recovery) = try await Self.openJournal(
            settings,
            disk,
            pastPageCache: hasSyncFailed,
            mailboxes,
            metrics,
            logger
        )
        Self.report(recovery, logger)
        do {
            (replicas, unreadable) = try await Self.recoverReplicas(
                ReplicaRecovery(
                    dataDirectory: directory,
                    disk: disk,
                    journal: recovery,
                    verification: hasSyncFailed ? .pastPageCache : .sinceCheckpoint
                ),
                isAlone: settings.peerAddress == nil,
                logger
            )
        } catch {
            journal.stop()
            throw error
        }
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

    private static func openJournal(
        _ settings: Settings,
        _ disk: any Disk,
        pastPageCache: Bool,
        _ mailboxes: [ShardMailbox<ShardMessage>],
        _ metrics: MetricsRegistry,
        _ logger: Logger
    ) async throws -> (JournalThread<JournalService>, JournalRecovery) {
        let configuration = JournalConfiguration(
            fileByteCount: settings.journalFileByteCount,
            liveByteLimit: settings.journalLiveByteCount
        )
        let instruments = JournalInstruments(metrics)
        let (outcome, continuation) = AsyncThrowingStream<JournalRecovery, any Error>.makeStream()
        let journal = JournalThread<JournalService>(
            makeRounds: {
                var random = SystemRandomNumberGenerator()
                let (journal, recovery) = try Journal.open(
                    JournalDirectories(
                        journal: settings.journalDirectory,
                        data: settings.dataDirectory
                    ),
                    disk: disk,
                    configuration: configuration,
                    newIdentity: { DirectoryID(high: random.next(), low: random.next()) },
                    pastPageCache: pastPageCache
                )
                continuation.yield(recovery)
                return JournalService(
                    journal: journal,
                    mailboxes: mailboxes,
                    instruments: instruments,
                    clock: SystemClock(),
                    logger: logger
                )
            },
            failed: { error in
                // Before the start is complete the error is the start's; afterwards nobody knows what the disk holds.
                guard case .terminated = continuation.yield(with: .failure(error)) else { return }
                SyncFailureMark.endProcess(error, in: settings.dataDirectory, logger: logger)
            }
        )
        for try await recovery in outcome {
            continuation.finish()
            return (journal, recovery)
        }
        // The stream ends early only where the start was given up.
        journal.stop()
        throw CancellationError()
    }

    private static func report(_ recovery: JournalRecovery, _ logger: Logger) {
        if let tail = recovery.tornTail {
            logger.warning(
                "journal's unfinished last round was cut",
                metadata: .of([.reason: "\(tail)"])
            )
        }
        for damage in recovery.damage {
            logger.error("journal is damaged", metadata: .of([.error: "\(damage)"]))
        }
    }

    private static func recoverReplicas(
        _ recovery: ReplicaRecovery,
        isAlone: Bool,
        _ logger: Logger
    ) async throws -> ([GroupID: RecoveredReplica], unreadable: Set<GroupID>) {
        let recovered = try await recovery.perform(threadCount: System.coreCount)
        for failure in recovered.failures {
            logger.error(
                "replica cannot be opened; it is left as it is",
                metadata: .of([.group: failure.group, .error: failure.error.description])
            )
        }
        for (group, replica) in recovered.replicas.sorted(by: { $0.key < $1.key })
        where !replica.isElectable {
            logger.error(
                "replica may lack what it acknowledged; it neither votes nor leads until a peer has matched it",
                metadata: .of([.group: group])
            )
        }
        let unreadable = recovered.failures.first { $0.group.partition == .clusterMetadata }
        if let unreadable {
            // Without it the directory would pass for an empty one, and found a cluster.
            throw StartError.metadataUnusable(unreadable.error.description, isAlone: isAlone)
        }
        return (recovered.replicas, Set(recovered.failures.map(\.group)))
    }
}
