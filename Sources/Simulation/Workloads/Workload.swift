import FlotillaEnvironment

/// Something that clients do all through a run.
protocol Workload: AnyObject {
    /// Begins; later steps are events.
    func start()

    /// Begins nothing new; what is under way comes to its end.
    func finish()

    /// What is still under way, in words; nil when all has come to its end.
    var whatIsLeft: String? { get }
}
