import FlotillaClient
import FlotillaModel

/// Asks a cluster how far groups are behind, again and again where that is wanted.
struct LagReader {
    private let client: KafkaClient
    /// How long to look for the age of records, which is worth less than an answer soon.
    private let patience: Duration
    /// What was found the last time, so that nothing is read twice.
    private var known: [NamedPartition: (next: Offset, oldest: Timestamp)] = [:]

    init(_ client: KafkaClient, patience: Duration) {
        self.client = client
        self.patience = patience
    }

    /// How far a group is behind now.
    ///
    /// - Throws: `.refused(.groupIdNotFound, ...)` where there is none.
    mutating func read(_ group: String) async throws -> GroupLag {
        let admin = Admin(client)
        let described = try await admin.describeGroup(group)
        let committed = try await admin.groupOffsets(group).mapValues(\.offset)
        var owners: [NamedPartition: String] = [:]
        for member in described.members {
            for partition in member.assignment {
                owners[partition] = "\(member.clientID)@\(member.host)"
            }
        }
        let partitions = Set(committed.keys).union(owners.keys).sorted()
        let led = try await led(partitions)
        // Starts first: both only grow, so no start is beyond its end.
        let starts = try await Place.named(.earliest).resolve(led, admin)
        let ends = try await Place.named(.latest).resolve(led, admin)
        var lags = partitions.map { partition in
            PartitionLag(
                partition: partition,
                committed: committed[partition],
                start: starts[partition],
                end: ends[partition],
                owner: owners[partition]
            )
        }
        try await findOldest(&lags)
        return GroupLag(
            group: group,
            state: described.state,
            partitions: lags,
            time: WallTime.now()
        )
    }

    /// Those partitions that have a leader; a topic may be gone while its commits are still there.
    private func led(_ partitions: [NamedPartition]) async throws -> [NamedPartition] {
        let metadata = try await client.metadata(topics: Set(partitions.map(\.topic)).sorted())
        return partitions.filter { partition in
            metadata.topic(partition.topic)?.partitions.contains {
                $0.index == partition.index && $0.leader != nil
            } ?? false
        }
    }

    // MARK: Ages

    private mutating func findOldest(_ lags: inout [PartitionLag]) async throws {
        var wanted: [NamedPartition: Offset] = [:]
        for place in lags.indices where lags[place].records ?? 0 > 0 {
            guard let next = lags[place].next else { continue }
            let partition = lags[place].partition
            if let found = known[partition], found.next == next {
                lags[place].oldest = found.oldest
            } else {
                wanted[partition] = next
            }
        }
        guard !wanted.isEmpty else { return }
        let found = try await firstTimes(wanted)
        for place in lags.indices {
            let partition = lags[place].partition
            guard let time = found[partition], let next = wanted[partition] else { continue }
            lags[place].oldest = time
            known[partition] = (next, time)
        }
    }

    /// The times of the first records at or after some offsets, as far as they are found in time: behind an offset may lie
    /// nothing but the marks of transactions.
    private func firstTimes(
        _ offsets: [NamedPartition: Offset]
    ) async throws -> [NamedPartition: Timestamp] {
        var settings = ConsumerConfiguration()
        settings.isolationLevel = .readUncommitted
        // The batch that holds the record is enough.
        settings.maximumPartitionByteCount = 64 << 10
        let consumer = try await Consumer(client, offsets.mapValues { .offset($0) }, settings)
        let limit = patience
        let times = try await withThrowingTaskGroup(of: [NamedPartition: Timestamp]?.self) {
            tasks in
            let found = FoundTimes()
            tasks.addTask {
                while await found.count < offsets.count, let batch = try await consumer.next() {
                    guard let first = batch.records.first else { continue }
                    await found.note(batch.partition, first.timestamp)
                    await consumer.pause(batch.partition)
                }
                return await found.times
            }
            tasks.addTask {
                try await Task.sleep(for: limit)
                return nil
            }
            let first = try await tasks.next() ?? nil
            tasks.cancelAll()
            if let first { return first }
            return await found.times
        }
        await consumer.close()
        return times
    }

    /// What has been found while the time runs.
    private actor FoundTimes {
        private(set) var times: [NamedPartition: Timestamp] = [:]
        var count: Int { times.count }

        func note(_ partition: NamedPartition, _ time: Timestamp) {
            if times[partition] == nil { times[partition] = time }
        }
    }
}
