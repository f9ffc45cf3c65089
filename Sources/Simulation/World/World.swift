import FlotillaBroker
import FlotillaEnvironment
import FlotillaModel

/// A cluster, its clients, a network and disks in one thread, under virtual time: all that happens follows from the seed.
final class World {
    let plan: FaultPlan
    private(set) var now = Instant.start
    var random: SeededRandom
    var trace = Trace()
    /// Gets each event in words before it happens.
    var onEvent: ((String) -> Void)?
    private(set) var brokers: [SimulatedBroker] = []
    private(set) lazy var network = SimulatedNetwork(world: self)
    private(set) lazy var clients = ClientNetwork(world: self)
    private var queue = EventQueue()
    private let limits: Limits
    /// How many events there were at this instant.
    private var instantCount = 0
    /// The first promise that was broken, as a sentence.
    private(set) var violation: String?
    /// The replicas of which a broker said that something is lost, and has not taken it back.
    var reported: Set<LossReport> = []
    /// The replicas of which a broker said that they have damage that could not be healed, lost for good or not.
    var unhealed: Set<LossReport> = []
    /// The replicas of which a broker found that they have damage, and since when it has not said what came of it.
    var untreated: [LossReport: Instant] = [:]
    /// The brokers that came back without what they had, and said so when they were taken in as other members.
    var forgetful: Set<Int> = []
    /// From when on a broker may lose its memory.
    var nextLoss = Instant.start
    /// Looks at a shard after each of its turns.
    var inspect: ((ShardPlace, SimulatedBroker, Shard) -> Void)?
    /// Looks at a broker before its process ends.
    var mourn: ((SimulatedBroker) -> Void)?

    /// The broker without which the others must come to rest; nil where all are to take part.
    var leftOut: Int?

    /// The brokers that found the cluster.
    var founders: [BrokerID] { (1...plan.brokerCount).map { BrokerID(Int32($0)) } }

    /// What a run may need at most until it counts as one that does not end.
    struct Limits {
        /// Of a run; those that come to their end have less than a tenth of it.
        var eventCount = 20_000_000
        /// At one instant, when time stands still.
        var instantCount = 1_000_000
    }

    init(_ plan: FaultPlan, limits: Limits = Limits()) {
        self.plan = plan
        self.limits = limits
        random = SeededRandom(seed: plan.seed)
        for number in 0..<plan.brokerCount {
            let drift = plan.has(.clockDrift) ? Int64(random.draw(-500...500)) : 0
            let clock = SimulatedClock(
                self,
                partsPerMillion: drift,
                offset: random.draw(.zero, .seconds(1_000))
            )
            brokers.append(
                SimulatedBroker(
                    number,
                    world: self,
                    shardCount: plan.shardCount,
                    clock: clock,
                    diskDelay: plan.diskDelay
                )
            )
        }
    }

    // MARK: Planning

    func schedule(_ event: Event, at time: Instant) {
        queue.add(event, at: time)
    }

    func schedule(_ event: Event, after delay: Duration) {
        queue.add(event, at: now + delay)
    }

    /// Plans a step that is neither a broker's nor the network's.
    func act(_ name: String, after delay: Duration, _ body: @escaping () -> Void) {
        schedule(.action(Action(name, body)), after: delay)
    }

    /// A line for the transcript.
    func tell(_ line: String) {
        trace.tell(now, line)
    }

    /// Keeps something for the transcript of a broken promise.
    func keep(_ what: SeenEvent.What) {
        let seen = SeenEvent(time: now, what: what)
        trace.keep(seen)
        onEvent?("\(now.seconds) \(words(seen))")
    }

    /// A promise is broken: the run ends.
    func violate(_ sentence: String) {
        guard violation == nil else { return }
        violation = sentence
        tell("VIOLATION: \(sentence)")
        trace.end()
    }

    /// Tells how all stands when no step is under way any more.
    func tellState() {
        for broker in brokers { tell(broker.report) }
        for line in network.report { tell(line) }
        EndChecker.describeReplicas(of: self)
    }

    // MARK: Delays

    func turnDelay() -> Duration { .nanoseconds(Int64(random.draw(1_000...40_000))) }

    func mailDelay() -> Duration { .nanoseconds(Int64(random.draw(500...60_000))) }

    func networkDelay() -> Duration { random.drawLongTailed(plan.networkDelay) }

    func workDelay(_ broker: Int) -> Duration { diskDelay(broker) }

    func syncDelay(_ broker: Int) -> Duration { diskDelay(broker) }

    private func diskDelay(_ broker: Int) -> Duration {
        min(random.drawLongTailed(brokers[broker].diskDelay), Self.longestDiskDelay)
    }

    /// A call to a disk ends some time: what hangs for longer is a disk that is gone.
    private static let longestDiskDelay = Duration.seconds(5)

    // MARK: Running

    /// Lets everything happen up to a point of time, or up to the first broken promise.
    func run(until end: Instant) {
        while violation == nil, let next = queue.nextTime, next <= end {
            guard let (time, event) = queue.popFirst() else { return }
            instantCount = time > now ? 0 : instantCount + 1
            now = max(now, time)
            perform(event)
            expectEnd()
        }
        if violation == nil { now = max(now, end) }
    }

    /// A run that goes on and on is a broken promise as well.
    private func expectEnd() {
        if trace.eventCount > limits.eventCount {
            violate("the run does not end: there were \(limits.eventCount) events")
        } else if instantCount > limits.instantCount {
            violate("time stands still: there were \(limits.instantCount) events at one instant")
        }
    }

    private func perform(_ event: Event) {
        if let broker = target(of: event), brokers[broker].isPaused {
            brokers[broker].held.append(event)
            return
        }
        keep(.event(event, bytes(of: event)))
        switch event {
        case .mail(let place, let lane):
            guard isAlive(place), let message = environment(place).takeMail(lane: lane) else {
                return
            }
            note(1, place, UInt64(lane))
            shard(place).receive([message])
            looked(at: place)
        case .turnEnd(let place):
            guard isAlive(place) else { return }
            note(2, place, 0)
            environment(place).turnEnds()
            shard(place).endTurn()
            looked(at: place)
        case .timer(let place, let deadline):
            guard isAlive(place), environment(place).takeTimer(deadline) else { return }
            note(3, place, 0)
            shard(place).runTimers()
            looked(at: place)
        case .work(let place, let number):
            guard isAlive(place), let workers = environment(place).workers as? SimulatedWorkers
            else { return }
            note(4, place, UInt64(number))
            workers.finish(number)
            if isAlive(place) { environment(place).requestTurnEnd() }
            looked(at: place)
        case .round(let broker, let life):
            guard brokers[broker].isUp, brokers[broker].life == life else { return }
            trace.note(now, 5, UInt64(broker))
            brokers[broker].roundEnds()
        case .frame(let link, let generation):
            trace.note(now, 6, UInt64(link))
            network.frameArrives(link, generation: generation)
        case .dial(let link, let count):
            trace.note(now, 7, UInt64(link))
            network.dialed(link, count: count)
        case .hangUp(let link, let generation):
            trace.note(now, 8, UInt64(link))
            network.hungUp(link, generation: generation)
        case .request(let connection):
            trace.note(now, 9, UInt64(connection))
            clients.requestArrives(connection)
        case .answer(let connection):
            trace.note(now, 10, UInt64(connection))
            clients.answerArrives(connection)
        case .action(let action):
            trace.note(now, 11)
            action.body()
        }
    }

    private func note(_ kind: UInt64, _ place: ShardPlace, _ detail: UInt64) {
        trace.note(now, kind, UInt64(place.broker), UInt64(place.shard), detail)
    }

    /// A shard has taken a step.
    func looked(at place: ShardPlace) {
        if isAlive(place) { inspect?(place, brokers[place.broker], shard(place)) }
    }

    /// The broker whose process an event needs.
    private func target(of event: Event) -> Int? {
        switch event {
        case .mail(let place, _), .turnEnd(let place), .timer(let place, _), .work(let place, _):
            place.broker
        case .round(let broker, _): broker
        case .frame(let link, _): network.links[link].target
        case .request(let connection): clients.broker(of: connection)
        case .dial, .hangUp, .answer, .action: nil
        }
    }

    private func shard(_ place: ShardPlace) -> Shard { brokers[place.broker].shards[place.shard] }

    private func environment(_ place: ShardPlace) -> SimulatedShardEnvironment {
        brokers[place.broker].environments[place.shard]
    }

    /// Whether a shard still lives in the life that is meant.
    func isAlive(_ place: ShardPlace) -> Bool {
        let broker = brokers[place.broker]
        return broker.isUp && broker.life == place.life
    }

    // MARK: Processes

    /// Starts all brokers on their disks as they are.
    func startAll() {
        for broker in brokers where !broker.isUp { broker.start() }
    }

    /// Ends a broker's process, and whoever talked to it finds out.
    func crash(_ number: Int, _ fate: MemoryDisk.CrashFate) {
        guard brokers[number].isUp else { return }
        mourn?(brokers[number])
        clients.letGo(of: number)
        brokers[number].crash(fate)
        network.resetAll(of: number)
        clients.brokerDied(number)
    }

    /// Ends all processes, so that nothing of the run stays in memory.
    func end() {
        // After a broken promise a broker may be in any state.
        guard violation == nil else { return }
        for number in brokers.indices { crash(number, .keepUnsynced) }
    }

    /// Starts a broker that is down.
    func restart(_ number: Int) {
        guard !brokers[number].isUp, !brokers[number].isOutside else { return }
        tell("broker \(number + 1) starts")
        brokers[number].start()
    }

    /// A failure after which a process ends itself.
    func brokerFailed(_ place: ShardPlace, _ reason: String) {
        guard isAlive(place) else { return }
        tell("broker \(place.broker + 1) ends itself: \(reason)")
        // Not in the middle of its own step.
        act("broker \(place.broker + 1) ends", after: .zero) { [unowned self] in
            guard self.isAlive(place) else { return }
            self.brokers[place.broker].noteSyncFailure()
            self.crash(place.broker, .keepUnsynced)
            self.act("restart", after: self.random.draw(.milliseconds(100), .seconds(2))) {
                [unowned self] in self.restart(place.broker)
            }
        }
    }

    /// A broker could not open what its disk holds; only a disk that fails at that moment excuses it.
    func startFailed(_ number: Int, _ error: any Error) {
        let disk = brokers[number].disk
        guard brokers[number].meetsDiskFaults || disk.capacity < .max else {
            return violate("broker \(number + 1) does not start: \(error)")
        }
        act("restart", after: .seconds(1)) { [unowned self] in self.restart(number) }
    }

    /// Stops a process, or lets it go on with what was to happen meanwhile.
    func pause(_ number: Int, _ isPaused: Bool) {
        let broker = brokers[number]
        guard broker.isUp, broker.isPaused != isPaused else { return }
        broker.isPaused = isPaused
        guard !isPaused else { return }
        let held = broker.held
        broker.held.removeAll()
        for event in held { schedule(event, at: now) }
    }
}
