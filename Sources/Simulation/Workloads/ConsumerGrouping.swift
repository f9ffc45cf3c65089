import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// Groups of the consumer protocol: members that are told what to read, commit, go and come back, while the topic grows.
///
/// They read nothing, as in `Grouping`.
final class ConsumerGrouping: Workload {
    static let topic = "divided"
    private static let partitionCount: Int32 = 5

    private unowned let world: World
    private let client: SimulatedClient
    private var random: SeededRandom
    private var members: [SimulatedConsumer] = []
    private var isFinishing = false
    private let checker: GroupChecker
    /// The partitions that the topic has for certain.
    private var knownCount = partitionCount

    init(world: World) {
        self.world = world
        client = SimulatedClient("consumer groups", world: world)
        random = SeededRandom(seed: world.plan.seed ^ 0x848)
        checker = GroupChecker(world: world)
        let owners = OwnershipChecker(world: world)
        for group in 0..<random.draw(1...2) {
            for number in 0..<random.draw(1...4) {
                members.append(
                    SimulatedConsumer(
                        GroupClient.Identity(
                            group: "consumers-\(group)",
                            name: "consumer-\(group)-\(number)",
                            topic: Self.topic,
                            isStatic: random.chance(30)
                        ),
                        seed: random.next(),
                        world: world,
                        checker: checker,
                        owners: owners
                    )
                )
            }
        }
    }

    func start() {
        client.create(Self.topic, partitions: Self.partitionCount, &random) { [weak self] _ in
            guard let self else { return }
            self.members.forEach { $0.start() }
            self.grow(to: Self.partitionCount + 1)
        }
    }

    func finish() {
        guard !isFinishing else { return }
        isFinishing = true
        for member in members { member.finish() }
    }

    var whatIsLeft: String? {
        members.lazy.compactMap(\.whatIsLeft).first
            ?? checker.whatIsLeft(of: members, atLeast: Int(knownCount))
    }

    /// The topic gets more partitions now and then.
    private func grow(to count: Int32) {
        guard count <= Self.partitionCount + 3 else { return }
        let delay = random.draw(.seconds(2), .seconds(12))
        world.act("consumer groups", after: delay) { [weak self] in
            guard let self, !self.isFinishing else { return }
            let request = CreatePartitionsRequest(
                topics: [.init(name: Self.topic, count: count, assignments: nil)],
                timeoutMs: 3_000
            )
            let broker = self.random.draw(0...(self.world.brokers.count - 1))
            self.client.ask(request, version: 3, of: broker) { [weak self] result in
                if case .success(let answer) = result, answer.results.first?.errorCode == 0 {
                    self?.knownCount = count
                }
                // Whatever came of it: the next number is larger than what there is.
                self?.grow(to: count + 1)
            }
        }
    }
}
