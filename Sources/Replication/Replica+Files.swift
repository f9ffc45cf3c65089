package import FlotillaModel
package import FlotillaRaft
package import FlotillaStorage

// A member that entries no longer reach gets its leader's segments as files, which become its log.

/// Whether received files may become a replica's log.
package enum FilesReadiness: Hashable, Sendable {
    /// At once.
    case ready
    /// Something has to end first.
    case notYet
    /// They bring nothing that the replica lacks.
    case superfluous
}

/// What a replica remembers of files that become its log.
struct Installation {
    /// Whether the old log is being replaced: until then nothing is taken in.
    var isUnderWay = false
    /// The log that Raft is just told of.
    var arriving: PartitionLog?
    /// Up to here entries came as files, durable though Raft waits for the journal to know.
    var installedIndex = LogIndex.zero
}

extension Replica {
    // MARK: Orders and offers

    /// Offers a member the files that it was ordered to get; they follow.
    package func offerFiles(_ order: FileOrder, upTo position: LogPosition) {
        guard !hasFailed, raft.role == .leader, raft.term == order.term else { return }
        let offer = SnapshotOffer(term: order.term, sequence: order.sequence, position: position)
        transmit(.snapshotOffer(offer), [], to: order.target)
    }

    /// An order for files has ended.
    ///
    /// `position`: up to where the member has installed them; nil when it has not.
    package func filesSent(to target: GroupMember, upTo position: LogPosition?) {
        step(.snapshotSent(to: target, position))
    }

    /// Files that were offered will not be complete.
    package func filesAbandoned() {
        step(.snapshotAbandoned)
    }

    func performOnFiles(_ effect: Effect) {
        switch effect {
        case .sendSnapshot(let target, let term, let sequence, let neededIndex):
            let order = FileOrder(
                target: target,
                term: term,
                sequence: sequence,
                neededIndex: neededIndex
            )
            if !host.needsFiles(order, of: self) { step(.snapshotSent(to: target, nil)) }
        case .receiveSnapshot(let position, let leader):
            if !host.filesOffered(upTo: position, by: leader, to: self) { step(.snapshotAbandoned) }
        case .installSnapshot(let position, _, let ticket): swapLog(at: position, ticket)
        default:
            preconditionFailure("only effects on files come here")
        }
    }

    // MARK: Installing

    /// Whether the log's place is being taken by received files.
    ///
    /// The replica then takes no part in its group, and nobody
    /// may begin anything on its log.
    package var isInstalling: Bool { installation.isUnderWay }

    /// Whether verified files up to `position` may take the log's place.
    ///
    /// All that the journal was given must be durable: after a crash it has to know a term that the files may carry, and
    /// behind the reset nothing of the old log may follow.
    package func readiness(forFilesUpTo position: LogPosition) -> FilesReadiness {
        guard !hasFailed, raft.role != .leader, position.index > raft.commitIndex,
            !raft.log.contains(position)
        else { return .superfluous }
        let isAtRest = raft.role == .follower && position.term <= raft.term && isJournalSettled
        return isAtRest && !isLoading && !isInstalling && !log.isBusy ? .ready : .notYet
    }

    /// Stops taking part, so that the files can take the log's place.
    ///
    /// What peers say meanwhile is lost to them, as on a bad connection; other inputs wait. Whatever happens to the
    /// process, its next start finds the old log or the new one.
    package func beginInstallation(upTo position: LogPosition) {
        precondition(readiness(forFilesUpTo: position) == .ready, "only a log at rest is replaced")
        installation.isUnderWay = true
        log.retire()
    }

    /// The files are the log now: the journal is told, Raft and the state machine go on from their end.
    ///
    /// - Parameters:
    ///   - log: opened from the files; it ends with them.
    ///   - position: its last entry.
    ///   - membership: the group's members as of that entry.
    package func install(
        _ log: PartitionLog,
        at position: LogPosition,
        with membership: Membership
    ) {
        precondition(isInstalling, "an installation is begun first")
        installation.isUnderWay = false
        guard !hasFailed else { return }
        guard log.lastPosition == position else {
            // Verified a moment ago, and changed since: the disk does not keep what it is given.
            return fail(
                .storage(
                    .damaged(
                        Damage(
                            indexes: log.lastIndex.next...max(position.index, log.lastIndex.next),
                            offsets: nil,
                            file: log.directory,
                            position: 0,
                            reason: .missing
                        )
                    )
                )
            )
        }
        installation.arriving = log
        // Files that end before any change of the members do not name them: the group was created with them.
        let members = membership == .empty ? raft.log.memberships[0].membership : membership
        stepFirst(.snapshotReceived(position, members))
        guard !hasFailed else { return }
        precondition(installation.arriving == nil, "Raft takes files that the log was given up for")
        host.committed(self)
    }

    /// The files cannot take the log's place now: the replica stops, and the next start goes on with them.
    package func installationFailed(_ error: StorageError) {
        precondition(isInstalling, "an installation is begun first")
        fail(.storage(error))
    }

    /// Goes on with the log that Raft has just begun anew.
    private func swapLog(at position: LogPosition, _ ticket: Ticket) {
        guard let arriving = installation.arriving else {
            preconditionFailure("files take a log's place only after this replica reported them")
        }
        installation.arriving = nil
        installation.installedIndex = position.index
        log = arriving
        areTermsTold = true
        addToJournal(.reset(log.lastPosition, checksum: log.lastFrameChecksum), ticket)
        obstacle = nil
        isCheckpointWanted = false
        appliedIndex = log.recoveredState.mark.index
        highWatermark = log.recoveredState.mark.endOffset
        do throws(ReplicationError) {
            try machine.restore(log.recoveredState.stateMachine)
        } catch {
            fail(error)
        }
    }
}
