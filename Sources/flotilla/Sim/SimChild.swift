import FlotillaSimulation
import Glibc

/// The side that runs seeds, and writes every line at once: what it has said when a trap ends it is not lost.
struct SimChild {
    let output: SimOutput
    let setting: SimSetting

    /// Runs seeds up to the first that fails, and begins none when the time is over.
    func run(_ seeds: ClosedRange<UInt64>, within limit: Duration?) {
        let start = ContinuousClock.now
        for seed in seeds {
            if let limit, ContinuousClock.now - start > limit { return }
            say(.seed(seed))
            let outcome = SimulationRun(
                setting.plan(of: seed),
                onLine: output == .quiet ? nil : { say(.told($0)) },
                onEvent: output == .events ? { say(.event($0)) } : nil
            ).perform()
            guard let violation = outcome.violation else {
                say(.held(SimTally(outcome)))
                continue
            }
            if output != .events { for line in outcome.transcript { say(.told(line)) } }
            return say(.broken(violation))
        }
    }

    private func say(_ line: SimLine) {
        // A line break within a line would begin another one.
        let text = line.text.dropLast().split(separator: "\n").joined(separator: " ")
        _ = DevProcess.write(text + "\n", to: STDOUT_FILENO)
    }
}
