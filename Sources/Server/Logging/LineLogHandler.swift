import CFlotilla
import Glibc
package import Logging

/// Writes each message as one line, in one system call, to standard error or wherever it is told.
///
/// Keys come in the order `ts level component msg`, then `node` and the others by name. In logfmt a
/// value stands in quotes when it needs them; in JSON every value is a string.
package struct LineLogHandler: LogHandler {
    /// Where lines go; called from any thread, with the line's end included.
    package typealias Output = @Sendable (String) -> Void

    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    private let component: String
    private let isJSON: Bool
    private let control: LogControl
    private let output: Output
    private let now: @Sendable () -> Int64
    private var ownLevel: Logger.Level?

    /// Makes the handler of one component.
    ///
    /// - Parameters:
    ///   - component: the value of the key of that name on each line.
    ///   - isJSON: one JSON object per line instead of logfmt.
    ///   - control: the levels in force.
    ///   - now: the wall clock in milliseconds.
    ///   - output: where lines go.
    package init(
        component: String,
        isJSON: Bool,
        control: LogControl,
        now: @escaping @Sendable () -> Int64 = LineLogHandler.wallMilliseconds,
        output: @escaping Output = LineLogHandler.standardError
    ) {
        self.component = component
        self.isJSON = isJSON
        self.control = control
        self.now = now
        self.output = output
    }

    /// The level of the component, unless this logger was given one of its own.
    package var logLevel: Logger.Level {
        get { ownLevel ?? control.level(of: component) }
        set { ownLevel = newValue }
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var fields = metadata
        if let provided = metadataProvider?.get() {
            fields.merge(provided) { _, new in new }
        }
        if let given = event.metadata {
            fields.merge(given) { _, new in new }
        }
        if let error = event.error, fields[LogKey.error.rawValue] == nil {
            fields[LogKey.error.rawValue] = "\(error)"
        }
        var line = isJSON ? "{" : ""
        append("ts", Self.time(now()), to: &line, isFirst: true)
        append("level", event.level.rawValue, to: &line)
        append("component", component, to: &line)
        append("msg", event.message.description, to: &line)
        if let node = fields.removeValue(forKey: LogKey.node.rawValue) {
            append(LogKey.node.rawValue, node.description, to: &line)
        }
        for (key, value) in fields.sorted(by: { $0.key < $1.key }) {
            append(key, value.description, to: &line)
        }
        line += isJSON ? "}\n" : "\n"
        output(line)
    }

    private func append(
        _ key: String,
        _ value: String,
        to line: inout String,
        isFirst: Bool = false
    ) {
        if isJSON {
            line += isFirst ? "" : ","
            Self.appendQuoted(key, to: &line)
            line += ":"
            Self.appendQuoted(value, to: &line)
        } else {
            line += isFirst ? "" : " "
            line += key
            line += "="
            Self.appendLogfmt(value, to: &line)
        }
    }

    private static func appendLogfmt(_ value: String, to line: inout String) {
        let needsQuotes =
            value.isEmpty
            || value.unicodeScalars.contains {
                $0.value <= 0x20 || $0 == "\"" || $0 == "=" || $0 == "\\" || $0.value == 0x7F
            }
        if needsQuotes {
            appendQuoted(value, to: &line)
        } else {
            line += value
        }
    }

    /// Appends a JSON string; logfmt's readers take the same.
    private static func appendQuoted(_ text: String, to line: inout String) {
        line += "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": line += "\\\""
            case "\\": line += "\\\\"
            case "\n": line += "\\n"
            case "\r": line += "\\r"
            case "\t": line += "\\t"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F:
                line += "\\u00" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
            default: line.unicodeScalars.append(scalar)
            }
        }
        line += "\""
    }

    /// `2026-11-20T14:29:00.123Z` for milliseconds since 1970.
    ///
    /// - Source: Hinnant (2013), days to civil date.
    package static func time(_ milliseconds: Int64) -> String {
        let days = (Double(milliseconds) / 86_400_000).rounded(.down)
        let inDay = milliseconds - Int64(days) * 86_400_000
        let shifted = Int64(days) + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        let date = "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))"
        let seconds = inDay / 1000
        let clock =
            "\(padded(seconds / 3600, 2)):\(padded(seconds / 60 % 60, 2)):\(padded(seconds % 60, 2))"
        return "\(date)T\(clock).\(padded(inDay % 1000, 3))Z"
    }

    private static func padded(_ number: Int64, _ width: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }

    /// The wall clock in milliseconds.
    package static let wallMilliseconds: @Sendable () -> Int64 = {
        flotilla_wall_milliseconds()
    }

    /// Standard error: data goes to standard output, everything else here.
    package static let standardError: Output = { line in
        var line = line
        line.withUTF8 { bytes in
            // Safe: the buffer's own bounds. A line that cannot be written has nowhere else to go.
            _ = unsafe Glibc.write(2, bytes.baseAddress, bytes.count)
        }
    }
}

/// Makes the loggers of a broker's components; injected, never global.
package struct LogFactory: Sendable {
    /// The levels in force.
    package let control: LogControl
    private let isJSON: Bool
    private let metadata: Logger.Metadata

    /// Makes loggers of this format, with `node` on each line when it is known.
    package init(format: LogFormat, control: LogControl, metadata: Logger.Metadata = [:]) {
        self.control = control
        self.metadata = metadata
        isJSON =
            switch format {
            case .json: true
            case .logfmt: false
            case .auto: isatty(2) == 0
            }
    }

    /// The logger of a component: `server`, `kafka`, `http`, `journal`, `storage`, `raft`.
    package func logger(_ component: String) -> Logger {
        Logger(label: component) { label in
            var handler = LineLogHandler(component: label, isJSON: isJSON, control: control)
            handler.metadata = metadata
            return handler
        }
    }

    /// The same loggers with more on each line.
    package func with(_ metadata: Logger.Metadata) -> LogFactory {
        LogFactory(
            format: isJSON ? .json : .logfmt,
            control: control,
            metadata: self.metadata.merging(metadata) { _, new in new }
        )
    }
}
