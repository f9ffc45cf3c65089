import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// Whether to name each seed before it runs, for those that end in a trap: `FLOTILLA_RAFT_TRACE`.
private let isTracing = unsafe getenv("FLOTILLA_RAFT_TRACE") != nil

/// The seeds to run: the first 100, or as many as `FLOTILLA_RAFT_SEEDS` says; `FLOTILLA_RAFT_SEED`
/// picks one.
private func seeds() -> [UInt64] {
    func number(_ name: String) -> UInt64? {
        guard let text = unsafe getenv(name) else {
            return nil
        }
        // Safe: getenv returns a terminated string, and nothing here changes the environment.
        return UInt64(unsafe String(cString: text))
    }
    if let seed = number("FLOTILLA_RAFT_SEED") {
        return [seed]
    }
    return Array(1...max(number("FLOTILLA_RAFT_SEEDS") ?? 100, 1))
}

@Suite("Raft under faults")
struct RaftPropertyTests {
    @Test(
        "A group keeps its promises under loss, reordering, duplication and crashes, and goes on afterwards",
        arguments: [3, 5]
    )
    func promises(voterCount: Int) {
        var total = RaftSimulation.Counts()
        for seed in seeds() {
            if isTracing {
                print("\(voterCount) voters, seed \(seed)")
            }
            let simulation = RaftSimulation(seed: seed, voterCount: voterCount)
            let violations = simulation.run(faultTicks: 300, calmTicks: 400)
            #expect(
                violations.isEmpty,
                "replay with FLOTILLA_RAFT_SEED=\(seed), \(voterCount) voters: \(violations)"
            )
            total.add(simulation.counts)
        }
        if seeds().count >= 100 {
            // A world in which nothing happens proves nothing.
            let least = [
                total.truncations, total.installs, total.reads, total.transfers,
                total.membershipChanges, total.quiets, total.repairs,
            ].min()
            #expect(least ?? 0 > 0, "the faults and the work leave no path untried: \(total)")
        }
    }
}

extension RaftSimulation.Counts {
    mutating func add(_ other: RaftSimulation.Counts) {
        commits += other.commits
        leaders += other.leaders
        truncations += other.truncations
        installs += other.installs
        reads += other.reads
        transfers += other.transfers
        membershipChanges += other.membershipChanges
        quiets += other.quiets
        crashes += other.crashes
        repairs += other.repairs
    }
}
