package import Logging
import Synchronization

/// How log lines look.
package enum LogFormat: String, Hashable, Sendable {
    /// logfmt on a terminal, JSON elsewhere.
    case auto
    /// `key=value` pairs.
    case logfmt
    /// One JSON object per line.
    case json
}

/// From which level on lines are written, with exceptions for components.
package struct LogLevels: Hashable, Sendable {
    /// The level of components without one of their own.
    package var base = Logger.Level.info
    /// Components with a level of their own.
    package var components: [String: Logger.Level] = [:]

    /// Info for all.
    package init() {}

    /// Reads `info` or `info,journal=debug,raft=trace`; nil when it is neither.
    package init?(_ text: String) {
        var isFirst = true
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let sides = part.split(separator: "=", omittingEmptySubsequences: false).map {
                Self.trimmed($0)
            }
            guard let last = sides.last, let level = Logger.Level(rawValue: last.lowercased())
            else {
                return nil
            }
            switch sides.count {
            case 1 where isFirst: base = level
            case 2 where !sides[0].isEmpty: components[sides[0]] = level
            default: return nil
            }
            isFirst = false
        }
    }

    private static func trimmed(_ text: Substring) -> String {
        String(text.filter { $0 != " " })
    }
}

/// The levels in force; may be changed while the broker runs.
package final class LogControl: Sendable {
    // Guards the levels: any thread logs, an operator changes them.
    private let levels: Mutex<LogLevels>

    /// Starts with `levels`.
    package init(_ levels: LogLevels = LogLevels()) {
        self.levels = Mutex(levels)
    }

    /// The level of a component.
    package func level(of component: String) -> Logger.Level {
        levels.withLock { $0.components[component] ?? $0.base }
    }

    /// Replaces the levels from the next line on.
    package func set(_ levels: LogLevels) {
        self.levels.withLock { $0 = levels }
    }
}
