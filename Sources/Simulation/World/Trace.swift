import FlotillaEnvironment

/// What happened, as numbers that two runs of a seed must share, and the last lines for people.
struct Trace {
    private(set) var eventCount = 0
    private(set) var digest: UInt64 = 0xCBF2_9CE4_8422_2325
    private var lines: [String] = []
    private var oldest = 0
    /// Gets each line as it happens.
    var onLine: ((String) -> Void)?

    /// How many lines are kept.
    private static let lineLimit = 100

    mutating func note(_ time: Instant, _ words: UInt64...) {
        eventCount += 1
        mix(UInt64(bitPattern: time.nanoseconds))
        for word in words { mix(word) }
    }

    private mutating func mix(_ word: UInt64) {
        digest = (digest ^ word) &* 0x0000_0100_0000_01B3
        digest ^= digest >> 29
    }

    /// Adds a line to the transcript; its bytes count for the digest.
    mutating func tell(_ time: Instant, _ line: String) {
        let text = "\(Self.seconds(time)) \(line)"
        for byte in text.utf8 { mix(UInt64(byte)) }
        onLine?(text)
        if lines.count < Self.lineLimit {
            lines.append(text)
        } else {
            lines[oldest] = text
            oldest = (oldest + 1) % Self.lineLimit
        }
    }

    /// The last lines, oldest first.
    var transcript: [String] {
        Array(lines[oldest...] + lines[..<oldest])
    }

    private static func seconds(_ time: Instant) -> String {
        let microseconds = time.nanoseconds / 1_000
        let fraction = String(microseconds % 1_000_000)
        let padding = String(repeating: "0", count: 6 - fraction.count)
        return "\(microseconds / 1_000_000).\(padding)\(fraction)"
    }
}
