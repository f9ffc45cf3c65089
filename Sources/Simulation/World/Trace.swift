import FlotillaEnvironment

/// What happened, as numbers that two runs of a seed must share, and the last lines and events for people.
struct Trace {
    private(set) var eventCount = 0
    private(set) var digest: UInt64 = 0xCBF2_9CE4_8422_2325
    private var lines = Recent<String>(Self.lineLimit)
    private var events = Recent<SeenEvent>(Self.eventLimit)
    /// How all stood when a promise was broken, and what was told afterwards; nil before.
    private var state: [String]?
    /// Gets each line as it happens.
    var onLine: ((String) -> Void)?

    /// How many lines are kept.
    private static let lineLimit = 100
    /// How many events are kept.
    private static let eventLimit = 100
    /// How many lines describe the state after a broken promise.
    private static let stateLimit = 300

    mutating func note(_ time: Instant, _ words: UInt64...) {
        eventCount += 1
        mix(UInt64(bitPattern: time.nanoseconds))
        for word in words { mix(word) }
    }

    private mutating func mix(_ word: UInt64) {
        digest = (digest ^ word) &* 0x0000_0100_0000_01B3
        digest ^= digest >> 29
    }

    /// Keeps an event; it is put into words only when a promise is broken.
    mutating func keep(_ event: SeenEvent) {
        if state == nil { events.add(event) }
    }

    /// Adds a line to the transcript; its bytes count for the digest.
    mutating func tell(_ time: Instant, _ line: String) {
        let text = "\(time.seconds) \(line)"
        for byte in text.utf8 { mix(UInt64(byte)) }
        onLine?(text)
        guard let state else { return lines.add(text) }
        if state.count < Self.stateLimit { self.state?.append(text) }
    }

    /// From now on lines describe a state, and push nothing of what led to it out of the transcript.
    mutating func end() {
        if state == nil { state = [] }
    }

    /// The last lines, the last events and the state after them, oldest first.
    func transcript(_ words: (SeenEvent) -> String) -> [String] {
        let events = self.events.elements.map { "\($0.time.seconds) \(words($0))" }
        return ["-- the last lines"] + lines.elements
            + ["-- the last \(events.count) events"] + events
            + (state.map { $0.isEmpty ? [] : ["-- what is not as it should be"] + $0 } ?? [])
    }
}

extension Instant {
    /// Seconds and microseconds, as all lines of a transcript show them.
    var seconds: String {
        let microseconds = nanoseconds / 1_000
        let fraction = String(microseconds % 1_000_000)
        let padding = String(repeating: "0", count: 6 - fraction.count)
        return "\(microseconds / 1_000_000).\(padding)\(fraction)"
    }
}
