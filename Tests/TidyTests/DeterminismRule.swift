/// Deterministic targets ask `Environment` for time, chance and work; they call nothing that answers differently twice.
enum DeterminismRule {
    static func findings(in source: SwiftSource) -> [Finding] {
        guard let target = House.target(ofPath: source.path), House.deterministic.contains(target)
        else { return [] }
        var findings: [Finding] = []
        for index in source.tokens.indices {
            guard let reason = reason(at: index, in: source.tokens) else { continue }
            let token = source.tokens[index]
            let problem = "`\(token.text)` in \(target), which is deterministic: \(reason)"
            findings.append(Finding(path: source.path, line: token.line, problem: problem))
        }
        return findings
    }

    /// Words that are wrong wherever they stand.
    private static let words: [String: String] = [
        "SystemRandomNumberGenerator": "take the seeded generator",
        "ContinuousClock": "time arrives as an Instant",
        "SuspendingClock": "time arrives as an Instant",
        "DispatchTime": "time arrives as an Instant",
        "gettimeofday": "time arrives as an Instant",
        "clock_gettime": "time arrives as an Instant",
        "async": "messages in, effects out",
        "await": "messages in, effects out",
        "MainActor": "state lives on its shard",
        "Mutex": "the data path takes no lock",
        "NIOLock": "the data path takes no lock",
        "NIOLockedValueBox": "the data path takes no lock",
        "NSLock": "the data path takes no lock",
        "Atomic": "the data path shares nothing",
        "DispatchQueue": "work goes to Workers",
        "Thread": "work goes to Workers",
        "pthread_create": "work goes to Workers",
        "ProcessInfo": "settings arrive as values",
        "CommandLine": "settings arrive as values",
        "getenv": "settings arrive as values",
        "hashValue": "hashes differ from process to process",
    ]

    /// Words that are wrong where they are called: `Date()` but not a type of our own that is named alike.
    private static let calls: [String: String] = [
        "Date": "time arrives as an Instant",
        "UUID": "ids are drawn from the seeded generator",
        "Task": "messages in, effects out",
        "Hasher": "hashes differ from process to process",
        "print": "only the executable writes to the terminal",
        "randomElement": "take the seeded generator",
        "shuffled": "take the seeded generator",
        "shuffle": "take the seeded generator",
        "random": "take the seeded generator",
    ]

    private static func reason(at index: Int, in tokens: [SwiftSource.Token]) -> String? {
        let token = tokens[index]
        if let reason = words[token.text] {
            return token.text == "await" && isCalled(at: index, in: tokens) ? nil : reason
        }
        if token.text == "actor" {
            return isDeclaration(at: index, in: tokens) ? "state lives on its shard" : nil
        }
        guard let reason = calls[token.text], isCalled(at: index, in: tokens) else { return nil }
        return isSeeded(at: index, in: tokens) || isDefinition(at: index, in: tokens) ? nil : reason
    }

    private static func text(_ index: Int, of tokens: [SwiftSource.Token]) -> String {
        tokens.indices.contains(index) ? tokens[index].text : ""
    }

    /// `actor Name`, as opposed to a value that is called `actor`.
    private static func isDeclaration(at index: Int, in tokens: [SwiftSource.Token]) -> Bool {
        guard let first = text(index + 1, of: tokens).unicodeScalars.first else { return false }
        return first.properties.isUppercase
    }

    private static func isDefinition(at index: Int, in tokens: [SwiftSource.Token]) -> Bool {
        text(index - 1, of: tokens) == "func"
    }

    /// `Name(`, and of a task also `Task {`, `Task.detached`, `Task<`; `await(` is the call of a function of that name.
    private static func isCalled(at index: Int, in tokens: [SwiftSource.Token]) -> Bool {
        let next = text(index + 1, of: tokens)
        let isTask = tokens[index].text == "Task"
        return next == "(" || (isTask && ["{", ".", "<"].contains(next))
    }

    /// Whether the argument list that opens after `index` names a generator: `random(in: 0..<n, using: &random)`.
    private static func isSeeded(at index: Int, in tokens: [SwiftSource.Token]) -> Bool {
        var depth = 0
        for token in tokens[(index + 1)...] {
            switch token.text {
            case "(": depth += 1
            case ")": depth -= 1
            case "using" where depth == 1: return true
            default: break
            }
            if depth == 0 {
                return false
            }
        }
        return false
    }
}
