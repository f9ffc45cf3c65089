import FlotillaSimulation

/// Runs seeds in another process, tells what came of them, and narrows down what failed.
struct SimHunt {
    /// The program that runs seeds.
    let path: String
    let setting: SimSetting

    /// What a run said before it ended.
    struct Failure {
        /// The broken promise.
        var sentence: String
        /// What led to it, oldest first.
        var transcript: [String]
        /// Whether the run had to be ended: then each further one would take as long.
        var isStuck = false
    }

    /// What came of a range of seeds.
    struct Result {
        var tally = SimTally()
        /// The seed that failed, and how.
        var failure: (seed: UInt64, Failure)?
    }

    /// The most lines and the most events that are kept of a run that ends with a trap.
    private static let keptCount = 100

    // MARK: Running

    /// Runs seeds until one fails, and adds what came of them; `onLine` gets the transcripts' lines as they happen.
    func run(
        _ arguments: [String],
        into result: inout Result,
        onLine: ((String) -> Void)? = nil
    ) throws(CommandFailure) {
        var seed: UInt64?
        var told: [String] = []
        var sentence: String?
        let output = onLine == nil ? SimOutput.quiet : .lines
        let process = try SimProcess(path, ["sim", "--child", output.rawValue] + arguments)
        var sum = result.tally
        let end = process.read { line in
            switch line {
            case .seed(let next):
                CommandOutput.note("running seed \(next)")
                (seed, told) = (next, [])
            case .told(let line): if let onLine { onLine(line) } else { told.append(line) }
            case .event: break
            case .held(let held):
                sum.add(held)
                seed = nil
            case .broken(let words): sentence = words
            }
            if onLine != nil { CommandOutput.flush() }
        }
        result.tally = sum
        switch end {
        case .died(let words):
            guard let seed else { throw CommandFailure.failed("between two seeds \(words)") }
            result.failure = (seed, try tellTrap(words, setting.plan(of: seed)))
        case .stuck:
            result.failure = (seed ?? 0, Self.stuck(told))
        case .done:
            guard let seed, let sentence else { break }
            result.failure = (seed, Failure(sentence: sentence, transcript: told))
        }
    }

    /// What a trap took with it is told by a second run, which writes each event before it happens.
    private func tellTrap(_ sentence: String, _ plan: FaultPlan) throws(CommandFailure) -> Failure {
        CommandOutput.note(
            "seed \(plan.seed) ends with \(sentence); running it again with its events"
        )
        let again = try attempt(plan, .events)
        return Failure(sentence: sentence, transcript: again?.transcript ?? [])
    }

    /// Runs one plan, a second time where a trap took with it what led to it.
    private func attemptTelling(_ plan: FaultPlan) throws(CommandFailure) -> Failure? {
        guard let failure = try attempt(plan, .quiet) else { return nil }
        return failure.transcript.isEmpty ? try tellTrap(failure.sentence, plan) : failure
    }

    /// Runs one plan; nil when every promise held.
    private func attempt(_ plan: FaultPlan, _ output: SimOutput) throws(CommandFailure) -> Failure?
    {
        var lines = Recent<String>(output == .events ? Self.keptCount : .max)
        var events = Recent<String>(Self.keptCount)
        var sentence: String?
        let arguments = ["sim", "--child", output.rawValue] + SimArguments.replay(plan)
        let end = try SimProcess(path, arguments).read { line in
            switch line {
            case .told(let line): lines.add(line)
            case .event(let line): events.add(line)
            case .broken(let words): sentence = words
            case .seed, .held: break
            }
        }
        switch end {
        case .died(let words): sentence = words
        case .stuck: return Self.stuck(lines.elements + events.elements)
        case .done: break
        }
        guard let sentence else { return nil }
        guard output == .events else {
            return Failure(sentence: sentence, transcript: lines.elements)
        }
        let transcript =
            ["-- the last lines"] + lines.elements + ["-- the last events"] + events.elements
        return Failure(sentence: sentence, transcript: transcript)
    }

    private static func stuck(_ transcript: [String]) -> Failure {
        let limit = SimProcess.patience.components.seconds
        return Failure(
            sentence: "the run does not end within \(limit) seconds of real time",
            transcript: transcript,
            isStuck: true
        )
    }

    // MARK: Telling

    /// Prints a failure, and the smallest part of its plan that fails in the same way.
    func tell(_ failure: Failure, of seed: UInt64) throws(CommandFailure) {
        for line in failure.transcript { print(line) }
        print("\nseed \(seed): \(failure.sentence)")
        guard !failure.isStuck else { return }
        print("shrinking ...")
        CommandOutput.flush()
        let whole = setting.plan(of: seed)
        let shrinker = Shrinker(whole) { (plan) throws(CommandFailure) in
            try attempt(plan, .quiet)?.sentence
        }
        guard let smallest = try shrinker.smallest(failingWith: failure.sentence) else {
            return print("seed \(seed) held the second time: the run is not deterministic")
        }
        let last = try attemptTelling(smallest)
        if (smallest.faults, smallest.workloads) != (whole.faults, whole.workloads) {
            for line in last?.transcript ?? [] { print(line) }
        }
        print(
            "\nstill fails with faults \(FaultPlan.list(smallest.faults)) and workloads \(FaultPlan.list(smallest.workloads)):"
        )
        print(last?.sentence ?? "every promise held this time: the run is not deterministic")
        print(
            "replay: flotilla sim \(SimArguments.replay(smallest).joined(separator: " ")) --trace"
        )
    }
}
