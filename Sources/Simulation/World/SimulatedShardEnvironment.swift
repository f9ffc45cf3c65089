import DequeModule
import FlotillaBroker
import FlotillaEnvironment
import FlotillaModel
import FlotillaStorage

/// One shard's world: its wishes become events.
final class SimulatedShardEnvironment: ShardEnvironment {
    let place: ShardPlace
    let workers: any Workers
    let links: SimulatedPeerLinks
    private unowned let world: World
    private let simulatedClock: SimulatedClock
    private var isTurnEndPlanned = false
    private var deadline: Instant?
    /// What other shards (by number) and the journal (the last lane) have posted.
    private var lanes: [Deque<ShardMessage>]
    private var lastArrivals: [Instant]
    /// How late the shard does what it has to do, at most.
    var slowness = Duration.zero

    init(_ place: ShardPlace, shardCount: Int, clock: SimulatedClock, world: World) {
        self.place = place
        self.world = world
        simulatedClock = clock
        workers = SimulatedWorkers(place, world: world)
        links = SimulatedPeerLinks(place, network: world.network)
        lanes = Array(repeating: [], count: shardCount + 1)
        lastArrivals = Array(repeating: .start, count: shardCount + 1)
    }

    var clock: any Clock { simulatedClock }

    var peers: any PeerLinks { links }

    /// How late the next thing is done.
    func lateness() -> Duration {
        slowness == .zero ? .zero : world.random.draw(.zero, slowness)
    }

    // MARK: Turns and timers

    func requestTurnEnd() {
        guard !isTurnEndPlanned else { return }
        isTurnEndPlanned = true
        world.schedule(.turnEnd(place), after: world.turnDelay() + lateness())
    }

    func turnEnds() { isTurnEndPlanned = false }

    func wake(at deadline: Instant) {
        if let earlier = self.deadline, earlier <= deadline { return }
        self.deadline = deadline
        let time = max(world.now, simulatedClock.worldTime(of: deadline)) + lateness()
        world.schedule(.timer(place, deadline: deadline), at: time)
    }

    /// Whether a timer is the one that counts.
    func takeTimer(_ deadline: Instant) -> Bool {
        guard deadline == self.deadline else { return false }
        self.deadline = nil
        return true
    }

    // MARK: Mail

    func post(_ message: ShardMessage, to shard: Int) {
        world.brokers[place.broker].environments[shard].enqueue(message, lane: place.shard)
    }

    /// Puts a message behind the others of its sender.
    func enqueue(_ message: ShardMessage, lane: Int) {
        lanes[lane].append(message)
        lastArrivals[lane] = max(lastArrivals[lane], world.now + world.mailDelay() + lateness())
        world.schedule(.mail(place, lane: lane), at: lastArrivals[lane])
    }

    func takeMail(lane: Int) -> ShardMessage? { lanes[lane].popFirst() }

    // MARK: The broker

    func submit(_ submissions: [JournalSubmission]) {
        world.brokers[place.broker].submit(submissions)
    }

    func release(_ group: GroupID, upTo index: LogIndex) {
        world.brokers[place.broker].release(group, upTo: index)
    }

    func fail(_ error: StorageError) {
        world.brokerFailed(place, error.description)
    }

    func log(_ event: BrokerEvent) {
        // Every shard says it of the one volume.
        if case .volume = event, place.shard > 0 { return }
        world.tell("broker \(place.broker + 1): \(event)")
        world.note(event, from: place)
    }
}

/// Threads whose work is done in an instant of the world's choice.
final class SimulatedWorkers: Workers {
    private let place: ShardPlace
    private unowned let world: World
    private var jobs: [Int: Job] = [:]
    private var nextNumber = 0

    private struct Job {
        /// Does the work, and returns what then happens on the shard.
        var work: () -> () -> Void
    }

    init(_ place: ShardPlace, world: World) {
        self.place = place
        self.world = world
    }

    func run<Output: Sendable>(
        _ work: @escaping @Sendable () -> Output,
        then completion: @escaping (Output) -> Void
    ) {
        add(after: world.workDelay(place.broker), work, completion)
    }

    func runInBackground<Output: Sendable>(
        _ work: @escaping @Sendable () -> Output,
        then completion: @escaping (Output) -> Void
    ) {
        add(after: world.workDelay(place.broker) * 2, work, completion)
    }

    private func add<Output: Sendable>(
        after delay: Duration,
        _ work: @escaping @Sendable () -> Output,
        _ completion: @escaping (Output) -> Void
    ) {
        let number = nextNumber
        nextNumber += 1
        jobs[number] = Job {
            let output = work()
            return { completion(output) }
        }
        world.schedule(.work(place, number: number), after: delay)
    }

    /// Does a job, and what its shard does with the result.
    func finish(_ number: Int) {
        guard let job = jobs.removeValue(forKey: number) else { return }
        job.work()()
    }

    /// The process ends: some of the work was done by then, and nobody hears of it.
    func die(using random: inout SeededRandom) {
        for number in jobs.keys.sorted() where random.chance(50) {
            _ = jobs[number]?.work()
        }
        jobs.removeAll()
    }
}
