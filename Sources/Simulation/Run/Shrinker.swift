/// Looks for the smallest part of a failing run that still fails in the same way.
package struct Shrinker<Failure: Error> {
    private let plan: FaultPlan
    /// Runs a plan, and tells which promise it breaks.
    private let trial: (FaultPlan) throws(Failure) -> String?

    /// Describes the search.
    ///
    /// - Parameters:
    ///   - plan: what has failed.
    ///   - trial: runs a plan; the broken promise as a sentence, nil when all held.
    package init(_ plan: FaultPlan, trial: @escaping (FaultPlan) throws(Failure) -> String?) {
        self.plan = plan
        self.trial = trial
    }

    /// Switches kinds of faults and workloads off, one by one, as long as the run fails in the same way.
    ///
    /// - Parameter sentence: how it has failed.
    /// - Returns: the smallest plan that fails; nil where the whole one does not fail a second time.
    /// - Throws: what a trial throws.
    package func smallest(failingWith sentence: String) throws(Failure) -> FaultPlan? {
        guard try trial(plan) != nil else { return nil }
        var smallest = plan
        for fault in plan.faults.sorted() {
            var smaller = smallest
            smaller.faults.remove(fault)
            if try failsAlike(smaller, sentence) { smallest = smaller }
        }
        for workload in plan.workloads.sorted() {
            var smaller = smallest
            smaller.workloads.remove(workload)
            if try failsAlike(smaller, sentence) { smallest = smaller }
        }
        return smallest
    }

    private func failsAlike(_ plan: FaultPlan, _ sentence: String) throws(Failure) -> Bool {
        guard let other = try trial(plan) else { return false }
        return Self.kind(of: other) == Self.kind(of: sentence)
    }

    /// What two sentences about the same kind of failure share: their first words, but for those with a number in them.
    static func kind(of sentence: String) -> [Substring] {
        let words = sentence.split(separator: " ").filter { !$0.contains(where: \.isNumber) }
        return Array(words.prefix(kindLength))
    }

    private static var kindLength: Int { 4 }
}
