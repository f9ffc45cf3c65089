import FlotillaEnvironment
import FlotillaSimulation
import Testing

@Suite("The simulator")
struct SimulationTests {
    private func run(_ seed: UInt64, faults: Set<FaultClass>) -> SimulationOutcome {
        var plan = FaultPlan(seed: seed, faults: faults)
        plan.duration = .seconds(6)
        return SimulationRun(plan).perform()
    }

    @Test(
        "Without faults every promise holds, and there is something to hold",
        arguments: 1...2 as ClosedRange<UInt64>
    )
    func calm(seed: UInt64) {
        let outcome = run(seed, faults: [])
        #expect(outcome.violation == nil)
        #expect(outcome.acknowledgedCount > 20 && outcome.seenCount > 20)
    }

    @Test("With faults every promise holds", arguments: 1...6 as ClosedRange<UInt64>)
    func storm(seed: UInt64) {
        let outcome = run(seed, faults: Set(FaultClass.allCases))
        #expect(outcome.violation == nil, "\(outcome.transcript.joined(separator: "\n"))")
    }

    @Test("A seed gives the same run twice")
    func replay() {
        let first = run(3, faults: Set(FaultClass.allCases))
        let second = run(3, faults: Set(FaultClass.allCases))
        #expect(first.digest == second.digest && first.eventCount == second.eventCount)
        #expect(run(4, faults: Set(FaultClass.allCases)).digest != first.digest)
    }
}
