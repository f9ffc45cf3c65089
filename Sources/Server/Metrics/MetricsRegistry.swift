import Synchronization

/// The labels of a series, sorted by name.
package struct MetricLabels: Hashable, Sendable, ExpressibleByDictionaryLiteral {
    let pairs: [MetricLabel]

    /// Sorts labels by name; the last of equal names counts.
    package init(_ labels: [(String, String)]) {
        var byName: [String: String] = [:]
        for (name, value) in labels {
            byName[MetricsBridge.sanitized(name)] = value
        }
        pairs = byName.sorted { $0.key < $1.key }.map { MetricLabel(name: $0.key, value: $0.value) }
    }

    /// Labels as a literal.
    package init(dictionaryLiteral elements: (String, String)...) {
        self.init(elements)
    }

    /// No labels.
    package static let none = MetricLabels([])
}

/// One label.
struct MetricLabel: Hashable, Sendable {
    let name: String
    let value: String
}

/// A value that a collector read when it was asked.
package struct MetricSample: Sendable {
    /// What a value is.
    package enum Kind: String, Sendable {
        /// Only grows.
        case counter
        /// Goes up and down.
        case gauge
    }

    /// The metric's name, with its unit.
    package var name: String
    /// A sentence for people.
    package var help: String
    /// What the value is.
    package var kind: Kind
    /// The series within the metric.
    package var labels: MetricLabels
    /// The value, in the base unit.
    package var value: Double

    /// States a value.
    package init(
        _ name: String,
        _ kind: Kind,
        _ help: String,
        labels: MetricLabels = .none,
        _ value: Double
    ) {
        self.name = name
        self.help = help
        self.kind = kind
        self.labels = labels
        self.value = value
    }
}

/// All metrics of a broker.
///
/// Instruments are made once and used without a lock; each is found again by name and labels. A
/// metric has at most so many series; what would be beyond is counted in
/// `flotilla_metrics_dropped_series_total` and not shown.
package final class MetricsRegistry: Sendable {
    /// The most series of one metric.
    package static let seriesLimit = 1000

    enum Instrument: Sendable {
        case counter(CounterMetric)
        case gauge(GaugeMetric)
        case histogram(HistogramMetric)

        var typeName: String {
            switch self {
            case .counter: "counter"
            case .gauge: "gauge"
            case .histogram: "histogram"
            }
        }
    }

    struct Family: Sendable {
        let help: String
        let typeName: String
        var series: [MetricLabels: Instrument] = [:]
    }

    /// Reads values when metrics are asked for.
    package typealias Collector = @Sendable () async -> [MetricSample]

    private struct Contents {
        var families: [String: Family] = [:]
        var collectors: [Collector] = []
    }

    // Guards the tables of instruments, which are made at start or when a new label turns up; not
    // their values.
    private let contents = Mutex(Contents())
    private let dropped: CounterMetric

    /// Starts with one metric: the count of dropped series.
    package init() {
        dropped = CounterMetric()
        let droppedFamily = Family(
            help: "Series that were not kept since their metric had too many.",
            typeName: "counter",
            series: [.none: .counter(dropped)]
        )
        contents.withLock { $0.families["flotilla_metrics_dropped_series_total"] = droppedFamily }
    }

    /// The counter of this name and these labels; made if need be.
    package func counter(_ name: String, _ help: String, labels: MetricLabels = .none)
        -> CounterMetric
    {
        if case .counter(let counter) = instrument(
            name,
            help,
            labels,
            { .counter(CounterMetric()) }
        ) {
            return counter
        }
        preconditionFailure("\(name) is a counter everywhere")
    }

    /// The gauge of this name and these labels; made if need be.
    package func gauge(_ name: String, _ help: String, labels: MetricLabels = .none) -> GaugeMetric
    {
        if case .gauge(let gauge) = instrument(name, help, labels, { .gauge(GaugeMetric()) }) {
            return gauge
        }
        preconditionFailure("\(name) is a gauge everywhere")
    }

    /// The histogram of this name and these labels; made if need be.
    package func histogram(
        _ name: String,
        _ help: String,
        _ layout: HistogramMetric.Layout = .seconds,
        labels: MetricLabels = .none
    ) -> HistogramMetric {
        if case .histogram(let histogram) = instrument(
            name,
            help,
            labels,
            { .histogram(HistogramMetric(layout)) }
        ) {
            return histogram
        }
        preconditionFailure("\(name) is a histogram everywhere")
    }

    /// Adds a source of values that are read when metrics are asked for.
    package func addCollector(_ collector: @escaping Collector) {
        contents.withLock { $0.collectors.append(collector) }
    }

    /// Counts series that a source of values left out.
    package func droppedSeries(_ count: Int) { dropped.add(Int64(count)) }

    private func instrument(
        _ name: String,
        _ help: String,
        _ labels: MetricLabels,
        _ make: () -> Instrument
    ) -> Instrument {
        contents.withLock { contents in
            if let known = contents.families[name]?.series[labels] {
                return known
            }
            let instrument = make()
            var family =
                contents.families[name] ?? Family(help: help, typeName: instrument.typeName)
            guard family.series.count < Self.seriesLimit else {
                dropped.add()
                return instrument
            }
            family.series[labels] = instrument
            contents.families[name] = family
            return instrument
        }
    }

    /// Everything in the text format of Prometheus.
    package func exposition() async -> String {
        let (families, collectors) = contents.withLock { ($0.families, $0.collectors) }
        var writer = ExpositionWriter()
        for (name, family) in families {
            writer.add(family, named: name)
        }
        for collector in collectors {
            for sample in await collector() {
                writer.add(sample)
            }
        }
        return writer.text
    }
}
