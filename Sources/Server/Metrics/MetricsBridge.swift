package import CoreMetrics

/// Shows metrics of libraries, which speak swift-metrics, beside our own.
///
/// Dots and dashes of their names become underscores, counters end in `_total`, timers in
/// `_seconds`.
package struct MetricsBridge: MetricsFactory {
    private let registry: MetricsRegistry

    /// Puts what libraries measure into `registry`.
    package init(registry: MetricsRegistry) {
        self.registry = registry
    }

    package func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        let name = Self.name(label, suffix: "_total")
        return Counter(registry.counter(name, Self.help(label), labels: MetricLabels(dimensions)))
    }

    package func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        Meter(registry.gauge(Self.name(label), Self.help(label), labels: MetricLabels(dimensions)))
    }

    package func makeRecorder(
        label: String,
        dimensions: [(String, String)],
        aggregate: Bool
    ) -> any RecorderHandler {
        let labels = MetricLabels(dimensions)
        guard aggregate else {
            return GaugeRecorder(registry.gauge(Self.name(label), Self.help(label), labels: labels))
        }
        let layout = HistogramMetric.Layout(bounds: (0...15).map { 1 << (2 * $0) }, scale: 1)
        return HistogramRecorder(
            registry.histogram(Self.name(label), Self.help(label), layout, labels: labels)
        )
    }

    package func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        let name = Self.name(label, suffix: "_seconds")
        return Timer(
            registry.histogram(name, Self.help(label), .seconds, labels: MetricLabels(dimensions))
        )
    }

    // A destroyed handler's series stays: a metric that vanishes looks like a restart.
    package func destroyCounter(_ handler: any CounterHandler) {}
    package func destroyMeter(_ handler: any MeterHandler) {}
    package func destroyRecorder(_ handler: any RecorderHandler) {}
    package func destroyTimer(_ handler: any TimerHandler) {}

    private static func name(_ label: String, suffix: String = "") -> String {
        let name = sanitized(label)
        return name.hasSuffix(suffix) ? name : name + suffix
    }

    /// A name with underscores for what Prometheus does not take in one.
    static func sanitized(_ name: String) -> String {
        String(name.map { $0.isASCII && ($0.isLetter || $0.isNumber) || $0 == "_" ? $0 : "_" })
    }

    private static func help(_ label: String) -> String {
        "Measured by a library as \(label)."
    }

    private final class Counter: CounterHandler {
        let metric: CounterMetric

        init(_ metric: CounterMetric) {
            self.metric = metric
        }

        func increment(by amount: Int64) {
            metric.add(amount)
        }

        func reset() {
            metric.reset()
        }
    }

    private final class Meter: MeterHandler {
        let metric: GaugeMetric

        init(_ metric: GaugeMetric) {
            self.metric = metric
        }

        func set(_ value: Int64) {
            metric.set(Double(value))
        }

        func set(_ value: Double) {
            metric.set(value)
        }

        func increment(by amount: Double) {
            metric.add(amount)
        }

        func decrement(by amount: Double) {
            metric.add(-amount)
        }
    }

    private final class GaugeRecorder: RecorderHandler {
        let metric: GaugeMetric

        init(_ metric: GaugeMetric) {
            self.metric = metric
        }

        func record(_ value: Int64) {
            metric.set(Double(value))
        }

        func record(_ value: Double) {
            metric.set(value)
        }
    }

    private final class HistogramRecorder: RecorderHandler {
        let metric: HistogramMetric

        init(_ metric: HistogramMetric) {
            self.metric = metric
        }

        func record(_ value: Int64) {
            metric.record(value)
        }

        func record(_ value: Double) {
            metric.record(Int64(value.isFinite ? min(max(value, -1e18), 1e18) : 0))
        }
    }

    private final class Timer: TimerHandler {
        let metric: HistogramMetric

        init(_ metric: HistogramMetric) {
            self.metric = metric
        }

        func recordNanoseconds(_ duration: Int64) {
            metric.record(duration)
        }
    }
}
