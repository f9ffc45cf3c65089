import ArgumentParser

/// A duration on the command line: `5s`, `100ms`, `2h`, `7d`, or a number of seconds.
struct Span: ExpressibleByArgument, Hashable, Sendable, CustomStringConvertible {
    let duration: Duration

    init(_ duration: Duration) {
        self.duration = duration
    }

    init?(argument: String) {
        let digits = argument.prefix { $0.isNumber || $0 == "." }
        guard let number = Double(digits), number >= 0 else { return nil }
        let seconds: Double
        switch argument.dropFirst(digits.count) {
        case "us": seconds = 1e-6
        case "ms": seconds = 1e-3
        case "", "s": seconds = 1
        case "m": seconds = 60
        case "h": seconds = 3600
        case "d": seconds = 86400
        case "w": seconds = 7 * 86400
        default: return nil
        }
        guard number * seconds < 1e12 else { return nil }
        duration = .nanoseconds(Int64(number * seconds * 1e9))
    }

    /// The same in the largest unit that leaves no rest.
    var description: String {
        let millis = milliseconds
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)]
            as [(String, Int64)]
        where millis >= size && millis % size == 0 {
            return "\(millis / size)\(unit)"
        }
        return "\(millis)ms"
    }

    var defaultValueDescription: String { description }

    var milliseconds: Int64 {
        duration.components.seconds * 1000 + duration.components.attoseconds / 1_000_000_000_000_000
    }
}

/// A number of bytes on the command line: `1024`, `16k`, `10MiB`, `1GB` (k, M and G alone count in 1024).
struct Size: ExpressibleByArgument, Hashable, Sendable, CustomStringConvertible {
    let byteCount: Int

    init(_ byteCount: Int) {
        self.byteCount = byteCount
    }

    init?(argument: String) {
        let digits = argument.prefix { $0.isNumber || $0 == "." }
        guard let number = Double(digits), number >= 0 else { return nil }
        let factor: Double
        switch argument.dropFirst(digits.count).lowercased() {
        case "", "b": factor = 1
        case "k", "kib": factor = 1024
        case "m", "mib": factor = 1_048_576
        case "g", "gib": factor = 1_073_741_824
        case "t", "tib": factor = 1_099_511_627_776
        case "kb": factor = 1e3
        case "mb": factor = 1e6
        case "gb": factor = 1e9
        case "tb": factor = 1e12
        default: return nil
        }
        guard number * factor < 9e15 else { return nil }
        byteCount = Int(number * factor)
    }

    /// With three digits at most: `1.5 KiB`.
    var description: String {
        var value = Double(byteCount)
        for unit in ["B", "KiB", "MiB", "GiB"] {
            if value < 1024 { return Self.short(value) + " " + unit }
            value /= 1024
        }
        return Self.short(value) + " TiB"
    }

    var defaultValueDescription: String { description }

    private static func short(_ value: Double) -> String {
        let tenths = (value * 10).rounded()
        if value >= 100 || tenths.truncatingRemainder(dividingBy: 10) == 0 {
            return "\(Int(value.rounded()))"
        }
        return "\(Int(tenths) / 10).\(Int(tenths) % 10)"
    }
}

/// A rate on the command line: `1000`, `1000/s`, `50k/s`, `600/m`.
struct Rate: ExpressibleByArgument, Hashable, Sendable, CustomStringConvertible {
    let perSecond: Double

    init(perSecond: Double) {
        self.perSecond = perSecond
    }

    init?(argument: String) {
        let parts = argument.split(separator: "/", maxSplits: 1)
        guard let first = parts.first else { return nil }
        let digits = first.prefix { $0.isNumber || $0 == "." }
        guard let number = Double(digits), number > 0 else { return nil }
        let factor: Double
        switch first.dropFirst(digits.count).lowercased() {
        case "": factor = 1
        case "k": factor = 1e3
        case "m": factor = 1e6
        default: return nil
        }
        let seconds: Double
        switch parts.count > 1 ? parts[1] : "s" {
        case "s": seconds = 1
        case "m": seconds = 60
        case "h": seconds = 3600
        default: return nil
        }
        perSecond = number * factor / seconds
    }

    var description: String { "\(Decimals.text(perSecond, 0))/s" }

    var defaultValueDescription: String { description }
}
