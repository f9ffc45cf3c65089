import BenchSupport
import Benchmark
import FlotillaRecords

import struct NIOCore.ByteBuffer

// What does the checksum of a batch cost?
//
// Napkin: the CRC instruction takes 8 bytes, and three lanes hide its latency of 3 cycles: 8 bytes a
// cycle, 16 GB/s at 2 GHz and more where the clock rises. 1 KiB in 50 ns, 16 KiB in 0.9 µs, 1 MiB in
// 50 µs.
let benchmarks: @Sendable () -> Void = {
    for (name, byteCount) in [("1 KiB", 1 << 10), ("16 KiB", 16 << 10), ("1 MiB", 1 << 20)] {
        Benchmark(
            "CRC32C of \(name)",
            configuration: .init(
                metrics: [.wallClock, .throughput],
                scalingFactor: byteCount > 1 << 16 ? .one : .kilo
            )
        ) { (benchmark, bytes: ByteBuffer) in
            for _ in benchmark.scaledIterations {
                blackHole(CRC32C.checksum(bytes))
            }
        } setup: {
            var samples = SampleBatches()
            return samples.bytes(byteCount)
        }
    }
}
