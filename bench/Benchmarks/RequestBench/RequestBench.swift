import BenchSupport
import Benchmark
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRecords

import struct NIOCore.ByteBuffer

// What does decoding a request cost, with all that it names?
//
// Napkin: a field is 1 to 2 ns; a name longer than 15 bytes, an array, and a slice of records are an
// allocation or a retain each (30 to 60 ns). Produce with one batch: two arrays, a name, a slice:
// 250 ns, whatever the batch's size. Fetch of 100 partitions in one topic: seven fields each and one
// array: 2 to 3 µs. Fetch in 100 topics: a name and an array each: 15 µs.
let benchmarks: @Sendable () -> Void = {
    Benchmark(
        "ProduceRequest v9, one batch of 16 KiB",
        configuration: .init(metrics: [.wallClock, .throughput], scalingFactor: .kilo)
    ) { benchmark in
        let body = try produceBody(version: 9)
        benchmark.startMeasurement()
        for _ in benchmark.scaledIterations {
            blackHole(try ProduceRequest(from: body, version: 9))
        }
    }

    for (topicCount, partitionCount) in [(1, 100), (100, 1)] {
        Benchmark(
            "FetchRequest v12, \(topicCount) topics of \(partitionCount) partitions",
            configuration: .init(metrics: [.wallClock, .throughput], scalingFactor: .kilo)
        ) { benchmark in
            let body = try fetchBody(topicCount, partitionCount, version: 12)
            benchmark.startMeasurement()
            for _ in benchmark.scaledIterations {
                blackHole(try FetchRequest(from: body, version: 12))
            }
        }
    }
}

/// A Produce request as librdkafka sends it: one partition, one batch.
private func produceBody(version: Int16) throws -> ByteBuffer {
    var samples = SampleBatches()
    let batch = samples.batch(recordCount: 16, valueByteCount: 1 << 10)
    let partition = ProduceRequest.PartitionProduceData(index: 3, records: Records(batch.bytes))
    let topic = ProduceRequest.TopicProduceData(
        name: "measurements.by.region",
        partitionData: [partition]
    )
    return try ProduceRequest(acks: -1, timeoutMs: 30_000, topicData: [topic])
        .encoded(version: version)
}

/// A Fetch request that names every partition, as the first one of a session does.
private func fetchBody(_ topicCount: Int, _ partitionCount: Int, version: Int16) throws
    -> ByteBuffer
{
    var request = FetchRequest(maxWaitMs: 500, minBytes: 1, maxBytes: 50 << 20)
    request.topics = (0..<topicCount).map { number in
        FetchRequest.FetchTopic(
            topic: "measurements.of.region.\(number)",
            partitions: (0..<partitionCount).map { partition in
                FetchRequest.FetchPartition(
                    partition: Int32(partition),
                    fetchOffset: 1_000_000,
                    partitionMaxBytes: 1 << 20
                )
            }
        )
    }
    return try request.encoded(version: version)
}
