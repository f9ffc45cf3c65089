import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaStorage

// Committed entries reach the state machine: on every replica, each once and in order.

extension Replica {
    /// Applies what is committed and not applied yet, as far as it can be read without blocking.
    func applyCommitted(afterLoad: Bool = false) {
        guard !isLoading, !isApplying, !isInstalling, !hasFailed, obstacle == nil else { return }
        isApplying = true
        let before = appliedIndex
        applyAvailable(afterLoad: afterLoad)
        isApplying = false
        guard !hasFailed else { return }
        provideWantedCheckpoint()
        if appliedIndex == committedIndex, raft.isReady, !isServing, obstacle == nil {
            beginServing()
        }
        // The host first: whoever is answered next must find what the entry changed.
        if appliedIndex > before { host.committed(self) }
        settle()
        while let read = requests.takeRead(upTo: appliedIndex) {
            read.completion(.success(read.index))
        }
    }

    private func applyAvailable(afterLoad: Bool) {
        var isAfterLoad = afterLoad
        while appliedIndex < committedIndex {
            do throws(StorageError) {
                let read = try log.entries(
                    from: appliedIndex.next,
                    maxByteCount: Self.applyByteCount,
                    maxCount: Self.applyCount,
                    afterLoad: isAfterLoad
                )
                switch read {
                case .ready(let entries): guard apply(entries) else { return }
                case .load(let load): return resume(after: load)
                }
                isAfterLoad = false
            } catch {
                return cannotApply(error)
            }
        }
    }

    /// How much of the log is applied at a time.
    private static let applyByteCount = 4 << 20
    private static let applyCount = 4_096

    /// Applies entries up to the commit index; false when it has to stop before.
    private func apply(_ entries: [LogEntry]) -> Bool {
        for entry in entries where entry.frame.index <= committedIndex {
            guard mayApply(entry.frame) else { return false }
            do throws(ReplicationError) {
                try apply(entry)
            } catch {
                fail(error)
                return false
            }
        }
        return true
    }

    /// A segment's first entry waits until what comes before it is durable here as well: its `.state` speaks of nothing
    /// else.
    private func mayApply(_ frame: Frame) -> Bool {
        !frame.flags.contains(.firstOfSegment) || frame.index <= log.commitIndex.next
    }

    private func apply(_ entry: LogEntry) throws(ReplicationError) {
        let frame = entry.frame
        precondition(frame.index == appliedIndex.next, "every entry is applied once and in order")
        if frame.flags.contains(.firstOfSegment) {
            log.provideState(before: frame.index, stateMachine: machine.snapshot())
        }
        if frame.kind == .startOffset {
            guard let offset = StartOffsetEntry.offset(in: entry.body) else {
                throw .unusableEntry(
                    index: frame.index,
                    description: "a start offset has eight bytes"
                )
            }
            log.advanceLogStart(to: offset)
        }
        try machine.apply(entry)
        appliedIndex = frame.index
        highWatermark = frame.endOffset
    }

    /// Brings entries into memory on a worker, and goes on applying.
    private func resume(after load: SegmentLoad) {
        isLoading = true
        host.workers.run({ load.perform() }) { [weak self] loaded in
            guard let self else { return }
            self.isLoading = false
            do throws(StorageError) {
                try self.log.finish(loaded)
                self.applyCommitted(afterLoad: true)
            } catch {
                self.cannotApply(error)
            }
        }
    }

    // MARK: Checkpoints

    /// Gives the log the state after the last applied entry, so that its next sync leaves a checkpoint to start from;
    /// where that entry is not durable here yet, as soon as it is.
    package func provideCheckpoint() {
        isCheckpointWanted = true
        provideWantedCheckpoint()
    }

    private func provideWantedCheckpoint() {
        guard isCheckpointWanted, appliedIndex <= log.commitIndex else { return }
        isCheckpointWanted = false
        log.provideState(before: appliedIndex.next, stateMachine: machine.snapshot())
    }

    // MARK: Damage

    /// A committed entry cannot be read here.
    ///
    /// Damage is no reason to leave the group: what the replica promised lies in its journal and in the rest of its log,
    /// so it goes on voting, taking entries and acknowledging them. Only leading needs the state machine, so leadership
    /// goes to a voter that has it; and applying waits until the place is healed: from what is left of it, or from a peer.
    private func cannotApply(_ error: StorageError) {
        guard case .damaged = error else { return fail(.storage(error)) }
        obstacle = error
        host.damaged(self, error)
        giveLeadershipAwayIfObstructed()
    }

    /// A leader that cannot apply serves nobody: another voter shall lead.
    ///
    /// Asked at every tick, since there may be none that could at the moment.
    func giveLeadershipAwayIfObstructed() {
        guard obstacle != nil, raft.isReady, requests.transfer == nil else { return }
        step(.transferLeadership(to: nil))
    }

    /// A damaged place was refilled: its terms are known, and if it was in the way applying goes on.
    package func repaired() {
        tellLogStart()
        guard obstacle != nil else { return }
        obstacle = nil
        applyCommitted()
    }
}
