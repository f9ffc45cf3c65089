import ArgumentParser
import FlotillaClient
import FlotillaModel

/// `flotilla bench consume`.
struct BenchConsumeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "consume",
        abstract: "Read a topic from its start to its end as fast as it goes.",
        discussion:
            "A topic of its own is filled first; --duration and --warmup do not matter here."
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions
    @OptionGroup var load: LoadOptions

    @Option(help: "How much to put into a topic of its own.")
    var fill = Size(256 << 20)

    @Option(help: "Read it so many times; each is a line.")
    var times = 1

    @Flag(help: "Decode every record, instead of checking each batch as a whole.")
    var decode = false

    func run() async throws {
        try await client.run { client in
            try await load.withTopic(client) { topic in
                if load.topic == nil { try await fill(client, topic) }
                var results: [BenchResult] = []
                for _ in 0..<times { results.append(try await measure(topic, client)) }
                if output.format == .json {
                    for result in results { print(result.json) }
                } else {
                    print(BenchResult.table(results))
                }
            }
        }
    }

    private func fill(_ client: KafkaClient, _ topic: String) async throws {
        var payload = Payload(load.payload, byteCount: load.size.byteCount)
        let producer = Producer(client, load.producer)
        var left = fill.byteCount
        while left > 0 {
            do throws(ClientError) {
                try producer.enqueue(ProducerRecord(topic: topic, value: payload.value()))
                left -= max(load.size.byteCount, 1)
            } catch {
                guard error == .bufferFull else { throw error }
                await producer.waitForRoom()
            }
        }
        await producer.close()
    }

    private func measure(_ topic: String, _ client: KafkaClient) async throws -> BenchResult {
        let partitions = try await Topics.partitions(topic, [], client)
        let admin = Admin(client)
        let starts = try await Place.named(.earliest).resolve(partitions, admin)
        var open = try await Place.named(.latest).resolve(partitions, admin)
        open = open.filter { $0.value > starts[$0.key] ?? .zero }
        var settings = ConsumerConfiguration()
        settings.decodesRecords = decode
        settings.maximumByteCount = 64 << 20
        settings.maximumPartitionByteCount = 8 << 20
        var result = BenchResult(name: "consume")
        let begin = Monotonic.now()
        let consumer = try await Consumer(
            client,
            Dictionary(uniqueKeysWithValues: open.keys.map { ($0, .offset(starts[$0] ?? .zero)) }),
            settings
        )
        while !open.isEmpty, let batch = try await consumer.next() {
            result.recordCount += batch.recordCount
            result.byteCount += batch.byteCount
            if let end = open[batch.partition], batch.nextOffset >= end {
                open[batch.partition] = nil
                await consumer.pause(batch.partition)
            }
        }
        result.seconds = Double(Monotonic.now() - begin) / 1e9
        result.settings = [("partitions", String(partitions.count)), ("decode", String(decode))]
        return result
    }
}
