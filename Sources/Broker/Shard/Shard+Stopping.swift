import FlotillaEnvironment
import FlotillaReplication
import FlotillaStorage

/// A clean stop: requests under way are finished, everything committed goes to segments, and each log leaves a checkpoint.
extension Shard {
    /// How often the shard looks whether what is under way has ended.
    private static let drainInterval = Duration.milliseconds(10)

    /// Waits until no request waits for its answer, but no longer than `delay`.
    package func drain(atMost delay: Duration, then completion: @escaping () -> Void) {
        isStopping = true
        for partition in allPartitions {
            partition.wakeWatchers()
            partition.coordinator?.stop()
        }
        wakeImageWaiters()
        lookWhetherDrained(until: environment.clock.now + delay, then: completion)
    }

    private func lookWhetherDrained(until deadline: Instant, then completion: @escaping () -> Void)
    {
        guard hasUnansweredRequests, environment.clock.now < deadline else { return completion() }
        schedule(after: Self.drainInterval) { [unowned self] in
            self.lookWhetherDrained(until: deadline, then: completion)
        }
    }

    /// Brings committed entries into segments and writes a checkpoint for each log, one log after the other.
    ///
    /// Called after `drain`: nothing is appended any more. A log that cannot be written keeps its entries in the journal.
    package func checkpoint(then completion: @escaping () -> Void) {
        var writers = allPartitions.map(\.writer)
        if let metadata { writers.append(metadata.writer) }
        checkpoint(writers[...], then: completion)
    }

    private func checkpoint(
        _ writers: ArraySlice<SegmentWriter>,
        then completion: @escaping () -> Void
    ) {
        guard let writer = writers.first else { return completion() }
        flush(writer) { [unowned self] in
            self.writeCheckpoint(of: writer) {
                self.checkpoint(writers.dropFirst(), then: completion)
            }
        }
    }

    private func flush(_ writer: SegmentWriter, then completion: @escaping () -> Void) {
        guard !writer.isBusy, !writer.isTended else {
            schedule(after: Self.drainInterval) { [unowned self] in
                self.flush(writer, then: completion)
            }
            return
        }
        guard let write = writer.replica.log.nextWrite(minimumByteCount: 1) else {
            return completion()
        }
        writer.isBusy = true
        environment.workers.run({ write.perform() }) { [unowned self] result in
            writer.isBusy = false
            do throws(StorageError) {
                try writer.replica.log.finish(result)
                self.flush(writer, then: completion)
            } catch {
                self.report(error, "segment of \(writer.replica.group)")
                completion()
            }
        }
    }

    private func writeCheckpoint(of writer: SegmentWriter, then completion: @escaping () -> Void) {
        let replica = writer.replica
        replica.provideCheckpoint()
        guard let sync = replica.log.nextSync() else { return completion() }
        environment.workers.run({ sync.perform() }) { [unowned self] result in
            do throws(StorageError) {
                try replica.log.finish(result)
                self.environment.release(replica.group, upTo: replica.log.syncedIndex)
            } catch {
                self.report(error, "checkpoint of \(replica.group)")
            }
            completion()
        }
    }
}
