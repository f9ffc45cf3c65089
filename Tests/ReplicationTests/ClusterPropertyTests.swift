import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// Whether to name each seed before it runs, for those that end in a trap: `FLOTILLA_REPLICA_TRACE`.
private let isTracing = unsafe getenv("FLOTILLA_REPLICA_TRACE") != nil

/// The seeds to run: the first 10, or as many as `FLOTILLA_REPLICA_SEEDS` says; `FLOTILLA_REPLICA_SEED` picks one.
private func seeds() -> [UInt64] {
    func number(_ name: String) -> UInt64? {
        guard let text = unsafe getenv(name) else { return nil }
        // Safe: getenv returns a terminated string, and nothing here changes the environment.
        return UInt64(unsafe String(cString: text))
    }
    if let seed = number("FLOTILLA_REPLICA_SEED") { return [seed] }
    return Array(1...max(number("FLOTILLA_REPLICA_SEEDS") ?? 10, 1))
}

@Suite("Replicas under faults")
struct ClusterPropertyTests {
    @Test(
        """
        Replicas lose nothing that was acknowledged, keep equal logs and equal states, and go on once the faults are \
        over
        """,
        arguments: [3, 5]
    )
    func promises(voterCount: Int) {
        var total = ClusterSimulation.Counts()
        for seed in seeds() {
            if isTracing { print("\(voterCount) voters, seed \(seed)") }
            let simulation = ClusterSimulation(seed: seed, voterCount: voterCount)
            let violations = simulation.run(faultTicks: 150, calmTicks: 300)
            #expect(
                violations.isEmpty,
                "replay with FLOTILLA_REPLICA_SEED=\(seed), \(voterCount) voters: \(violations)"
            )
            total.add(simulation.counts)
        }
        if isTracing { print(total) }
        if seeds().count >= 10 {
            let least = [
                total.acknowledged, total.unsettled, total.crashes, total.reads, total.transfers,
                total.membershipChanges, total.suspects, total.truncations,
            ].min()
            #expect(least ?? 0 > 0, "the faults and the work leave no path untried: \(total)")
        }
    }
}
