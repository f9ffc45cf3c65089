import FlotillaClient
import Testing

@testable import flotilla

@Suite("Workload files")
struct WorkloadFileTests {
    private func parse(_ text: String) throws(CommandFailure) -> Workload {
        try WorkloadFile.parse(text, name: "test", path: "test.toml")
    }

    private func told(of text: String) -> String? {
        do {
            _ = try parse(text)
            return nil
        } catch {
            return error.text
        }
    }

    @Test("An empty file is a workload by the defaults")
    func defaults() throws {
        let workload = try parse("")
        #expect(workload.name == "test")
        #expect(workload.partitionCount == 1)
        #expect(workload.recordByteCount == 1024)
        #expect(workload.pace == .flatOut)
        #expect(workload.groupCount == 1)
        #expect(workload.replicaCount == nil)
    }

    @Test("Every key is read")
    func allKeys() throws {
        let workload = try parse(
            """
            description = "all of it"
            topics = 2
            partitions = 3
            replicas = 1
            record-size = "2KiB"
            payload = "json"
            keys = "random"
            rate = "50k/s"
            producers = 4
            groups = 5
            consumers = 6
            acks = 1
            codec = "lz4"
            idempotent = false
            batch-size = "1MiB"
            linger = "1ms"
            in-flight = 7
            backlog = "1GB"
            warmup = 1
            duration = "1m"

            [topic-settings]
            "compression.type" = "producer"
            "retention.ms" = 1000

            [[faults]]
            at = "10s"
            do = "pause-leader"
            for = "2s"

            [[faults]]
            at = 5
            do = "kill-leader"
            for = "1s"
            """
        )
        #expect(workload.topicCount == 2)
        #expect(workload.partitionCount == 3)
        #expect(workload.replicaCount == 1)
        #expect(workload.recordByteCount == 2048)
        #expect(workload.payload == .json)
        #expect(workload.isKeyed)
        #expect(workload.pace == .fixed(50_000))
        #expect(workload.producerCount == 4)
        #expect(workload.groupCount == 5)
        #expect(workload.consumerCount == 6)
        #expect(workload.acks.value == .leader)
        #expect(workload.codec.value == .lz4)
        #expect(!workload.isIdempotent)
        #expect(workload.batchByteCount == 1 << 20)
        #expect(workload.linger.milliseconds == 1)
        #expect(workload.inFlight == 7)
        #expect(workload.backlogByteCount == 1_000_000_000)
        #expect(workload.warmup.milliseconds == 1000)
        #expect(workload.duration.milliseconds == 60_000)
        #expect(
            workload.topicSettings == ["compression.type": "producer", "retention.ms": "1000"]
        )
        // By time, whatever their order in the file.
        #expect(workload.faults.map(\.kind) == [.killLeader, .pauseLeader])
        #expect(!workload.isOneAtATime)
    }

    @Test(
        "Rates",
        arguments: [
            ("max", Workload.Pace.flatOut), ("33%", .share(0.33)), ("100%", .share(1)),
            ("600/m", .fixed(10)), ("20", .fixed(20)),
        ]
    )
    func rates(text: String, pace: Workload.Pace) throws {
        #expect(try parse("rate = \"\(text)\"").pace == pace)
    }

    @Test(
        "What makes no sense is told with its key",
        arguments: [
            ("partition = 3", "partition: no such key; did you mean partitions?"),
            ("colour = 3", "colour: no such key"),
            ("partitions = 0", "partitions takes a number from 1 to 100000"),
            ("partitions = 100001", "partitions takes a number from 1 to 100000"),
            ("partitions = [1]", "partitions takes one value"),
            ("groups = -1", "groups takes a number from 0 to 100000"),
            ("record-size = \"big\"", "record-size takes a size such as 1KiB, not \"big\""),
            ("rate = \"0%\"", "rate takes max, a rate such as 50k/s, or a share such as 33%"),
            ("rate = \"101%\"", "rate takes max"),
            ("codec = \"brotli\"", "codec takes none, gzip, snappy, lz4 or zstd"),
            ("idempotent = \"yes\"", "idempotent takes true or false"),
            ("duration = \"10ms\"", "duration is a second at least"),
            ("groups = 0\nbacklog = \"1GB\"", "a backlog wants groups that read it"),
            ("topic-settings = 3", "topic-settings is a table"),
            (
                "[topic-settings]\ncompression.type = \"producer\"",
                "write names with a dot in quotes"
            ),
            ("faults = 3", "faults is a list of tables"),
            ("[[faults]]\nat = \"1s\"", "fault 1: it has do (one of kill-leader"),
            ("[[faults]]\nwhen = \"1s\"", "fault 1: when: no such key"),
            ("partitions = ", "test.toml: line 1"),
        ]
    )
    func problems(text: String, words: String) throws {
        let problem = try #require(told(of: text), "it is taken")
        #expect(problem.contains(words), "\(problem)")
    }

    @Test("All problems of a file are told at once")
    func allProblems() throws {
        let problem = try #require(told(of: "partitions = 0\nkeys = \"some\"\nproducer = 1"))
        #expect(problem.split(separator: "\n").count == 3, "\(problem)")
    }

    @Test("One record at a time is in-flight 1, linger 0 and batches of one byte")
    func oneAtATime() throws {
        let workload = try parse("in-flight = 1\nlinger = \"0ms\"\nbatch-size = 1")
        #expect(workload.isOneAtATime)
    }
}
