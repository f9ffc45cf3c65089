import BenchSupport
import Benchmark
import FlotillaModel
import FlotillaRecords

import struct NIOCore.ByteBuffer

// What does the leader add to a batch on its way into the log?
//
// Napkin: one allocation for the 69-byte head (60 ns), a CRC over 65 bytes (10 ns), twelve integers
// written (20 ns), a slice of the batch (10 ns): about 100 ns, whatever the batch's size. Parsing the
// entry again, as a follower or recovery does, saves the allocation: about 60 ns.
//
// Measured (2 GHz Xeon): 240 ns, and 80 ns to parse. A `ByteBuffer` is two allocations, its storage
// object and its bytes; the rest of the difference is not explained yet.
let benchmarks: @Sendable () -> Void = {
    for (name, valueByteCount) in [("1 KiB", 1 << 10), ("1 MiB", 1 << 20)] {
        Benchmark(
            "LogEntry.data of a batch of \(name)",
            configuration: .init(metrics: [.wallClock, .throughput], scalingFactor: .kilo)
        ) { (benchmark, batch: RecordBatch) in
            for _ in benchmark.scaledIterations {
                let entry = LogEntry.data(
                    batch,
                    index: LogIndex(7),
                    term: Term(1),
                    baseOffset: Offset(42),
                    appendTime: SampleBatches.time,
                    previousChecksum: 1
                )
                blackHole(entry)
            }
        } setup: {
            var samples = SampleBatches()
            return samples.batch(recordCount: 1, valueByteCount: valueByteCount)
        }
    }

    Benchmark(
        "LogEntry(parsing:) of a batch of 1 KiB",
        configuration: .init(metrics: [.wallClock, .throughput], scalingFactor: .kilo)
    ) { (benchmark, bytes: ByteBuffer) in
        for _ in benchmark.scaledIterations {
            var rest = bytes
            blackHole(try LogEntry(parsing: &rest))
        }
    } setup: {
        var samples = SampleBatches()
        var chain = EntryChain()
        return chain.append(samples.batch(recordCount: 1, valueByteCount: 1 << 10)).joined
    }
}
