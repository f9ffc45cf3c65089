import FlotillaEnvironment
package import NIOCore

/// A few threads for blocking work, shared by all shards of a broker.
///
/// Jobs start in the order they were given. The queue is bounded by those who give jobs (a shard
/// has at most one cold read per waiting fetch and one batch per partition here), and its length is
/// a metric.
package final class WorkerPool: Sendable {
    private struct Queue {
        var jobs: [@Sendable () -> Void] = []
        var first = 0
        var isStopping = false

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

    private let queue = Monitor(Queue())
    private let threads: [OperatingThread]

    /// Starts the threads.
    package init(threadCount: Int) {
        precondition(threadCount > 0, "a pool without threads would never answer")
        let queue = queue
        threads = (0..<threadCount).map { number in
            OperatingThread(name: "worker-\(number)") {
                while let job = queue.wait(until: Self.take) ?? nil {
                    job()
                }
            }
        }
    }

    /// The next job; a nil inside says that the thread may end.
    private static func take(from queue: inout Queue) -> (@Sendable () -> Void)?? {
        if let job = queue.next() {
            return .some(job)
        }
        return queue.isStopping ? .some(nil) : nil
    }

    /// Runs `job` on some thread of the pool; after a stop it is dropped, since nobody waits for it.
    package func submit(_ job: @escaping @Sendable () -> Void) {
        queue.update { queue in
            guard !queue.isStopping else {
                return ((), wakes: false)
            }
            queue.jobs.append(job)
            return ((), wakes: true)
        }
    }

    /// The number of jobs that no thread has taken up yet.
    package var waitingCount: Int {
        queue.update { ($0.count, wakes: false) }
    }

    /// Runs what was given, then ends the threads.
    ///
    /// Blocks; called once.
    package func stop() {
        queue.update { queue in
            queue.isStopping = true
            return ((), wakes: false)
        }
        queue.wakeAll()
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
        let eventLoop = eventLoop
        let bound = NIOLoopBound(completion, eventLoop: eventLoop)
        pool.submit {
            let output = work()
            eventLoop.execute {
                bound.value(output)
            }
        }
    }
}
