import FlotillaEnvironment
import Testing

@testable import FlotillaSimulation

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

    @Test(
        "A run that does not end is a broken promise, and its transcript tells what was drawn and what happened last"
    )
    func endless() throws {
        var plan = FaultPlan(seed: 1, faults: [.kill], brokerCount: 3)
        plan.duration = .seconds(2)
        var run = SimulationRun(plan)
        run.limits.eventCount = 20_000
        let outcome = run.perform()
        #expect(outcome.violation == "the run does not end: there were 20000 events")
        let lines = outcome.transcript
        let events = try #require(lines.firstIndex(of: "-- the last 100 events"))
        #expect(lines[..<events].contains { $0.contains("seed 1: 3 brokers with") })
        #expect(lines[events...].contains { $0.contains("request ") })
        #expect(lines[events...].contains { $0.contains("-- what is not as it should be") })
        #expect(lines.contains { $0.hasSuffix("VIOLATION: \(outcome.violation ?? "")") })
    }

    @Test("Events at one instant without an end are found")
    func standstill() {
        let world = World(FaultPlan(seed: 1, faults: []), limits: .init(instantCount: 1_000))
        func again() { world.act("again", after: .zero, again) }
        again()
        world.run(until: .start + .seconds(1))
        #expect(world.violation == "time stands still: there were 1000 events at one instant")
    }

    @Test("What does not fail any more is not the smallest, nor what fails in another way")
    func shrinking() throws {
        let plan = FaultPlan(seed: 1, faults: [.kill, .cut, .pause], brokerCount: 3)
        let shrinker = Shrinker(plan) { (plan: FaultPlan) throws(Never) -> String? in
            guard plan.has(.cut) else { return nil }
            return plan.has(.pause) ? "a-3 ends at 12 and at \(plan.faults.count)" : "a trap in 4"
        }
        let smallest = try #require(shrinker.smallest(failingWith: "b-7 ends at 1 and at 2"))
        #expect(smallest.faults == [.cut, .pause] && smallest.workloads.isEmpty)
        let holds = Shrinker(plan) { (_: FaultPlan) throws(Never) -> String? in nil }
        #expect(holds.smallest(failingWith: "anything") == nil)
    }

    @Test("A counted load does its work", arguments: CountedLoad.Work.allCases, [1, 3])
    func countedLoad(work: CountedLoad.Work, brokerCount: Int) throws {
        let load = CountedLoad(
            work,
            brokerCount: brokerCount,
            requestCount: 5,
            recordCount: 3,
            valueByteCount: 100
        )
        try load.perform()
    }
}
