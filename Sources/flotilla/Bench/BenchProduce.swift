import ArgumentParser
import FlotillaClient

/// `flotilla bench produce`.
struct BenchProduceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "produce",
        abstract: "Publish at a rate, or as fast as it goes, and time the acknowledgements."
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions
    @OptionGroup var load: LoadOptions

    @Option(help: "All producers together; otherwise as fast as it goes.")
    var rate: Rate?

    @Option(help: "How many producers, each with connections of its own.")
    var producers = 1

    @Option(help: "Measure the disk of this directory too, with blocks of the batch size.")
    var dir: String?

    func run() async throws {
        try await client.run { client in
            guard producers > 0 else {
                throw CommandFailure.usage("--producers takes a number from 1")
            }
            let ceiling = try dir.map {
                try DiskBench.ceiling(in: $0, blockByteCount: load.batch.byteCount)
            }
            try await load.withTopic(client) { topic in
                var result = try await measure(topic)
                result.ceiling = ceiling
                print(output.format == .json ? result.json : BenchResult.table([result]))
                if result.failureCount > 0 {
                    throw CommandFailure.partial(
                        "\(Words.counted(result.failureCount, "record")) failed: \(result.firstError ?? "")"
                    )
                }
            }
        }
    }

    private func measure(_ topic: String) async throws -> BenchResult {
        let begin = Monotonic.now() + 50_000_000
        let start = begin + UInt64(load.warmup.milliseconds) * 1_000_000
        let end = start + UInt64(load.duration.milliseconds) * 1_000_000
        let recorder = RunRecorder(start: start, end: end)
        let configuration = try client.configuration()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<producers {
                let generator = load.generator(
                    topic,
                    interval: rate.map { 1e9 / $0.perSecond * Double(producers) },
                    from: begin,
                    to: end
                )
                group.addTask {
                    let client = KafkaClient(configuration)
                    let producer = Producer(client, load.producer) { report in
                        if let error = report.error {
                            recorder.note(failures: report.tags.count, error.description)
                        } else {
                            recorder.note(due: report.tags)
                        }
                    }
                    try await generator.run(producer)
                    await producer.close()
                    await client.close()
                }
            }
            try await group.waitForAll()
        }
        var result = recorder.result(name: "produce", recordByteCount: load.size.byteCount)
        result.settings = settings
        return result
    }

    private var settings: [(String, String)] {
        [
            ("size", String(load.size.byteCount)), ("partitions", String(load.partitions)),
            ("producers", String(producers)), ("acks", String(load.acks.value.rawValue)),
            ("compression", JSONText.quoted(load.zip.value.rawValue)),
            ("payload", JSONText.quoted(load.payload.rawValue)),
            ("batch", String(load.batch.byteCount)),
            ("linger_ms", String(load.linger.milliseconds)),
            ("rate", rate.map { Decimals.text($0.perSecond, 1) } ?? "null"),
        ]
    }
}
