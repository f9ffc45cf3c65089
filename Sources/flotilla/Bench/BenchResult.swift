import Glibc
import Histogram

/// Nanoseconds of the monotonic clock, the same in every process of a machine.
enum Monotonic {
    static func now() -> UInt64 {
        var time = timespec()
        // Safe: the call writes one timespec, which lives until it returns.
        _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

extension RunRecorder {
    /// What was measured, as one line.
    func result(name: String, recordByteCount: Int) -> BenchResult {
        let (total, failures) = (total, failures)
        var result = BenchResult(name: name)
        result.seconds = Double(end - start) / 1e9
        result.recordCount = total.recordCount
        result.byteCount = total.recordCount * recordByteCount
        result.failureCount = failures.count
        result.firstError = failures.firstError
        if total.latencies.totalCount > 0 { result.latency = BenchResult.Latency(total.latencies) }
        return result
    }
}

/// One line of a report.
struct BenchResult {
    /// Nanoseconds.
    struct Latency {
        var p50: UInt64
        var p99: UInt64
        var p999: UInt64
        var max: UInt64
        var mean: Double

        init(_ histogram: Histogram<UInt64>) {
            p50 = histogram.valueAtPercentile(50)
            p99 = histogram.valueAtPercentile(99)
            p999 = histogram.valueAtPercentile(99.9)
            max = histogram.max
            mean = histogram.mean
        }
    }

    var name: String
    var seconds = 0.0
    var recordCount = 0
    var byteCount = 0
    var failureCount = 0
    var firstError: String?
    var latency: Latency?
    /// MB/s that the disk alone does, where it was asked for.
    var ceiling: Double?
    /// What the load was, as JSON values.
    var settings: [(String, String)] = []

    init(name: String) {
        self.name = name
    }

    /// Millions of bytes a second.
    var megabytesPerSecond: Double { seconds > 0 ? Double(byteCount) / seconds / 1e6 : 0 }
    var recordsPerSecond: Double { seconds > 0 ? Double(recordCount) / seconds : 0 }

    /// One object on one line; latencies in microseconds.
    var json: String {
        var members = [
            "\"bench\":\(JSONText.quoted(name))", "\"seconds\":\(Decimals.text(seconds, 3))",
            "\"records\":\(recordCount)", "\"bytes\":\(byteCount)",
            "\"records_per_second\":\(Decimals.text(recordsPerSecond, 1))",
            "\"mb_per_second\":\(Decimals.text(megabytesPerSecond, 3))",
            "\"failures\":\(failureCount)",
        ]
        if let latency {
            members += [
                "\"p50_us\":\(Decimals.micros(latency.p50))",
                "\"p99_us\":\(Decimals.micros(latency.p99))",
                "\"p999_us\":\(Decimals.micros(latency.p999))",
                "\"max_us\":\(Decimals.micros(latency.max))",
                "\"mean_us\":\(Decimals.text(latency.mean / 1000, 1))",
            ]
        }
        if let ceiling {
            members.append("\"disk_mb_per_second\":\(Decimals.text(ceiling, 3))")
            members.append(
                "\"share_of_disk\":\(Decimals.text(ceiling > 0 ? megabytesPerSecond / ceiling : 0, 4))"
            )
        }
        members += settings.map { JSONText.quoted($0.0) + ":" + $0.1 }
        return "{" + members.joined(separator: ",") + "}"
    }

    /// Several lines as a table.
    static func table(_ results: [BenchResult]) -> String {
        var table = Table(
            "BENCH",
            "RECORDS/S",
            "MB/S",
            "P50",
            "P99",
            "P99.9",
            "MAX",
            "FAILED",
            "DISK MB/S",
            "OF DISK"
        )
        for result in results {
            let latency = result.latency
            table.add(
                result.name,
                Decimals.text(result.recordsPerSecond, 0),
                Decimals.text(result.megabytesPerSecond, 2),
                latency.map { Decimals.span($0.p50) } ?? "",
                latency.map { Decimals.span($0.p99) } ?? "",
                latency.map { Decimals.span($0.p999) } ?? "",
                latency.map { Decimals.span($0.max) } ?? "",
                String(result.failureCount),
                result.ceiling.map { Decimals.text($0, 1) } ?? "",
                result.ceiling.map {
                    $0 > 0 ? Decimals.text(result.megabytesPerSecond / $0 * 100, 0) + "%" : ""
                } ?? ""
            )
        }
        return table.text
    }
}

/// Numbers with a fixed number of decimals, without a formatting library.
enum Decimals {
    static func text(_ value: Double, _ decimals: Int) -> String {
        guard value.isFinite, abs(value) < 1e15 else { return "0" }
        var scale = 1
        for _ in 0..<decimals { scale *= 10 }
        let scaled = Int((abs(value) * Double(scale)).rounded())
        let sign = value < 0 && scaled > 0 ? "-" : ""
        guard decimals > 0 else { return sign + String(scaled) }
        let fraction = String(scaled % scale)
        return sign + "\(scaled / scale)."
            + String(repeating: "0", count: decimals - fraction.count) + fraction
    }

    static func micros(_ nanos: UInt64) -> String {
        text(Double(nanos) / 1000, 1)
    }

    /// `850us`, `12.3ms`, `1.25s`.
    static func span(_ nanos: UInt64) -> String {
        switch nanos {
        case ..<1_000_000: text(Double(nanos) / 1e3, 0) + "us"
        case ..<1_000_000_000: text(Double(nanos) / 1e6, 1) + "ms"
        default: text(Double(nanos) / 1e9, 2) + "s"
        }
    }
}
