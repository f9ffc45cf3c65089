import FlotillaSimulation

/// A line by which a process that runs seeds tells another one what happens: a word, a tab and the rest.
///
/// All other lines are of the Swift runtime, when it ends the process.
enum SimLine {
    /// A seed begins.
    case seed(UInt64)
    /// A line of the transcript, as it happens or, after a broken promise, what is kept of it.
    case told(String)
    /// An event in words, before it happens.
    case event(String)
    /// A seed has ended, and every promise held.
    case held(SimTally)
    /// A seed has ended with a broken promise.
    case broken(String)

    /// Reads a line; nil for one of the runtime's.
    init?(_ line: String) {
        guard let tab = line.firstIndex(of: "\t") else { return nil }
        let rest = String(line[line.index(after: tab)...])
        switch line[..<tab] {
        case "seed":
            guard let seed = UInt64(rest) else { return nil }
            self = .seed(seed)
        case "told": self = .told(rest)
        case "event": self = .event(rest)
        case "held":
            guard let tally = SimTally(rest) else { return nil }
            self = .held(tally)
        case "broken": self = .broken(rest)
        default: return nil
        }
    }

    /// The line, with its end.
    var text: String {
        switch self {
        case .seed(let seed): "seed\t\(seed)\n"
        case .told(let line): "told\t\(line)\n"
        case .event(let line): "event\t\(line)\n"
        case .held(let tally): "held\t\(tally.text)\n"
        case .broken(let sentence): "broken\t\(sentence)\n"
        }
    }
}

/// Counts of one seed or of many.
struct SimTally: Equatable {
    var seedCount = 0
    var eventCount = 0
    var virtualNanoseconds: Int64 = 0
    var acknowledgedCount = 0
    var seenCount = 0
    /// Of all seeds in their order.
    var digest: UInt64 = 0
    /// How many faults there were, by name.
    var faults: [String: Int] = [:]

    init() {}

    /// The counts of one run.
    init(_ outcome: SimulationOutcome) {
        seedCount = 1
        eventCount = outcome.eventCount
        virtualNanoseconds = Int64(outcome.duration / .nanoseconds(1))
        acknowledgedCount = outcome.acknowledgedCount
        seenCount = outcome.seenCount
        digest = outcome.digest
        for (fault, count) in outcome.faultCounts { faults[fault.rawValue] = count }
    }

    /// Adds the counts of the next seed.
    mutating func add(_ next: SimTally) {
        seedCount += next.seedCount
        eventCount += next.eventCount
        virtualNanoseconds += next.virtualNanoseconds
        acknowledgedCount += next.acknowledgedCount
        seenCount += next.seenCount
        digest = (digest &* 31) ^ next.digest
        faults.merge(next.faults, uniquingKeysWith: +)
    }

    /// Reads what `text` writes.
    init?(_ text: String) {
        let words = text.split(separator: " ")
        let numbers = words.prefix(5).compactMap { Int64($0) }
        guard words.count >= 6, numbers.count == 5, let digest = UInt64(words[5], radix: 16) else {
            return nil
        }
        seedCount = Int(numbers[0])
        eventCount = Int(numbers[1])
        virtualNanoseconds = numbers[2]
        acknowledgedCount = Int(numbers[3])
        seenCount = Int(numbers[4])
        self.digest = digest
        for word in words.dropFirst(6) {
            let parts = word.split(separator: "=")
            guard parts.count == 2, let count = Int(parts[1]) else { return nil }
            faults[String(parts[0])] = count
        }
    }

    /// The counts on a line.
    var text: String {
        "\(seedCount) \(eventCount) \(virtualNanoseconds) \(acknowledgedCount) \(seenCount) \(String(digest, radix: 16))"
            + faultNames.map { " \($0)=\(faults[$0] ?? 0)" }.joined()
    }

    /// The names of the faults that there were.
    var faultNames: [String] { faults.keys.sorted() }
}
