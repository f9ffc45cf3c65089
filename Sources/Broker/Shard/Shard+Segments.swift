import FlotillaEnvironment
import FlotillaModel
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
    func meet(_ demand: JournalDemand) {
        for want in demand.items {
            guard let writer = segmentWriter(of: want.group) else {
                // The group is gone from this broker: nothing of it is owed.
                environment.release(want.group, upTo: want.upTo)
                continue
            }
            switch want.remedy {
            case .copyForward:
                writer.replica.copyForward()
            case .checkpoint:
                writer.demandedIndex = max(writer.demandedIndex ?? .zero, want.upTo)
                writer.replica.provideCheckpoint()
                write(writer, minimumByteCount: 1)
                list(writer)
            }
        }
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

    private func writeSegments() {
        let now = environment.clock.now
        let queue = segmentQueue
        segmentQueue.removeAll(keepingCapacity: true)
        for writer in queue {
            let isOld = writer.waitingSince.map { $0 + settings.segmentWriteDelay <= now } ?? false
            if isOld || writer.demandedIndex != nil { write(writer, minimumByteCount: 1) }
            writer.isListed = writer.hasWork
            if writer.isListed { segmentQueue.append(writer) }
        }
        if !segmentQueue.isEmpty { scheduleSegmentWrites() }
    }

    private func write(_ writer: SegmentWriter, minimumByteCount: Int) {
        guard !writer.isBusy else { return }
        guard let write = writer.replica.log.nextWrite(minimumByteCount: minimumByteCount) else {
            return sync(writer)
        }
        writer.isBusy = true
        environment.workers.run({ write.perform() }) { [unowned self] result in
            writer.isBusy = false
            do throws(StorageError) {
                try writer.replica.log.finish(result)
                writer.waitingSince = writer.replica.log.pendingByteCount > 0 ? self.environment.clock.now : nil
                self.write(writer, minimumByteCount: writer.demandedIndex == nil ? self.settings.segmentWriteByteCount : 1)
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
        guard !writer.isBusy, log.writtenIndex >= min(demanded, log.commitIndex), let sync = log.nextSync() else { return }
        writer.isBusy = true
        environment.workers.run({ sync.perform() }) { [unowned self] result in
            writer.isBusy = false
            do throws(StorageError) {
                try log.finish(result)
                self.environment.release(writer.replica.group, upTo: log.syncedIndex)
                self.sync(writer)
            } catch {
                self.report(error, "sync of \(writer.replica.group)")
            }
        }
    }

    private func report(_ error: StorageError, _ what: String) {
        if case .syncFailed = error { environment.fail(error) }
        environment.log(.retrying(what: what, description: error.description))
    }
}
