/// Writes metrics as Prometheus reads them: families sorted by name, series by labels.
///
/// - Source: Prometheus text exposition format 0.0.4.
struct ExpositionWriter {
    /// The content type of the format.
    static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    private struct Family {
        var help: String
        var typeName: String
        var lines: [(key: String, text: String)] = []
    }

    private var families: [String: Family] = [:]

    /// Adds instruments.
    mutating func add(_ family: MetricsRegistry.Family, named name: String) {
        for (labels, instrument) in family.series {
            let text =
                switch instrument {
                case .counter(let counter): Self.line(name, labels, "\(counter.value)")
                case .gauge(let gauge): Self.line(name, labels, Self.number(gauge.value))
                case .histogram(let histogram): Self.lines(name, labels, histogram)
                }
            insert(name, family.help, family.typeName, labels, text)
        }
    }

    /// Adds a value that was read just now.
    mutating func add(_ sample: MetricSample) {
        let text = Self.line(sample.name, sample.labels, Self.number(sample.value))
        insert(sample.name, sample.help, sample.kind.rawValue, sample.labels, text)
    }

    private mutating func insert(
        _ name: String,
        _ help: String,
        _ typeName: String,
        _ labels: MetricLabels,
        _ text: String
    ) {
        families[name, default: Family(help: help, typeName: typeName)].lines.append(
            (Self.rendered(labels), text)
        )
    }

    /// The whole text.
    var text: String {
        var text = ""
        for (name, family) in families.sorted(by: { $0.key < $1.key }) {
            text +=
                "# HELP \(name) \(Self.escaped(family.help, isLabel: false))\n# TYPE \(name) \(family.typeName)\n"
            for line in family.lines.sorted(by: { $0.key < $1.key }) {
                text += line.text
            }
        }
        return text
    }

    private static func line(_ name: String, _ labels: MetricLabels, _ value: String) -> String {
        "\(name)\(rendered(labels)) \(value)\n"
    }

    private static func lines(_ name: String, _ labels: MetricLabels, _ histogram: HistogramMetric)
        -> String
    {
        let (counts, sum) = histogram.contents
        var text = ""
        var total: Int64 = 0
        for (index, count) in counts.enumerated() {
            total += count
            let isLast = index == histogram.layout.bounds.count
            let bound =
                isLast
                ? "+Inf" : number(Double(histogram.layout.bounds[index]) * histogram.layout.scale)
            text += line("\(name)_bucket", labels.with("le", bound), "\(total)")
        }
        text += line("\(name)_sum", labels, number(sum))
        text += line("\(name)_count", labels, "\(total)")
        return text
    }

    private static func rendered(_ labels: MetricLabels) -> String {
        guard !labels.pairs.isEmpty else {
            return ""
        }
        let pairs = labels.pairs.map { "\($0.name)=\"\(escaped($0.value, isLabel: true))\"" }
        return "{" + pairs.joined(separator: ",") + "}"
    }

    /// Whole numbers without a fraction; the format's own words for what is none.
    private static func number(_ value: Double) -> String {
        if value.isNaN {
            return "NaN"
        }
        if value.isInfinite {
            return value < 0 ? "-Inf" : "+Inf"
        }
        if value == value.rounded(), abs(value) < 1e15 {
            return String(Int64(value))
        }
        // Products such as 2500000 * 1e-9 are not what a person would write: nine digits are enough
        // for a bound.
        let rounded = (value * 1e9).rounded() / 1e9
        return String(abs(value) >= 1e-6 && abs(value) < 1e6 ? rounded : value)
    }

    private static func escaped(_ text: String, isLabel: Bool) -> String {
        var escaped = ""
        for character in text.unicodeScalars {
            switch character {
            case "\\": escaped += "\\\\"
            case "\n": escaped += "\\n"
            case "\"" where isLabel: escaped += "\\\""
            default: escaped.unicodeScalars.append(character)
            }
        }
        return escaped
    }
}

extension MetricLabels {
    /// These labels and one more at the end, where readers expect `le`.
    fileprivate func with(_ name: String, _ value: String) -> MetricLabels {
        MetricLabels(sorted: pairs + [MetricLabel(name: name, value: value)])
    }

    private init(sorted pairs: [MetricLabel]) {
        self.pairs = pairs
    }
}
