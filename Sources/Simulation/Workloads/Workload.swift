import FlotillaEnvironment

/// Something that clients do all through a run.
protocol Workload: AnyObject {
    /// Begins; later steps are events.
    func start()

    /// Begins nothing new; what is under way comes to its end.
    func finish()

    /// What is still under way, in words; nil when all has come to its end.
    var whatIsLeft: String? { get }

    /// What has to happen in every run and did not, in words: without it the workload shows nothing; nil when it did.
    var whatIsMissing: String? { get }

    /// Whether it comes to its end only where all brokers can be reached.
    var needsEveryBroker: Bool { get }
}

extension Workload {
    var whatIsMissing: String? { nil }
    var needsEveryBroker: Bool { false }
}
