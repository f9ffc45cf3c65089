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
            last events, and the smallest set of faults with which it still happens.
            """
    )

    @Option(help: "One seed, run to its end.")
    var seed: UInt64?

    @Option(help: "Seeds to run, first..last.")
    var seeds = "1..100"

    @Option(help: "Stop after so many minutes, whatever seeds are left.")
    var minutes: Double?

    @Option(help: "What may go wrong: all, none, or names with commas between them.")
    var faults = "all"

    @Option(help: "What clients do: all, none, or names with commas between them.")
    var workloads = "all"

    @Option(help: "How many brokers; 3 to 5, drawn by the seed without it.")
    var brokers: Int?

    @Flag(
        help: "Let disks of all brokers change what they hold: then what is lost must be reported."
    )
    var noAtlas = false

    @Flag(help: "Print every line of the transcript as it happens.")
    var trace = false

    func validate() throws {
        _ = try faultSet()
        _ = try workloadSet()
        _ = try seedRange()
        if let brokers, !(1...9).contains(brokers) {
            throw ValidationError("--brokers is a number from 1 to 9")
        }
    }

    private func faultSet() throws -> Set<FaultClass> {
        try Self.named(faults, "fault")
    }

    private func workloadSet() throws -> Set<WorkloadKind> {
        try Self.named(workloads, "workload")
    }

    /// What a list of names means; `what` is the word for one of them.
    private static func named<Kind: CaseIterable & Hashable & RawRepresentable<String>>(
        _ names: String,
        _ what: String
    ) throws -> Set<Kind> {
        switch names {
        case "all": return Set(Kind.allCases)
        case "none": return []
        default:
            let kinds = try names.split(separator: ",").map { name in
                guard let kind = Kind(rawValue: String(name)) else {
                    let known = Kind.allCases.map(\.rawValue).joined(separator: ", ")
                    throw ValidationError("no \(what) is called \(name); there are \(known)")
                }
                return kind
            }
            return Set(kinds)
        }
    }

    private func seedRange() throws -> ClosedRange<UInt64> {
        if let seed { return seed...seed }
        let parts = seeds.split(separator: ".", omittingEmptySubsequences: true)
        guard let first = parts.first.flatMap({ UInt64($0) }),
            let last = parts.last.flatMap({ UInt64($0) }), parts.count <= 2, first <= last
        else { throw ValidationError("--seeds is FIRST..LAST, such as 1..1000") }
        return first...last
    }

    func run() throws {
        let faults = try faultSet()
        let clock = ContinuousClock()
        let start = clock.now
        var report = SimReport()
        for seed in try seedRange() {
            if let minutes, clock.now - start > .seconds(minutes * 60) { break }
            var plan = FaultPlan(seed: seed, faults: faults, brokerCount: brokers)
            plan.workloads = try workloadSet()
            plan.hasAtlas = !noAtlas
            CommandOutput.note("running seed \(seed)")
            let outcome = SimulationRun(plan, onLine: trace ? { print($0) } : nil).perform()
            report.add(outcome)
            if let violation = outcome.violation {
                report.tell(violation, outcome, plan)
                throw ExitCode(1)
            }
        }
        report.close(after: clock.now - start)
    }
}

/// Counts over all seeds, and the lines that people read.
private struct SimReport {
    private var seedCount = 0
    private var eventCount = 0
    private var virtualTime = Duration.zero
    private var acknowledgedCount = 0
    private var seenCount = 0
    private var digest: UInt64 = 0

    mutating func add(_ outcome: SimulationOutcome) {
        seedCount += 1
        eventCount += outcome.eventCount
        virtualTime += outcome.duration
        acknowledgedCount += outcome.acknowledgedCount
        seenCount += outcome.seenCount
        digest = (digest &* 31) ^ outcome.digest
    }

    func tell(_ violation: String, _ outcome: SimulationOutcome, _ plan: FaultPlan) {
        for line in outcome.transcript { print(line) }
        print("\nseed \(outcome.seed): \(violation)")
        print("shrinking ...")
        let (smallest, result) = Shrinker(plan).perform()
        let faults = Self.list(smallest.faults.sorted().map(\.rawValue))
        let workloads = Self.list(smallest.workloads.sorted().map(\.rawValue))
        print("still fails with faults \(faults) and workloads \(workloads):")
        print(result.violation ?? "")
        print(
            "replay: flotilla sim --seed \(outcome.seed) --brokers \(smallest.brokerCount) --faults \(faults) "
                + "--workloads \(workloads)\(smallest.hasAtlas ? "" : " --no-atlas") --trace"
        )
    }

    private static func list(_ names: [String]) -> String {
        names.isEmpty ? "none" : names.joined(separator: ",")
    }

    func close(after elapsed: Duration) {
        let seconds =
            Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) / 1e18
        let rate = Int(Double(eventCount) / max(seconds, 0.001))
        print(
            "\(seedCount) seeds, \(eventCount) events (\(rate)/s), \(virtualTime.components.seconds) virtual seconds, "
                + "\(acknowledgedCount) records acknowledged and \(seenCount) read: every promise held"
        )
        print("digest \(String(digest, radix: 16))")
    }
}
