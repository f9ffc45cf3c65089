import ArgumentParser
import FlotillaSimulation

/// `flotilla sim`: the whole cluster from one seed, with faults, every promise checked.
struct SimCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sim",
        abstract: "Run whole clusters under virtual time, with faults, from seeds",
        discussion: """
            Each seed draws a cluster of three to five brokers, which faults it meets and how often, and what clients do. The same \
            seed gives the same run everywhere. A broken promise ends the program with exit code 1, the seed, one sentence, the \
            last lines and events, and the smallest set of faults with which it still happens. So does a trap of the code under \
            test: seeds run in a process of their own.
            """
    )

    @Option(help: "One seed, run to its end.")
    var seed: UInt64?

    @Option(help: "Seeds to run, first..last; 1..100 without it.")
    var seeds: String?

    @Option(help: "Stop after so many minutes, whatever seeds are left.")
    var minutes: Double?

    @Option(
        help:
            "What goes wrong: all (of which each seed draws some), none, or names with commas between them."
    )
    var faults = "all"

    @Option(help: "What clients do: all, none, or names with commas between them.")
    var workloads = "all"

    @Option(help: "How many brokers, 3 to 9; 3 to 5, drawn by the seed, without it.")
    var brokers: Int?

    @Option(help: "Fail when there were fewer events in a second.")
    var gate: Int?

    @Flag(
        help: "Let disks of all brokers change what they hold: then what is lost must be reported."
    )
    var noAtlas = false

    @Flag(help: "Print every line of the transcript as it happens.")
    var trace = false

    /// Says that this process is the one that runs the seeds, for another one that reads its lines.
    @Option(help: .hidden)
    var child: SimOutput?

    /// Brokers without a majority of three hold nothing: topics have three replicas.
    private static let brokerCounts = 3...9
    /// More than anybody waits.
    private static let longestMinutes = 1_000_000.0

    func validate() throws {
        _ = try setting()
        _ = try seedRange()
        guard seed == nil || seeds == nil else {
            throw ValidationError("either --seed or --seeds, please")
        }
        if let brokers, !Self.brokerCounts.contains(brokers) {
            throw ValidationError("--brokers is a number from 3 to 9")
        }
        if let minutes, !(minutes > 0 && minutes <= Self.longestMinutes) {
            throw ValidationError("--minutes is a number above 0")
        }
        if let gate, gate < 0 { throw ValidationError("--gate is a number of events in a second") }
    }

    /// What all seeds have in common.
    func setting() throws -> SimSetting {
        SimSetting(
            faults: try SimArguments.kinds(faults, "fault"),
            workloads: try SimArguments.kinds(workloads, "workload"),
            brokerCount: brokers,
            hasAtlas: !noAtlas
        )
    }

    private func seedRange() throws -> ClosedRange<UInt64> {
        if let seed { return seed...seed }
        return try SimArguments.seeds(seeds ?? "1..100")
    }

    func run() throws {
        let (setting, seeds) = (try setting(), try seedRange())
        if let child {
            let limit = minutes.map { Duration.seconds($0 * 60) }
            return SimChild(output: child, setting: setting).run(seeds, within: limit)
        }
        SimProcess.askForReasons()
        do throws(CommandFailure) {
            let hunt = SimHunt(path: try DevProcess.ownPath(), setting: setting)
            try lead(hunt, seeds)
        } catch {
            throw error.report()
        }
    }

    /// Has the seeds run, and tells what came of it.
    private func lead(_ hunt: SimHunt, _ seeds: ClosedRange<UInt64>) throws(CommandFailure) {
        let start = ContinuousClock.now
        var result = SimHunt.Result()
        for part in SimArguments.parts(of: seeds) {
            let left = minutes.map { $0 - (ContinuousClock.now - start) / .seconds(60) }
            if let left, left <= 0 { break }
            let arguments = childArguments(part, left)
            try hunt.run(arguments, into: &result, onLine: trace ? { print($0) } : nil)
            if result.failure != nil { break }
        }
        if let (seed, failure) = result.failure {
            try hunt.tell(failure, of: seed)
            throw CommandFailure.failed("seed \(seed) breaks a promise")
        }
        let rate = result.tally.close(after: ContinuousClock.now - start)
        guard result.tally.seedCount > 0 else { throw CommandFailure.failed("no seed was run") }
        if let gate, rate < gate {
            throw CommandFailure.failed("\(rate) events in a second are fewer than \(gate)")
        }
    }

    /// The same command line for the process that runs the seeds.
    private func childArguments(_ seeds: ClosedRange<UInt64>, _ minutes: Double?) -> [String] {
        var words = ["--faults", faults, "--workloads", workloads]
        words += ["--seeds", "\(seeds.lowerBound)..\(seeds.upperBound)"]
        if let minutes { words += ["--minutes", "\(minutes)"] }
        if let brokers { words += ["--brokers", "\(brokers)"] }
        return words + (noAtlas ? ["--no-atlas"] : [])
    }
}

extension SimTally {
    /// Prints the lines of seeds that all held.
    ///
    /// - Returns: events in a second.
    func close(after elapsed: Duration) -> Int {
        let rate = Int(Double(eventCount) / max(elapsed / .seconds(1), 0.001))
        guard seedCount > 0 else { return rate }
        print(
            "\(seedCount) seeds, \(eventCount) events (\(rate)/s), \(virtualHours) virtual hours, "
                + "\(faults.values.reduce(0, +)) faults, \(acknowledgedCount) records acknowledged and \(seenCount) read: every promise held"
        )
        print("faults: " + faultNames.map { "\($0) \(faults[$0] ?? 0)" }.joined(separator: ", "))
        print("digest \(String(digest, radix: 16))")
        return rate
    }

    /// Hours with two digits.
    private var virtualHours: String {
        let hundredths = virtualNanoseconds / 36_000_000_000
        let fraction = hundredths % 100
        return "\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction)"
    }
}
