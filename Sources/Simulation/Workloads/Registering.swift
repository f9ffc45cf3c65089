import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// A setting of a topic as a register: one writer, and readers everywhere.
///
/// What a broker says is done holds on that broker from then on, and in the end everywhere: an older value is never told again. A write
/// without an answer may still be done later, as long as brokers keep commands; and a broker that is far behind confirms a change
/// before it has it. Every value is written once, so a broker that has told another one since never tells it again in that life.
final class Registering: Workload {
    private static let topic = "register"
    private static let setting = "retention.ms"
    /// A confirmation that took longer may have come before the change was applied there.
    private static let patience = Duration.seconds(2)
    /// So long that nothing is ever deleted by age.
    private static let base: Int64 = 1_000_000_000_000

    private unowned let world: World
    private let client: SimulatedClient
    private var random: SeededRandom
    private var count: Int64 = 0
    /// The last value that was confirmed, and those that nobody knows about.
    private var confirmed: Int64 = 0
    private var unknown: Set<Int64> = []
    /// The writes without an answer that were done all the same, with when somebody was told so first.
    private var done: [Int64: Instant] = [:]
    /// What each broker has told.
    private var told: [Int: Told] = [:]
    private var isFinishing = false
    /// Brokers that have yet to tell the last value.
    private var outstanding: Set<Int> = []
    private var lastTold = "nothing"

    /// What a broker has told in one life of its process.
    private struct Told {
        var life: Int
        var value: Int64
        /// When it was told that first.
        var since: Instant
        /// What it told before.
        var past: Set<Int64> = []
    }

    /// The shards of a broker do not hear of a change in one moment, and each connection may end at another one.
    private static let shardLag = Duration.milliseconds(10)

    init(world: World) {
        self.world = world
        client = SimulatedClient("register", world: world)
        random = SeededRandom(seed: world.plan.seed ^ 0x4E61)
    }

    func start() { create() }

    func finish() {
        guard !isFinishing else { return }
        isFinishing = true
        outstanding = Set(world.brokers.indices)
        for broker in world.brokers.indices { readUntilCurrent(broker) }
    }

    /// In the end each of them is asked.
    let needsEveryBroker = true

    var whatIsLeft: String? {
        outstanding.min().map {
            "broker \($0 + 1) tells \(lastTold) of a register that was set to \(confirmed)"
        }
    }

    private var anyBroker: Int { random.draw(0...(world.brokers.count - 1)) }

    private func later(_ delay: Duration, _ body: @escaping (Registering) -> Void) {
        world.act("register", after: delay) { [weak self] in
            if let self { body(self) }
        }
    }

    /// In the end there is something to be told.
    private var isWriting: Bool { !isFinishing || confirmed == 0 }

    private func create() {
        guard isWriting else { return }
        let request = CreateTopicsRequest(
            topics: [.init(name: Self.topic, numPartitions: 1, replicationFactor: 3)],
            timeoutMs: 3_000
        )
        client.ask(request, version: 7, of: anyBroker) { [weak self] result in
            guard let self else { return }
            if case .success(let answer) = result,
                let code = answer.topics.first.map({ ErrorCode(rawValue: $0.errorCode) }),
                code == .noError || code == .topicAlreadyExists
            {
                return self.write()
            }
            self.later(.milliseconds(300)) { $0.create() }
        }
    }

    // MARK: Writing

    private func write() {
        guard isWriting else { return }
        count += 1
        let value = count
        let broker = anyBroker
        let life = world.brokers[broker].life
        let start = world.now
        unknown.insert(value)
        let request = IncrementalAlterConfigsRequest(resources: [
            .init(
                resourceType: 2,
                resourceName: Self.topic,
                configs: [
                    .init(name: Self.setting, configOperation: 0, value: "\(Self.base + value)")
                ]
            )
        ])
        client.ask(request, version: 1, of: broker) { [weak self] result in
            guard let self else { return }
            if case .success(let answer) = result, answer.responses.first?.errorCode == 0 {
                self.world.tell("broker \(broker + 1) confirms the register's value \(value)")
                self.confirmed = value
                self.unknown.remove(value)
                self.settle(before: start)
                if self.world.now - start < Self.patience { self.read(value, broker, life) }
            }
            self.ask(self.anyBroker) { _ in }
            self.later(self.random.draw(.milliseconds(20), .seconds(1))) { $0.write() }
        }
    }

    /// Who confirms a write that began after an earlier one was done has that one behind it.
    private func settle(before start: Instant) {
        unknown = unknown.filter { value in done[value].map { $0 >= start } ?? true }
    }

    // MARK: Reading

    private func ask(_ broker: Int, _ completion: @escaping (Int64?) -> Void) {
        let request = DescribeConfigsRequest(
            resources: [
                .init(
                    resourceType: 2,
                    resourceName: Self.topic,
                    configurationKeys: [Self.setting]
                )
            ]
        )
        let sent = world.now
        let life = world.brokers[broker].life
        client.ask(request, version: 4, of: broker, within: .seconds(1)) { [weak self] result in
            guard case .success(let answer) = result, let one = answer.results.first,
                one.errorCode == 0, let text = one.configs.first?.value, let value = Int64(text)
            else { return completion(nil) }
            self?.heard(value - Self.base, from: broker, life, askedAt: sent)
            completion(value - Self.base)
        }
    }

    /// A broker tells a value: never one that it has left behind.
    private func heard(_ value: Int64, from broker: Int, _ life: Int, askedAt sent: Instant) {
        if unknown.contains(value), done[value] == nil { done[value] = world.now }
        guard world.brokers[broker].life == life else { return }
        let now = Told(life: life, value: value, since: world.now)
        guard var known = told[broker], known.life == life else { return told[broker] = now }
        guard value != known.value, sent >= known.since + Self.shardLag else { return }
        known.past.insert(known.value)
        if known.past.contains(value) {
            world.violate(
                "broker \(broker + 1) told \(value) of the register, then \(known.value), and then \(value) again"
            )
        }
        known.value = value
        known.since = world.now
        told[broker] = known
    }

    private func mayBeTold(_ value: Int64, after confirmed: Int64) -> Bool {
        value >= confirmed || unknown.contains(value)
    }

    /// Reads what was confirmed by the same broker, in the same life of it.
    private func read(_ confirmed: Int64, _ broker: Int, _ life: Int) {
        ask(broker) { [weak self] value in
            guard let self, let value, self.world.brokers[broker].life == life,
                !self.mayBeTold(value, after: confirmed)
            else { return }
            self.world.violate(
                "broker \(broker + 1) confirmed that the register is \(confirmed), and then told \(value)"
            )
        }
    }

    private func readUntilCurrent(_ broker: Int) {
        guard confirmed > 0 else {
            return later(.milliseconds(200)) { $0.readUntilCurrent(broker) }
        }
        ask(broker) { [weak self] value in
            guard let self else { return }
            if let value, self.mayBeTold(value, after: self.confirmed) {
                self.outstanding.remove(broker)
                return
            }
            self.lastTold = value.map { "\($0)" } ?? "nothing"
            self.later(.milliseconds(200)) { $0.readUntilCurrent(broker) }
        }
    }
}
