import FlotillaBroker
import FlotillaEnvironment
import FlotillaModel
import FlotillaStorage

/// A clock that stands still until the test moves it.
final class VirtualClock: Clock, @unchecked Sendable {
    // Sendable because a test uses its broker from one thread.
    var now = Instant.start
    /// What the wall clock showed when the monotonic clock started.
    var startOfTime: Int64 = 1_700_000_000_000

    var wallTime: Timestamp { Timestamp(startOfTime + now.nanoseconds / 1_000_000) }
}

/// Work for other threads, done in its order and on the test's thread; held back while `isHeld`.
final class TestWorkers: Workers {
    var isHeld = false
    /// Whether a later job overtakes an earlier one, as several threads let it.
    var isNewestFirst = false
    private(set) var jobs: [() -> Void] = []

    func run<Output: Sendable>(
        _ work: @escaping @Sendable () -> Output,
        then completion: @escaping (Output) -> Void
    ) {
        jobs.append { completion(work()) }
    }

    /// Does the job whose turn it is, unless they are held back.
    func runOne(evenIfHeld: Bool = false) -> Bool {
        guard !isHeld || evenIfHeld, !jobs.isEmpty else { return false }
        let job = isNewestFirst ? jobs.removeLast() : jobs.removeFirst()
        job()
        return true
    }
}

/// One shard's world: mailbox, timer and journal are the broker's, the workers its own.
final class TestEnvironment: ShardEnvironment {
    let index: Int
    let workers: any Workers
    let testWorkers = TestWorkers()
    let links = TestPeerLinks()
    private(set) var events: [BrokerEvent] = []
    var wantsTurnEnd = false
    var deadline: Instant?
    private unowned let broker: TestBroker

    init(index: Int, broker: TestBroker) {
        self.index = index
        self.broker = broker
        workers = testWorkers
    }

    var clock: any Clock { broker.clock }

    var peers: any PeerLinks { links }

    func requestTurnEnd() { wantsTurnEnd = true }

    func wake(at deadline: Instant) {
        self.deadline = self.deadline.map { min($0, deadline) } ?? deadline
    }

    func post(_ message: ShardMessage, to shard: Int) { broker.post(message, to: shard) }

    func submit(_ submissions: [JournalSubmission]) { broker.submit(submissions) }

    func release(_ group: GroupID, upTo index: LogIndex) {
        broker.journal.release(group, upTo: index)
    }

    func fail(_ error: StorageError) { broker.failures.append(error) }

    func log(_ event: BrokerEvent) { events.append(event) }
}
