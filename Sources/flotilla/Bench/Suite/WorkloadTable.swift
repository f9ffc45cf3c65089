import Histogram

/// Runs of workloads as a table: medians with the lowest and the highest.
enum WorkloadTable {
    static func text(_ measurements: [RunMeasurement]) -> String {
        var table = Table(
            "WORKLOAD",
            "RUNS",
            "RECORDS/S",
            "MB/S",
            "P50",
            "P99",
            "P99.9",
            "END TO END P99",
            "FAILED",
            "CPU S/GB"
        )
        for (name, runs) in grouped(measurements) {
            let rate = Spread(runs.map(\.producedPerSecond))
            let megabytes = Spread(runs.map { $0.megabytesPerSecond($0.producedPerSecond) })
            table.add(
                name,
                String(runs.count),
                Decimals.text(rate.median, 0),
                runs.count > 1
                    ? "\(Decimals.text(megabytes.median, 1)) (\(Decimals.text(megabytes.lowest, 1)) to \(Decimals.text(megabytes.highest, 1)))"
                    : Decimals.text(megabytes.median, 1),
                latency(runs, 50),
                latency(runs, 99),
                latency(runs, 99.9),
                latency(runs, 99, isEndToEnd: true),
                String(runs.reduce(0) { $0 + $1.failures.count }),
                cpu(runs)
            )
        }
        return table.text
    }

    /// In the order of their first runs.
    private static func grouped(_ all: [RunMeasurement]) -> [(String, [RunMeasurement])] {
        var names: [String] = []
        var runs: [String: [RunMeasurement]] = [:]
        for measurement in all {
            let name = measurement.workload.name
            if runs[name] == nil { names.append(name) }
            runs[name, default: []].append(measurement)
        }
        return names.map { ($0, runs[$0] ?? []) }
    }

    private static func latency(
        _ runs: [RunMeasurement],
        _ percentile: Double,
        isEndToEnd: Bool = false
    ) -> String {
        let histograms = runs.compactMap {
            isEndToEnd ? $0.consumed?.latencies : $0.produced.latencies
        }
        let values = histograms.filter { $0.totalCount > 0 }
            .map { Double($0.valueAtPercentile(percentile)) }
        return values.isEmpty
            ? Table.unknown : Decimals.span(UInt64(Spread(values).median))
    }

    private static func cpu(_ runs: [RunMeasurement]) -> String {
        let values = runs.compactMap(\.cpuSecondsPerGigabyte)
        return values.isEmpty ? Table.unknown : Decimals.text(Spread(values).median, 2)
    }
}

/// The middle of several values, and how far they lie apart.
struct Spread {
    let lowest: Double
    let median: Double
    let highest: Double

    init(_ values: [Double]) {
        precondition(!values.isEmpty, "a spread is of something")
        let sorted = values.sorted()
        lowest = sorted[0]
        highest = sorted[sorted.count - 1]
        let middle = sorted.count / 2
        median =
            sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }
}
