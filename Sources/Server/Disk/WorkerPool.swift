import FlotillaEnvironment
package import NIOCore

/// A few threads for blocking work, shared by all shards of a broker.
///
/// Jobs that somebody waits for start in the order they were given. Those in the background start in theirs when no other
/// waits, and never take all threads: one that waits for the disk cannot be put aside for what comes after it. The queues
/// are bounded by those who give jobs (a shard has at most one cold read per waiting fetch, one batch and one write or sync
/// per partition here), and their length is a metric.
package final class WorkerPool: Sendable {
    private struct Queue {
        var jobs: [@Sendable () -> Void] = []
        var first = 0

        var count: Int {
            jobs.count - first
        }

        mutating func next() -> (@Sendable () -> Void)? {
            guard first < jobs.count else {
                return nil
            }
            let job = jobs[first]
            first += 1
            // Done jobs leave in bulk, so that taking one stays cheap.
            if first == jobs.count {
                jobs.removeAll(keepingCapacity: jobs.count <= 1024)
                first = 0
            } else if first >= 1024 {
                jobs.removeFirst(first)
                first = 0
            }
            return job
        }
    }

    /// What one thread does next.
    private struct Task {
        var job: @Sendable () -> Void
        var isInBackground: Bool
    }

    private struct State {
        var awaited = Queue()
        var background = Queue()
        var runningInBackground = 0
        let backgroundLimit: Int
        var isStopping = false

        /// The next task; a nil inside says that the thread may end.
        mutating func next() -> Task?? {
            if let job = awaited.next() {
                return .some(Task(job: job, isInBackground: false))
            }
            if runningInBackground < backgroundLimit || isStopping, let job = background.next() {
                runningInBackground += 1
                return .some(Task(job: job, isInBackground: true))
            }
            return isStopping ? .some(nil) : nil
        }
    }

    private let state: Monitor<State>
    private let threads: [OperatingThread]

    /// Starts the threads.
    package init(threadCount: Int) {
        precondition(threadCount > 0, "a pool without threads would never answer")
        let state = Monitor(State(backgroundLimit: Self.backgroundLimit(of: threadCount)))
        self.state = state
        threads = (0..<threadCount).map { number in
            OperatingThread(name: "worker-\(number)") {
                while let task = state.wait(until: { $0.next() }) ?? nil {
                    task.job()
                    if task.isInBackground { Self.finishBackground(state) }
                }
            }
        }
    }

    /// How many threads may be in the background at a time: all but a quarter of them, and but one at least.
    package static func backgroundLimit(of threadCount: Int) -> Int {
        max(1, threadCount - max(1, threadCount / 4))
    }

    /// A job in the background has ended; one that the limit kept back may start on a thread that sleeps, since this one
    /// takes what somebody waits for first.
    private static func finishBackground(_ state: Monitor<State>) {
        state.update { state in
            state.runningInBackground -= 1
            return ((), wakes: state.background.count > 0)
        }
    }

    /// Runs `job` on some thread of the pool; after a stop it is dropped, since nobody waits for it.
    package func submit(inBackground: Bool = false, _ job: @escaping @Sendable () -> Void) {
        state.update { state in
            guard !state.isStopping else {
                return ((), wakes: false)
            }
            if inBackground {
                state.background.jobs.append(job)
            } else {
                state.awaited.jobs.append(job)
            }
            return ((), wakes: true)
        }
    }

    /// The number of jobs that no thread has taken up yet.
    package var waitingCount: Int {
        state.update { ($0.awaited.count + $0.background.count, wakes: false) }
    }

    /// Runs what was given, then ends the threads.
    ///
    /// Blocks; called once.
    package func stop() {
        state.update { state in
            state.isStopping = true
            return ((), wakes: false)
        }
        state.wakeAll()
        for thread in threads {
            thread.join()
        }
    }
}

/// The pool as one shard sees it: results come back on the shard's event loop.
package final class ShardWorkers: Workers {
    private let pool: WorkerPool
    private let eventLoop: any EventLoop

    /// Gives `eventLoop`'s shard access to the pool.
    package init(pool: WorkerPool, eventLoop: any EventLoop) {
        self.pool = pool
        self.eventLoop = eventLoop
    }

    package func run<Output: Sendable>(
        _ work: @escaping @Sendable () -> Output,
        then completion: @escaping (Output) -> Void
    ) {
        submit(work, inBackground: false, completion)
    }

    package func runInBackground<Output: Sendable>(
        _ work: @escaping @Sendable () -> Output,
        then completion: @escaping (Output) -> Void
    ) {
        submit(work, inBackground: true, completion)
    }

    private func submit<Output: Sendable>(
        _ work: @escaping @Sendable () -> Output,
        inBackground: Bool,
        _ completion: @escaping (Output) -> Void
    ) {
        let eventLoop = eventLoop
        let bound = NIOLoopBound(completion, eventLoop: eventLoop)
        pool.submit(inBackground: inBackground) {
            let output = work()
            eventLoop.execute {
                bound.value(output)
            }
        }
    }
}
