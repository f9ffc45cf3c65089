import ArgumentParser
import FlotillaSimulation

/// What the words of a `flotilla sim` command line mean.
enum SimArguments {
    /// Reads `FIRST..LAST`.
    static func seeds(_ text: String) throws -> ClosedRange<UInt64> {
        guard let dots = text.firstRange(of: ".."),
            let first = number(text[..<dots.lowerBound]),
            let last = number(text[dots.upperBound...]), first <= last
        else { throw ValidationError("--seeds is FIRST..LAST, such as 1..1000") }
        return first...last
    }

    /// How many seeds one process runs: each leaves some megabytes behind, in brokers that refer to themselves.
    private static let seedsInProcess: UInt64 = 50

    /// The seeds of one process after the other, in order.
    static func parts(of seeds: ClosedRange<UInt64>) -> some Sequence<ClosedRange<UInt64>> {
        sequence(state: Optional(seeds.lowerBound)) { next in
            guard let first = next else { return nil }
            let (end, isTooFar) = first.addingReportingOverflow(seedsInProcess - 1)
            let last = isTooFar ? seeds.upperBound : min(end, seeds.upperBound)
            next = last < seeds.upperBound ? last + 1 : nil
            return first...last
        }
    }

    /// Digits and nothing else: `UInt64` reads a sign as well.
    private static func number(_ text: Substring) -> UInt64? {
        text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            ? UInt64(text) : nil
    }

    /// What a list of names means; `what` is the word for one of them.
    static func kinds<Kind: CaseIterable & Hashable & RawRepresentable<String>>(
        _ names: String,
        _ what: String
    ) throws -> Set<Kind> {
        switch names {
        case "all": return Set(Kind.allCases)
        case "none": return []
        default:
            let kinds = try names.split(separator: ",", omittingEmptySubsequences: false).map {
                name in
                guard let kind = Kind(rawValue: String(name)) else {
                    let known = Kind.allCases.map(\.rawValue).joined(separator: ", ")
                    throw ValidationError("no \(what) is called '\(name)'; there are \(known)")
                }
                return kind
            }
            return Set(kinds)
        }
    }

    /// The options that make a plan again.
    static func replay(_ plan: FaultPlan) -> [String] {
        [
            "--seed", "\(plan.seed)", "--brokers", "\(plan.brokerCount)",
            "--faults", FaultPlan.list(plan.faults),
            "--workloads", FaultPlan.list(plan.workloads),
        ] + (plan.hasAtlas ? [] : ["--no-atlas"])
    }
}

/// What all seeds of a command line have in common.
struct SimSetting {
    var faults: Set<FaultClass>
    var workloads: Set<WorkloadKind>
    var brokerCount: Int?
    var hasAtlas: Bool

    /// What a seed draws within it.
    func plan(of seed: UInt64) -> FaultPlan {
        var plan = FaultPlan(seed: seed, faults: faults, brokerCount: brokerCount)
        plan.workloads = workloads
        plan.hasAtlas = hasAtlas
        return plan
    }
}

/// How much a process tells of the seeds that it runs.
enum SimOutput: String, CaseIterable, ExpressibleByArgument {
    /// Of a broken promise what led to it.
    case quiet
    /// Every line of the transcripts as it happens.
    case lines
    /// Every event as well, before it happens.
    case events
}
