import Dispatch
import FlotillaServer
import NIOCore
import NIOPosix
import Synchronization
import Testing

@Suite("Threads for blocking work")
struct ThreadTests {
    /// A journal that records what it is asked, and waits in each round until the test lets it go
    /// on.
    final class RecordingRounds: JournalRounds {
        enum Event: Equatable {
            case round([Int])
            case idle
            case finish
        }

        struct DiskFailed: Error {}

        final class Script: Sendable {
            let events = Mutex<[Event]>([])
            let isHeld = Atomic(false)
            let roundsStarted = Atomic(0)
            let fails = Atomic(false)

            func note(_ event: Event) {
                events.withLock { $0.append(event) }
            }

            var noted: [Event] {
                events.withLock { $0 }
            }
        }

        let script: Script

        init(script: Script) {
            self.script = script
        }

        func performRound(_ requests: [Int]) throws {
            script.roundsStarted.add(1, ordering: .relaxed)
            while script.isHeld.load(ordering: .acquiring) {
                pauseBriefly()
            }
            if script.fails.load(ordering: .relaxed) {
                throw DiskFailed()
            }
            script.note(.round(requests))
        }

        func becomeIdle() throws -> Bool {
            script.note(.idle)
            return false
        }

        func finish() throws {
            script.note(.finish)
        }
    }

    @Test("While a round is in flight the next one gathers, in order")
    func groupCommit() throws {
        let script = RecordingRounds.Script()
        let thread = JournalThread(idleDelay: .seconds(60)) {
            RecordingRounds(script: script)
        } failed: { error in
            Issue.record(error)
        }
        script.isHeld.store(true, ordering: .releasing)
        thread.submit([1, 2])
        try waitUntil { script.roundsStarted.load(ordering: .relaxed) == 1 }
        thread.submit([3])
        thread.submit([])
        thread.submit([4, 5])
        #expect(thread.waitingCount == 3)
        script.isHeld.store(false, ordering: .releasing)
        thread.stop()
        thread.submit([6])
        #expect(thread.waitingCount == 0)
        #expect(script.noted == [.round([1, 2]), .round([3, 4, 5]), .finish])
    }

    @Test("A pause is noticed once, and again only after the next round")
    func idle() throws {
        let script = RecordingRounds.Script()
        let thread = JournalThread(idleDelay: .milliseconds(5)) {
            RecordingRounds(script: script)
        } failed: { error in
            Issue.record(error)
        }
        try waitUntil { script.noted == [.idle] }
        thread.submit([1])
        try waitUntil { script.noted == [.idle, .round([1]), .idle] }
        thread.stop()
        #expect(script.noted == [.idle, .round([1]), .idle, .finish])
    }

    @Test("A failed round ends the thread and says so, without another round or a clean finish")
    func failure() throws {
        let script = RecordingRounds.Script()
        let counter = Counter()
        let thread = JournalThread(idleDelay: .seconds(60)) {
            RecordingRounds(script: script)
        } failed: { error in
            #expect(error is RecordingRounds.DiskFailed)
            counter.increment()
        }
        script.fails.store(true, ordering: .relaxed)
        thread.submit([1])
        try waitUntil { counter.value == 1 }
        thread.submit([2])
        thread.stop()
        #expect(counter.value == 1)
        #expect(script.noted.isEmpty)
    }

    @Test("A worker's result comes back on the event loop that asked")
    func workers() async throws {
        let pool = WorkerPool(threadCount: 2)
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let loop = group.next()
        let promise = loop.makePromise(of: Int.self)
        loop.execute {
            let workers = ShardWorkers(pool: pool, eventLoop: loop)
            var results: [Int] = []
            for number in 0..<100 {
                workers.run(
                    { number * 2 },
                    then: { result in
                        loop.preconditionInEventLoop()
                        results.append(result)
                        if results.count == 100 {
                            promise.succeed(results.reduce(0, +))
                        }
                    }
                )
            }
        }
        #expect(try await promise.futureResult.get() == 9900)
        pool.stop()
        #expect(pool.waitingCount == 0)
        try await group.shutdownGracefully()
    }

    @Test("A pool that stops finishes what it was given")
    func stopping() {
        let pool = WorkerPool(threadCount: 1)
        let counter = Counter()
        for _ in 0..<3000 {
            pool.submit { counter.increment() }
        }
        pool.stop()
        #expect(counter.value == 3000)
        pool.submit { counter.increment() }
        #expect(pool.waitingCount == 0)
    }

    @Test("What somebody waits for overtakes the background, and one thread is kept for it")
    func background() {
        let pool = WorkerPool(threadCount: 2)
        let held = DispatchSemaphore(value: 0)
        let gate = DispatchSemaphore(value: 0)
        let order = Counter()
        // The one thread that the background gets is held; a second job of it must not take the other thread.
        pool.submit(inBackground: true) {
            held.signal()
            gate.wait()
        }
        #expect(held.wait(timeout: .now() + 10) == .success)
        pool.submit(inBackground: true) { order.increment() }
        let answered = DispatchSemaphore(value: 0)
        pool.submit { answered.signal() }
        #expect(answered.wait(timeout: .now() + 10) == .success)
        #expect(order.value == 0)
        #expect(pool.waitingCount == 1)
        gate.signal()
        pool.stop()
        #expect(order.value == 1)
    }

    @Test(
        "The background gets all threads but a quarter",
        arguments: [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (64, 48)]
    )
    func backgroundLimit(threadCount: Int, limit: Int) {
        #expect(WorkerPool.backgroundLimit(of: threadCount) == limit)
    }
}
