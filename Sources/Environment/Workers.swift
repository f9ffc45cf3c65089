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

    /// Like `run`, for work that nobody waits for: it comes behind all that somebody does wait for, and leaves room for it.
    ///
    /// Segments of a hundred partitions are written and synced in bursts. Behind one of those a batch that waits for its
    /// check, or a reader for a cold segment, would wait for all of it.
    func runInBackground<Output: Sendable>(
        _ work: @escaping @Sendable () -> Output,
        then completion: @escaping (Output) -> Void
    )
}

extension Workers {
    package func runInBackground<Output: Sendable>(
        _ work: @escaping @Sendable () -> Output,
        then completion: @escaping (Output) -> Void
    ) {
        run(work, then: completion)
    }
}
