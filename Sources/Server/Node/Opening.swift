import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaStorage
import Logging
import NIOCore

/// Opens the journal of a data directory that is locked already, and recovers the replicas.
struct Opening: Sendable {
    let settings: Settings
    let disk: PosixDisk
    let mailboxes: [ShardMailbox<ShardMessage>]
    let hasSyncFailed: Bool
    let metrics: MetricsRegistry
    let logger: Logger

    /// What was opened; whoever gives it up stops the journal.
    struct Contents {
        var journal: JournalThread<JournalService>
        var replicas: [GroupID: RecoveredReplica]
        var unreadable: Set<GroupID>
        /// Whether the journal may have known replicas of which nothing else is left.
        var mayHaveForgotten: Bool
    }

    /// The directory does not know any more what the broker promised; nothing is open then.
    struct Loss: Error {
        var reason: String
    }

    /// Opens what there is.
    ///
    /// - Throws: what another life of the broker would not mend.
    func perform(_ identity: BrokerIdentity) async throws -> Result<Contents, Loss> {
        let journal: JournalThread<JournalService>
        let recovery: JournalRecovery
        do {
            (journal, recovery) = try await openJournal()
        } catch let error as StorageError where error.isJournalLost {
            return .failure(Loss(reason: "\(error)"))
        }
        report(recovery)
        do {
            let (replicas, unreadable) = try await recoverReplicas(
                ReplicaRecovery(
                    dataDirectory: settings.dataDirectory,
                    disk: disk,
                    journal: recovery,
                    verification: hasSyncFailed ? .pastPageCache : .sinceCheckpoint
                )
            )
            let member = try metadataGroup(of: identity)
            if let member, replicas[member]?.hasLostVote == true {
                journal.stop()
                return .failure(
                    Loss(reason: "the journal lost this broker's vote about the metadata")
                )
            }
            let contents = Contents(
                journal: journal,
                replicas: replicas,
                unreadable: unreadable,
                mayHaveForgotten: recovery.areUnknownGroupsSuspect
            )
            return .success(contents)
        } catch {
            journal.stop()
            throw error
        }
    }

    /// This broker's replica of the metadata in a cluster that others belong to; nil where another life could not be begun.
    private func metadataGroup(of identity: BrokerIdentity) throws -> GroupID? {
        guard settings.peerAddress != nil, !settings.joinList.isEmpty else { return nil }
        let state = try identity.clusterState(in: settings.dataDirectory, disk)
        guard case .member(let membership) = state else { return nil }
        return GroupID(partition: .clusterMetadata, epoch: membership.epoch)
    }

    /// The journal was not opened, and whoever waits for it knows why.
    private struct Refused: Error {}

    private func openJournal() async throws -> (JournalThread<JournalService>, JournalRecovery) {
        let instruments = JournalInstruments(
            metrics,
            liveByteLimit: settings.journalLiveByteCount
        )
        let directory = settings.dataDirectory
        let (outcome, continuation) = AsyncThrowingStream<JournalRecovery, any Error>.makeStream()
        let journal = JournalThread<JournalService>(
            makeRounds: {
                do {
                    let (rounds, recovery) = try open(instruments)
                    continuation.yield(recovery)
                    return rounds
                } catch let error as StorageError where error.isDiskFailure {
                    throw error
                } catch {
                    continuation.finish(throwing: error)
                    throw Refused()
                }
            },
            failed: { [logger] error in
                // What keeps the journal from being opened is the start's to tell; else nobody knows what the disk holds.
                guard !(error is Refused) else { return }
                SyncFailureMark.endProcess(error, in: directory, logger: logger)
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

    private func open(
        _ instruments: JournalInstruments
    ) throws -> (JournalService, JournalRecovery) {
        var random = SystemRandomNumberGenerator()
        let (journal, recovery) = try Journal.open(
            JournalDirectories(journal: settings.journalDirectory, data: settings.dataDirectory),
            disk: disk,
            configuration: JournalConfiguration(
                fileByteCount: settings.journalFileByteCount,
                liveByteLimit: settings.journalLiveByteCount
            ),
            newIdentity: { DirectoryID(high: random.next(), low: random.next()) },
            pastPageCache: hasSyncFailed
        )
        let service = JournalService(
            journal: journal,
            mailboxes: mailboxes,
            instruments: instruments,
            clock: SystemClock(),
            logger: logger
        )
        return (service, recovery)
    }

    private func report(_ recovery: JournalRecovery) {
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

    private func recoverReplicas(
        _ recovery: ReplicaRecovery
    ) async throws -> ([GroupID: RecoveredReplica], unreadable: Set<GroupID>) {
        let recovered = try await recovery.perform(threadCount: System.coreCount)
        for failure in recovered.failures {
            logger.error(
                "replica cannot be opened; it is left as it is",
                metadata: .of([.group: failure.group, .error: failure.error.description])
            )
        }
        // What a sound journal does not know is what an earlier life of the broker left: only its files are there.
        let known = Set(recovery.journal.groups.map(\.group))
        let doubtsAll = recovery.journal.areUnknownGroupsSuspect
        for (group, replica) in recovered.replicas.sorted(by: { $0.key < $1.key })
        where !replica.isElectable && (doubtsAll || known.contains(group)) {
            logger.error(
                replica.hasLostVote
                    ? "replica lost its vote; it neither votes nor leads any more"
                    : "replica may lack what it acknowledged; it neither votes nor leads until a peer has matched it",
                metadata: .of([.group: group])
            )
        }
        let unreadable = recovered.failures.first {
            $0.group.partition == .clusterMetadata && (doubtsAll || known.contains($0.group))
        }
        if let unreadable {
            // Without it the directory would pass for an empty one, and found a cluster.
            throw StartError.metadataUnusable(
                unreadable.error.description,
                isAlone: settings.peerAddress == nil
            )
        }
        return (recovered.replicas, Set(recovered.failures.map(\.group)))
    }
}
