import FlotillaClient
import FlotillaModel
import NIOCore
import Synchronization

/// The consumers of a run: groups of each topic, members of each, every one with connections of its own.
final class BenchReaders: Sendable {
    private struct Reader {
        let client: KafkaClient
        let consumer: GroupConsumer
    }

    private let workload: Workload
    private let readers: [Reader]
    // Guards where records are counted, which is known only when all members have their partitions.
    private let recorder = Mutex<RunRecorder?>(nil)

    init(_ workload: Workload, _ topics: [String], _ configuration: ClientConfiguration) throws {
        self.workload = workload
        var readers: [Reader] = []
        for topic in topics {
            for group in 0..<workload.groupCount {
                var settings = GroupConfiguration(group: "\(topic)-\(group)", topics: [topic])
                settings.start = .earliest
                for _ in 0..<workload.consumerCount {
                    let client = KafkaClient(configuration)
                    readers.append(
                        Reader(client: client, consumer: try GroupConsumer(client, settings))
                    )
                }
            }
        }
        self.readers = readers
    }

    /// Says where records are counted from now on.
    func count(into recorder: RunRecorder) {
        self.recorder.withLock { $0 = recorder }
    }

    /// Begins to read, and waits until every partition has its reader.
    func start(
        in group: inout ThrowingTaskGroup<RunMeasurement?, any Error>,
        patience: Duration
    ) async throws {
        for reader in readers {
            group.addTask { [self] in
                while let batch = try await reader.consumer.next() { note(batch) }
                return nil
            }
        }
        let wanted = workload.topicCount * workload.partitionCount * workload.groupCount
        let deadline = ContinuousClock.now + patience
        while true {
            var count = 0
            for reader in readers { count += await reader.consumer.assignment.count }
            if count == wanted { return }
            guard ContinuousClock.now < deadline else {
                throw CommandFailure.failed(
                    "after \(patience) consumers have \(count) of \(wanted) partitions"
                )
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    private func note(_ batch: ConsumedRecords) {
        guard let recorder = recorder.withLock({ $0 }) else { return }
        guard workload.carriesTime else { return recorder.note(count: batch.recordCount) }
        recorder.note(
            due: batch.records.compactMap { $0.value?.getInteger(at: $0.value?.readerIndex ?? 0) }
        )
    }

    /// Records of all groups that were acknowledged and not read yet.
    func backlog(_ producedCount: Int, _ consumed: RunRecorder) -> Int {
        guard workload.groupCount > 0 else { return 0 }
        return max(producedCount * workload.groupCount - consumed.everyRecordCount, 0)
    }

    /// Waits until what was acknowledged has been read.
    func drain(_ producedCount: Int, _ consumed: RunRecorder, patience: Duration) async throws {
        let deadline = ContinuousClock.now + patience
        while backlog(producedCount, consumed) > 0, ContinuousClock.now < deadline {
            try await Task.sleep(for: .milliseconds(10))
        }
        let left = backlog(producedCount, consumed)
        if left > 0 {
            CommandOutput.note("flotilla: \(left) records were not read within \(patience)")
        }
    }

    /// Ends all memberships and connections.
    func close() async {
        for reader in readers {
            await reader.consumer.close()
            await reader.client.close()
        }
    }
}
