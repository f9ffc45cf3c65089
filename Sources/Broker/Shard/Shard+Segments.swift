import FlotillaEnvironment
package import FlotillaModel
import FlotillaReplication
import FlotillaStorage

/// Committed entries go to segments in the background: at once when there are many, after a while when there are few,
/// and when the journal wants its oldest file back.
extension Shard {
    /// How often the writers with work are looked at.
    static let segmentInterval = Duration.milliseconds(100)

    /// A replica has more committed entries than before.
    func noteCommitted(_ writer: SegmentWriter) {
        if writer.waitingSince == nil { writer.waitingSince = environment.clock.now }
        if writer.replica.log.pendingByteCount >= settings.segmentWriteByteCount {
            write(writer, minimumByteCount: settings.segmentWriteByteCount)
        }
        list(writer)
    }

    /// The journal wants its oldest file back.
    ///
    /// Each file is demanded once, so nothing of a demand may be forgotten.
    func meet(_ demand: JournalDemand) {
        for item in demand.items where settings.shard(of: item.group.partition) == index {
            meet(item)
        }
    }

    /// Does what the journal wants of one replica.
    ///
    /// A replica that is not open keeps what it has in the journal: it may be the only place where that is.
    func meet(_ item: JournalDemand.Item) {
        guard let writer = segmentWriter(of: item.group) else {
            unmetDemands[item.group] = item
            return
        }
        let log = writer.replica.log
        // What segments have durably is not copied forward: after a start the journal does not know that they have it, and
        // asks once only.
        environment.release(item.group, upTo: log.syncedIndex)
        if log.syncedIndex >= item.upTo { return }
        if item.remedy == .copyForward, writer.replica.copyForward() { return }
        writer.demandedIndex = max(writer.demandedIndex ?? .zero, item.upTo)
        writer.replica.provideCheckpoint()
        write(writer, minimumByteCount: 1)
        list(writer)
    }

    /// Has everything committed so far written and made durable.
    func requestSync(_ writer: SegmentWriter) {
        writer.demandedIndex = max(writer.demandedIndex ?? .zero, writer.replica.log.commitIndex)
        write(writer, minimumByteCount: 1)
        list(writer)
    }

    /// What a replica's entries wait for on their way into segments, in words; nil for one that does not live here.
    package func segmentState(of group: GroupID) -> String? {
        guard let writer = segmentWriter(of: group) else { return nil }
        let log = writer.replica.log
        let wish = writer.demandedIndex.map { "\($0)" } ?? "nothing"
        return
            "\(group): committed \(log.commitIndex), written \(log.writtenIndex), durable \(log.syncedIndex), "
            + "ends at \(log.lastIndex), wanted up to \(wish)\(writer.isBusy ? ", busy" : "")"
            + "\(writer.isHeldBack ? ", held back" : "")\(writer.isTended ? ", tended" : "")"
            + "\(writer.isRetired ? ", retired" : "")\(writer.replica.hasFailed ? ", closed" : "")"
    }

    private func list(_ writer: SegmentWriter) {
        guard !writer.isListed else { return }
        writer.isListed = true
        segmentQueue.append(writer)
        if segmentQueue.count == 1 { scheduleSegmentWrites() }
    }

    private func scheduleSegmentWrites() {
        schedule(after: Self.segmentInterval) { [unowned self] in self.writeSegments() }
    }

    /// How many of the writers that wait are written in one look because they waited long; the others are first in the next.
    static func oldWriteLimit(of waitingCount: Int) -> Int { max(4, waitingCount / 8) }

    private func writeSegments() {
        let now = environment.clock.now
        let queue = segmentQueue
        segmentQueue.removeAll(keepingCapacity: true)
        var oldCount = 0
        for writer in queue {
            let isOld = writer.waitingSince.map { $0 + settings.segmentWriteDelay <= now } ?? false
            // Partitions that got their first records together would be written together ever after.
            let isItsTurn = isOld && oldCount < Self.oldWriteLimit(of: queue.count)
            if isItsTurn { oldCount += 1 }
            if isItsTurn || writer.demandedIndex != nil { write(writer, minimumByteCount: 1) }
            writer.isListed = writer.hasWork
            if writer.isListed { segmentQueue.append(writer) }
        }
        if !segmentQueue.isEmpty { scheduleSegmentWrites() }
    }

    private func write(_ writer: SegmentWriter, minimumByteCount: Int) {
        guard !writer.isBusy, !writer.isHeldBack, !writer.isRetired else { return }
        guard let write = writer.replica.log.nextWrite(minimumByteCount: minimumByteCount) else {
            return sync(writer)
        }
        writer.isBusy = true
        environment.workers.runInBackground({ write.perform() }) { [unowned self] result in
            guard writer.jobEnded() else { return }
            do throws(StorageError) {
                try writer.replica.log.finish(result)
                writer.waitingSince =
                    writer.replica.log.pendingByteCount > 0 ? self.environment.clock.now : nil
                self.write(
                    writer,
                    minimumByteCount: writer.demandedIndex == nil
                        ? self.settings.segmentWriteByteCount : 1
                )
            } catch {
                // Nothing is lost: the journal keeps what the segments lack, and the writer stays on the list.
                self.report(error, "segment of \(writer.replica.group)")
                self.list(writer)
            }
        }
    }

    /// Makes written entries durable once the journal wants to forget them.
    private func sync(_ writer: SegmentWriter) {
        let log = writer.replica.log
        guard let demanded = writer.demandedIndex else { return }
        guard log.syncedIndex < demanded else {
            writer.demandedIndex = nil
            return environment.release(writer.replica.group, upTo: log.syncedIndex)
        }
        if log.syncedIndex >= log.commitIndex { return forward(writer) }
        guard !writer.isBusy, !writer.isHeldBack,
            log.writtenIndex >= min(demanded, log.commitIndex),
            let sync = log.nextSync()
        else { return }
        writer.isBusy = true
        environment.workers.runInBackground({ sync.perform() }) { [unowned self] result in
            guard writer.jobEnded() else { return }
            do throws(StorageError) {
                try log.finish(result)
                self.environment.release(writer.replica.group, upTo: log.syncedIndex)
                writer.synced()
                self.sync(writer)
            } catch {
                self.report(error, "sync of \(writer.replica.group)")
            }
        }
    }

    /// Writes what segments may not take, because it is not committed, to the journal once more: a group without a quorum must
    /// not keep the journal's oldest file, or the broker soon takes nothing for any group.
    private func forward(_ writer: SegmentWriter) {
        let now = environment.clock.now
        if let last = writer.forwardedAt, now - last < Self.forwardInterval { return }
        guard writer.replica.copyForward(atMost: Self.forwardByteLimit) else { return }
        writer.forwardedAt = now
        writer.demandedIndex = nil
    }

    /// How often the uncommitted entries of one group are written once more at the most: together they may be more than the
    /// journal wants to keep.
    private static let forwardInterval = Duration.seconds(10)
    /// How much of one group: it is one round, for which all other groups wait.
    ///
    /// Beyond `ShardSettings.uncommittedHoldByteCount` by a batch.
    private static let forwardByteLimit = 48 << 20

    /// Tells of background work that failed; after a failed sync the process must not go on.
    func report(_ error: StorageError, _ what: String) {
        if case .syncFailed = error { environment.fail(error) }
        environment.log(.retrying(what: what, description: error.description))
    }
}
