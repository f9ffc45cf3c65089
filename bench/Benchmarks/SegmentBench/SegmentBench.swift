import BenchSupport
import Benchmark
import FlotillaModel
import FlotillaRecords
import FlotillaStorage

// What does the shard spend on finding 1 MiB of batches for a consumer, before a byte is sent?
//
// Napkin: from the tail, 20 ns for each entry; small payloads lie side by side, so few slices leave:
// 1,000 batches of 1 KiB in 20 µs, 64 of 16 KiB in 2 µs. From a mapped segment every row and batch
// head is checked: two CRCs of 65 bytes and the search, 150 ns: 150 µs and 10 µs, and three calls of
// mincore (5 µs). The bytes stay where they are (sendfile); copying them out instead is 1 MiB at
// 8 GB/s, 130 µs more.
//
// Measured (2 GHz Xeon): tail 41 µs and 10 µs (an entry of its own leaves as two slices), segment 240 µs
// and 10 µs, copied 78 µs.
let benchmarks: @Sendable () -> Void = {
    for valueByteCount in [1_000, 16 << 10] {
        let shape = valueByteCount < 2_000 ? "1 KiB" : "16 KiB"
        Benchmark(
            "1 MiB from the tail, batches of \(shape)",
            configuration: .init(metrics: [.wallClock, .throughput])
        ) { benchmark, log in
            benchmark.startMeasurement()
            blackHole(try log.read())
            benchmark.stopMeasurement()
        } setup: {
            try SampleLog(valueByteCount: valueByteCount, isInMemory: true)
        } teardown: {
            try ScratchDirectory.removeAll()
        }
        Benchmark(
            "1 MiB from a mapped segment, batches of \(shape)",
            configuration: .init(metrics: [.wallClock, .throughput])
        ) { benchmark, log in
            benchmark.startMeasurement()
            blackHole(try log.read())
            benchmark.stopMeasurement()
        } setup: {
            try SampleLog(valueByteCount: valueByteCount, isInMemory: false)
        } teardown: {
            try ScratchDirectory.removeAll()
        }
    }

    Benchmark(
        "1 MiB from a mapped segment and copied, batches of 16 KiB",
        configuration: .init(metrics: [.wallClock, .throughput])
    ) { benchmark, log in
        benchmark.startMeasurement()
        blackHole(try log.read().joined())
        benchmark.stopMeasurement()
    } setup: {
        try SampleLog(valueByteCount: 16 << 10, isInMemory: false)
    } teardown: {
        try ScratchDirectory.removeAll()
    }
}

/// A log of 64 MiB on a real disk, all of it in memory or all of it in a segment.
private final class SampleLog {
    private static let byteCount = 64 << 20
    private static let readByteCount = 1 << 20

    private let scratch: ScratchDirectory
    private let log: PartitionLog
    private let wholeReadCount: Int64
    private var offset = Offset.zero

    init(valueByteCount: Int, isInMemory: Bool) throws {
        scratch = try ScratchDirectory("segment")
        let group = GroupID(
            partition: TopicPartition(topic: TopicID(high: 1, low: 2), partition: 0),
            epoch: CreationEpoch(1)
        )
        let resources = LogResources(
            disk: scratch.disk,
            tail: TailBudget(byteCount: 2 * Self.byteCount),
            segments: SegmentCache()
        )
        let log = PartitionLog.create(
            group: group,
            directory: scratch.path,
            resources: resources,
            configuration: LogConfiguration()
        )
        var samples = SampleBatches()
        var chain = EntryChain()
        let batch = samples.batch(recordCount: 1, valueByteCount: valueByteCount)
        wholeReadCount = Int64(Self.readByteCount / batch.byteCount)
        for _ in 0..<Self.byteCount / batch.byteCount {
            log.append([chain.append(batch)])
        }
        log.commit(upTo: log.lastIndex)
        if isInMemory {
            self.log = log
            return
        }
        while let write = log.nextWrite(minimumByteCount: 1) {
            try log.finish(write.perform())
        }
        if let sync = log.nextSync() {
            try log.finish(sync.perform())
        }
        // A log that was opened anew has nothing in memory.
        self.log = try PartitionLog.open(
            group: group,
            directory: scratch.path,
            resources: resources,
            configuration: LogConfiguration(),
            journal: JournalSuffix()
        )
    }

    /// The next 1 MiB, from the start again at the end; loaded first where it is not in memory.
    func read() throws -> FetchSlice {
        if log.logEndOffset - offset < wholeReadCount {
            offset = .zero
        }
        let slice = try slice(afterLoad: false)
        precondition(slice.byteCount > Self.readByteCount / 2, "a read returns what was asked for")
        offset = slice.endOffset
        return slice
    }

    private func slice(afterLoad: Bool) throws -> FetchSlice {
        let read = try log.read(
            from: offset,
            upTo: log.logEndOffset,
            maxByteCount: Self.readByteCount,
            allowOversizedFirst: true,
            afterLoad: afterLoad
        )
        switch read {
        case .ready(let slice):
            return slice
        case .load(let load):
            try log.finish(load.perform())
            return try self.slice(afterLoad: true)
        }
    }
}
