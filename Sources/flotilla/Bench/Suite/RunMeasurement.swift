import FlotillaClient
import Histogram

/// What a run of a workload found.
struct RunMeasurement: Sendable {
    /// One second of the measured time.
    struct Second: Sendable {
        let produced: RunRecorder.Sample
        let consumed: RunRecorder.Sample
        let usage: ResourceSampler.Usage
        let before: ResourceSampler.Usage
        /// Records acknowledged and not read yet.
        let backlog: Int
    }

    let workload: Workload
    var produced = RunRecorder.Sample()
    /// Nil: nobody read.
    var consumed: RunRecorder.Sample?
    var failures: (count: Int, firstError: String?) = (0, nil)
    /// Records a second that were offered; nil flat out.
    var rate: Double?
    var replicaCount: Int?
    var usage: (first: ResourceSampler.Usage, last: ResourceSampler.Usage)?
    var series: [Second] = []
    var events: [(seconds: Double, text: String)] = []

    init(workload: Workload) { self.workload = workload }

    private var seconds: Double { Double(workload.duration.milliseconds) / 1000 }

    var producedPerSecond: Double { Double(produced.recordCount) / seconds }
    var consumedPerSecond: Double { Double(consumed?.recordCount ?? 0) / seconds }

    /// Millions of bytes of values a second.
    func megabytesPerSecond(_ recordsPerSecond: Double) -> Double {
        recordsPerSecond * Double(workload.recordByteCount) / 1e6
    }

    /// Processor time of the servers for each GB produced and consumed; nil where they cannot be seen.
    var cpuSecondsPerGigabyte: Double? {
        guard let usage, let first = usage.first.serverCPUSeconds,
            let last = usage.last.serverCPUSeconds
        else { return nil }
        let count = produced.recordCount + (consumed?.recordCount ?? 0)
        let gigabytes = Double(count * workload.recordByteCount) / 1e9
        return gigabytes > 0 ? (last - first) / gigabytes : nil
    }

    /// The latencies of every second.
    func histogramLog(startSeconds: Double) throws(CommandFailure) -> String {
        var log = HistogramLog(startSeconds: startSeconds)
        for (index, second) in series.enumerated() {
            let start = Double(index)
            try log.add(second.produced.latencies, tag: "produce", start: start, length: 1)
            try log.add(second.consumed.latencies, tag: "consume", start: start, length: 1)
        }
        return log.text
    }
}

// MARK: As JSON

extension RunMeasurement {
    /// What was measured, and where.
    struct Context {
        let system: String
        let durability: String
        let isDurable: Bool
        let machine: Machine
        let number: Int
        /// `2026-11-30T17:00:00Z`.
        let started: String
    }

    /// The result as one line, in the form of `bench/README.md`.
    func json(_ context: Context) -> String {
        JSONText.object([
            "format": "1",
            "workload": JSONText.quoted(workload.name),
            "description": JSONText.quoted(workload.description),
            "system": JSONText.quoted(context.system),
            "client": JSONText.quoted("flotilla"),
            "durability": JSONText.quoted(context.durability),
            "is_durable": "\(context.isDurable)",
            "replicas": JSONText.number(replicaCount),
            "tls": "false",
            "run": "\(context.number)",
            "started": JSONText.quoted(context.started),
            "machine": context.machine.json,
            "load": loadJSON,
            "produce": produceJSON,
            "consume": consumed.map { sideJSON($0, more: []) } ?? "null",
            "servers": serversJSON,
            "series": JSONText.array(series.enumerated().map { secondJSON($0 + 1, $1) }),
            "events": JSONText.array(
                events.map {
                    JSONText.object([
                        "t": Decimals.text($0.seconds, 3), "text": JSONText.quoted($0.text),
                    ])
                }
            ),
        ])
    }

    private var loadJSON: String {
        JSONText.object([
            "topics": "\(workload.topicCount)",
            "partitions": "\(workload.partitionCount)",
            "record_bytes": "\(workload.recordByteCount)",
            "payload": JSONText.quoted(workload.payload.rawValue),
            "keys": JSONText.quoted(workload.isKeyed ? "random" : "none"),
            "rate": rate.map { Decimals.text($0, 1) } ?? "null",
            "producers": "\(workload.producerCount)",
            "groups": "\(workload.groupCount)",
            "consumers": "\(workload.consumerCount)",
            "acks": JSONText.quoted(workload.acks.defaultValueDescription),
            "codec": JSONText.quoted(workload.codec.value.rawValue),
            "batch_bytes": "\(workload.batchByteCount)",
            "linger_ms": "\(workload.linger.milliseconds)",
            "in_flight": "\(workload.inFlight)",
            "seconds": Decimals.text(seconds, 3),
            "warmup_seconds": Decimals.text(Double(workload.warmup.milliseconds) / 1000, 3),
        ])
    }

    private var produceJSON: String {
        sideJSON(
            produced,
            more: [
                ("failures", "\(failures.count)"),
                ("first_error", JSONText.optional(failures.firstError)),
            ]
        )
    }

    private func sideJSON(_ sample: RunRecorder.Sample, more: [(String, String)]) -> String {
        let perSecond = Double(sample.recordCount) / seconds
        let members =
            [
                ("records", "\(sample.recordCount)"),
                ("bytes", "\(sample.recordCount * workload.recordByteCount)"),
                ("records_per_second", Decimals.text(perSecond, 1)),
                ("mb_per_second", Decimals.text(megabytesPerSecond(perSecond), 3)),
            ] + more + [("latency_us", Self.latencyJSON(sample.latencies))]
        return "{" + members.map { JSONText.quoted($0.0) + ":" + $0.1 }.joined(separator: ",") + "}"
    }

    private static func latencyJSON(_ histogram: Histogram<UInt64>) -> String {
        guard histogram.totalCount > 0 else { return "null" }
        let steps = histogram.percentiles(ticksPerHalfDistance: 5).map { step in
            "[\(Decimals.text(step.percentile, 5)),\(Decimals.micros(step.value))]"
        }
        func at(_ percentile: Double) -> String {
            Decimals.micros(histogram.valueAtPercentile(percentile))
        }
        return JSONText.object([
            "mean": Decimals.text(histogram.mean / 1000, 1),
            "p50": at(50), "p90": at(90), "p99": at(99), "p999": at(99.9), "p9999": at(99.99),
            "max": Decimals.micros(histogram.max),
            "percentiles": JSONText.array(steps),
        ])
    }

    private var serversJSON: String {
        guard let usage, let first = usage.first.serverCPUSeconds,
            let last = usage.last.serverCPUSeconds
        else { return "null" }
        let written = Self.difference(usage.last.writtenByteCount, usage.first.writtenByteCount)
        return JSONText.object([
            "cpu_seconds": Decimals.text(last - first, 2),
            "cpu_seconds_per_gb": cpuSecondsPerGigabyte.map { Decimals.text($0, 3) } ?? "null",
            "memory_mib": Self.mebibytes(usage.last.memoryByteCount),
            "disk_written_mb": written.map { Decimals.text($0 / 1e6, 1) } ?? "null",
        ])
    }

    private func secondJSON(_ number: Int, _ second: Second) -> String {
        func micros(_ histogram: Histogram<UInt64>, _ percentile: Double) -> String {
            histogram.totalCount > 0
                ? Decimals.micros(histogram.valueAtPercentile(percentile)) : "null"
        }
        let (now, before) = (second.usage, second.before)
        let server = now.serverCPUSeconds.flatMap { now in
            before.serverCPUSeconds.map { Decimals.text(now - $0, 3) }
        }
        let written = Self.difference(now.writtenByteCount, before.writtenByteCount)
        return JSONText.object([
            "t": "\(number)",
            "produced": "\(second.produced.recordCount)",
            "consumed": "\(second.consumed.recordCount)",
            "produce_p50_us": micros(second.produced.latencies, 50),
            "produce_p99_us": micros(second.produced.latencies, 99),
            "consume_p50_us": micros(second.consumed.latencies, 50),
            "consume_p99_us": micros(second.consumed.latencies, 99),
            "server_cpu": server ?? "null",
            "client_cpu": Decimals.text(now.clientCPUSeconds - before.clientCPUSeconds, 3),
            "disk_mb": written.map { Decimals.text($0 / 1e6, 1) } ?? "null",
            "memory_mib": Self.mebibytes(now.memoryByteCount),
            "backlog": "\(second.backlog)",
        ])
    }

    private static func difference(_ now: Int?, _ before: Int?) -> Double? {
        guard let now, let before else { return nil }
        return Double(now - before)
    }

    private static func mebibytes(_ count: Int?) -> String {
        count.map { Decimals.text(Double($0) / 1_048_576, 1) } ?? "null"
    }
}
