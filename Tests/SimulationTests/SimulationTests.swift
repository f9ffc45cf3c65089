import FlotillaEnvironment
import FlotillaSimulation
import Testing

/// A few short runs; `make sim-short` has longer ones in a process of their own, where they keep no other test waiting.
@Suite("The simulator")
struct SimulationTests {
    private func run(_ seed: UInt64, faults: Set<FaultClass>) -> SimulationOutcome {
        var plan = FaultPlan(seed: seed, faults: faults, brokerCount: 3)
        plan.duration = .seconds(2)
        return SimulationRun(plan).perform()
    }

    @Test("Without faults every promise holds, and there is something to hold")
    func calm() {
        let outcome = run(1, faults: [])
        #expect(outcome.violation == nil)
        #expect(outcome.acknowledgedCount > 20 && outcome.seenCount > 20)
    }

    @Test("A seed gives the same run twice, and another one another")
    func replay() {
        let first = run(3, faults: Set(FaultClass.allCases))
        let second = run(3, faults: Set(FaultClass.allCases))
        #expect(first.violation == nil)
        #expect(first.digest == second.digest && first.eventCount == second.eventCount)
        #expect(run(1, faults: []).digest != first.digest)
    }
}
