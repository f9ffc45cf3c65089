/// Runs blocking or long work away from the shard that asks, and brings the result back to it.
///
/// One instance belongs to one shard. The real one is a small pool of threads; the simulated one runs the work at a
/// point in virtual time of its own choice.
package protocol Workers: AnyObject {
    /// Runs `work` elsewhere, then `completion` on the shard that asked, in no particular order between calls.
    ///
    /// `work`: touches only what it captured; it may block.
    /// `completion`: runs on the shard, as a turn of its own or as part of one.
    func run<Output: Sendable>(
        _ work: @escaping @Sendable () -> Output,
        then completion: @escaping (Output) -> Void
    )
}
