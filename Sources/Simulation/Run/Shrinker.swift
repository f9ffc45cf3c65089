/// Looks for the smallest part of a failing run that still fails.
package struct Shrinker {
    private let plan: FaultPlan

    package init(_ plan: FaultPlan) {
        self.plan = plan
    }

    /// Switches kinds of faults and workloads off, one by one, as long as the run still fails.
    ///
    /// - Returns: the smallest failing plan, and what came of it.
    package func perform() -> (plan: FaultPlan, outcome: SimulationOutcome) {
        var smallest = plan
        var outcome = SimulationRun(plan).perform()
        guard outcome.violation != nil else { return (smallest, outcome) }
        for fault in plan.faults.sorted() {
            var smaller = smallest
            smaller.faults.remove(fault)
            let result = SimulationRun(smaller).perform()
            if result.violation != nil { (smallest, outcome) = (smaller, result) }
        }
        for workload in plan.workloads.sorted() {
            var smaller = smallest
            smaller.workloads.remove(workload)
            let result = SimulationRun(smaller).perform()
            if result.violation != nil { (smallest, outcome) = (smaller, result) }
        }
        return (smallest, outcome)
    }
}
