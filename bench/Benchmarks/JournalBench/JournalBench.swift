import BenchSupport
import Benchmark
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaServer
import FlotillaStorage

import struct NIOCore.ByteBuffer

// What does a durable round cost beyond the disk itself?
//
// Napkin: the floor is one write and one fdatasync into blocks that were written before: 60 to 100 µs
// on a virtual disk with a write cache, 0.5 to 2 ms where every sync reaches the medium. A round of
// one entry adds building it (2 µs). A round of 100 groups is one write of 110 KiB: 100 records at
// 0.3 µs and the disk's bandwidth, so about 1.5 times the floor for 100 times the work. 256 KiB at
// 2 GB/s: 130 µs and the floor.
//
// Measured (virtual disk with a write cache, other work on the machine), best and median: floor 67 and
// 128 µs, one entry 72 and 113 µs, 100 groups 203 and 245 µs, 256 KiB 137 and 171 µs beside a floor of
// 133 and 242 µs.
let benchmarks: @Sendable () -> Void = {
    for (name, byteCount) in [("4 KiB", 4 << 10), ("256 KiB", 256 << 10)] {
        Benchmark(
            "floor: write and fdatasync of \(name)",
            configuration: .init(metrics: [.wallClock, .throughput], maxDuration: .seconds(2))
        ) { benchmark, floor in
            benchmark.startMeasurement()
            try floor.write()
            benchmark.stopMeasurement()
        } setup: {
            try WriteFloor(byteCount: byteCount)
        } teardown: {
            try ScratchDirectory.removeAll()
        }
    }

    for (groupCount, valueByteCount) in [(1, 1 << 10), (100, 1 << 10), (1, 256 << 10)] {
        Benchmark(
            "round of \(groupCount) × \(valueByteCount >> 10) KiB",
            configuration: .init(metrics: [.wallClock, .throughput], maxDuration: .seconds(2))
        ) { benchmark, rounds in
            let submissions = rounds.nextSubmissions()
            benchmark.startMeasurement()
            try rounds.write(submissions)
            benchmark.stopMeasurement()
            try rounds.release(submissions)
        } setup: {
            try JournalRounds(groupCount: groupCount, valueByteCount: valueByteCount)
        } teardown: {
            try ScratchDirectory.removeAll()
        }
    }
}

/// The disk alone: the same place of a file that was filled before, written and synced.
private final class WriteFloor {
    private let scratch: ScratchDirectory
    private let file: any DiskFile
    private let bytes: ByteBuffer
    private var position: Int64 = 0
    private static let fileByteCount: Int64 = 64 << 20

    init(byteCount: Int) throws {
        scratch = try ScratchDirectory("floor")
        bytes = ByteBuffer(repeating: 7, count: byteCount)
        file = try scratch.disk.open(scratch.path + "/file", .createNew)
        try file.allocate(0..<Self.fileByteCount)
        let zeros = ByteBuffer(repeating: 0, count: 1 << 20)
        for start in stride(from: 0, to: Self.fileByteCount, by: 1 << 20) {
            try file.write([zeros], at: start)
        }
        try file.sync()
    }

    func write() throws {
        try file.write([bytes], at: position)
        try file.sync()
        position = (position + Int64(bytes.readableBytes)) % (Self.fileByteCount / 2)
    }
}

/// A journal with so many groups, each of which appends one batch in each round.
private final class JournalRounds {
    private let scratch: ScratchDirectory
    private let journal: Journal
    private let groups: [GroupID]
    private let batch: RecordBatch
    private var chains: [EntryChain]

    init(groupCount: Int, valueByteCount: Int) throws {
        scratch = try ScratchDirectory("journal")
        var samples = SampleBatches()
        var word: UInt64 = 0
        journal = try Journal.open(
            JournalDirectories(journal: scratch.path + "/journal", data: scratch.path),
            disk: scratch.disk,
            configuration: JournalConfiguration(),
            newIdentity: {
                word += 1
                return DirectoryID(high: word, low: word)
            }
        ).0
        batch = samples.batch(recordCount: 1, valueByteCount: valueByteCount)
        groups = (0..<groupCount).map { number in
            let partition = TopicPartition(
                topic: TopicID(high: 1, low: 2),
                partition: Int32(number)
            )
            return GroupID(partition: partition, epoch: CreationEpoch(1))
        }
        chains = Array(repeating: EntryChain(), count: groupCount)
        while try journal.prepareSpare() {}
    }

    /// One batch of each group, as a leader's shard hands it over.
    func nextSubmissions() -> [JournalSubmission] {
        groups.indices.map { place in
            let entry = chains[place].append(batch)
            return JournalSubmission(
                shard: 0,
                group: groups[place],
                ticket: entry.frame.index.rawValue,
                records: [.entries([entry])]
            )
        }
    }

    func write(_ submissions: [JournalSubmission]) throws {
        let result = try journal.perform(submissions)
        precondition(result.completions.count == submissions.count, "a benchmark's disk has room")
    }

    /// Stands in for segments, and for the idle time in which the thread prepares the next file.
    func release(_ submissions: [JournalSubmission]) throws {
        for submission in submissions {
            journal.release(submission.group, upTo: LogIndex(submission.ticket))
        }
        while try journal.prepareSpare() {}
    }
}
