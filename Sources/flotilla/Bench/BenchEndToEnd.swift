import ArgumentParser
import FlotillaClient
import FlotillaModel
import NIOCore

/// `flotilla bench e2e`.
struct BenchEndToEndCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "e2e",
        abstract: "Publish at a rate and time how long each record takes to a consumer."
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions
    @OptionGroup var load: LoadOptions

    @Option(help: "Records a second.")
    var rate = Rate(perSecond: 1000)

    func run() async throws {
        try await client.run { client in
            guard load.size.byteCount >= 8 else {
                throw CommandFailure.usage(
                    "a value of e2e has at least 8 bytes: the time at which it was due"
                )
            }
            try await load.withTopic(client) { topic in
                var result = try await measure(topic, client, rate)
                result.settings = [
                    ("size", String(load.size.byteCount)), ("partitions", String(load.partitions)),
                    ("rate", Decimals.text(rate.perSecond, 1)),
                    ("acks", String(load.acks.value.rawValue)),
                    ("linger_ms", String(load.linger.milliseconds)),
                ]
                print(output.format == .json ? result.json : BenchResult.table([result]))
            }
        }
    }

    private func measure(_ topic: String, _ client: KafkaClient, _ rate: Rate) async throws
        -> BenchResult
    {
        let configuration = try self.client.configuration()
        let partitions = try await Topics.partitions(topic, [], client)
        let reading = KafkaClient(configuration)
        let consumer = try await Consumer(
            reading,
            Dictionary(uniqueKeysWithValues: partitions.map { ($0, .latest) })
        )
        let begin = Monotonic.now() + 50_000_000
        let start = begin + UInt64(load.warmup.milliseconds) * 1_000_000
        let end = start + UInt64(load.duration.milliseconds) * 1_000_000
        let recorder = RunRecorder(start: start, end: end)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                while let batch = try await consumer.next() {
                    recorder.note(
                        due: batch.records.compactMap {
                            $0.value?.getInteger(at: 0, as: UInt64.self)
                        }
                    )
                }
            }
            let generator = load.generator(
                topic,
                interval: 1e9 / rate.perSecond,
                from: begin,
                to: end
            )
            let producer = Producer(client, load.producer) { report in
                if let error = report.error {
                    recorder.note(failures: report.tags.count, error.description)
                }
            }
            try await generator.run(producer) { value, due in
                var stamped = value
                stamped.setInteger(due, at: stamped.readerIndex)
                return stamped
            }
            await producer.close()
            // What was acknowledged last is on its way to the consumer.
            try await Task.sleep(for: .milliseconds(500))
            group.cancelAll()
            do {
                try await group.waitForAll()
            } catch ClientError.cancelled {
                // That is how reading ends here.
            }
        }
        await reading.close()
        return recorder.result(name: "e2e", recordByteCount: load.size.byteCount)
    }
}
