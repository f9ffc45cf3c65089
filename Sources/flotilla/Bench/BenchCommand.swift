import ArgumentParser
import FlotillaClient
import FlotillaModel

/// `flotilla bench`.
struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measure a cluster, and the disk under it.",
        discussion: """
            Latencies count from the moment at which a record was due, not from when there was time to send it, so a
            cluster that stalls cannot hide it (no coordinated omission).
            """,
        subcommands: [
            BenchProduceCommand.self, BenchConsumeCommand.self, BenchEndToEndCommand.self,
            BenchDiskCommand.self, BenchRunCommand.self, BenchReportCommand.self,
            BenchCountedCommand.self,
        ]
    )
}

/// What the load looks like.
struct LoadOptions: ParsableArguments {
    @Option(help: "The topic; otherwise one of its own, which is deleted afterwards.")
    var topic: String?

    @Option(help: "Partitions of a topic of its own.")
    var partitions: Int32 = 1

    @Option(help: "Replicas of a topic of its own.")
    var replicas: Int16?

    @Option(help: "NAME=VALUE, a setting of a topic of its own; may be repeated.")
    var set: [String] = []

    @Option(help: "The size of a value.")
    var size = Size(1024)

    @Option(help: "random (does not compress) or json (compresses like application data).")
    var payload = PayloadKind.random

    @Option(name: .shortAndLong, help: "How the client compresses.")
    var zip = CompressionName(.none)

    @Option(help: "all, 1 or 0.")
    var acks = AcksName(.all)

    @Option(help: "How long a batch waits for more records.")
    var linger = Span(.milliseconds(5))

    @Option(help: "A batch of this size is sent at once.")
    var batch = Size(256 << 10)

    @Option(help: "How many records a producer may hold, in bytes.")
    var buffer = Size(32 << 20)

    @Option(
        help:
            "Requests that a producer has under way to each broker; 5 at most unless not idempotent."
    )
    var inFlight = 5

    @Flag(help: "Do without idempotence.")
    var notIdempotent = false

    @Flag(help: "Records with keys, so that every partition gets some in turn.")
    var keyed = false

    @Option(help: "How long to measure.")
    var duration = Span(.seconds(10))

    @Option(help: "How long to run before measuring.")
    var warmup = Span(.seconds(2))

    var producer: ProducerConfiguration {
        var settings = ProducerConfiguration()
        settings.acks = acks.value
        settings.compression = zip.value
        settings.linger = linger.duration
        settings.batchByteCount = batch.byteCount
        settings.bufferByteCount = buffer.byteCount
        settings.maximumInFlight = inFlight
        settings.isIdempotent = !notIdempotent
        settings.maximumRecordByteCount = max(
            settings.maximumRecordByteCount,
            size.byteCount + 1024
        )
        return settings
    }

    /// What offers these records to one producer.
    func generator(
        _ topic: String,
        interval: Double?,
        from begin: UInt64,
        to end: UInt64
    ) -> LoadGenerator {
        LoadGenerator(
            topic: topic,
            payload: payload,
            recordByteCount: size.byteCount,
            isKeyed: keyed,
            interval: interval,
            begin: begin,
            end: end
        )
    }

    /// Runs `body` with a topic, which is created and deleted again where none is named.
    func withTopic(_ client: KafkaClient, _ body: (String) async throws -> Void) async throws {
        if let topic {
            _ = try await Topics.find([topic], client)
            return try await body(topic)
        }
        let name = "bench-" + String(UInt32.random(in: .min ... .max), radix: 36)
        let admin = Admin(client)
        let wanted = Admin.NewTopic(
            name: name,
            partitionCount: partitions,
            replicationFactor: replicas,
            configs: try TopicSettings.read(set)
        )
        if let error = try await admin.createTopics([wanted])[name] ?? nil { throw error }
        try await BenchTopics.waitForLeaders([name], client)
        do {
            try await body(name)
        } catch {
            _ = try await admin.deleteTopics([name])
            throw error
        }
        _ = try await admin.deleteTopics([name])
    }
}

/// Topics that a bench made.
enum BenchTopics {
    private static let patience = Duration.seconds(60)

    /// Waits until every partition of the topics has a leader.
    static func waitForLeaders(_ names: [String], _ client: KafkaClient) async throws {
        let end = ContinuousClock.now + patience
        while ContinuousClock.now < end {
            let metadata = try await client.metadata(topics: names)
            let haveAll = names.allSatisfy { name in
                guard let topic = metadata.topic(name), topic.error == .noError else {
                    return false
                }
                return topic.partitions.allSatisfy { $0.leader != nil }
            }
            if haveAll { return }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw CommandFailure.unreachable(
            "\(Words.counted(names.count, "topic")) without leaders after \(patience)"
        )
    }
}
