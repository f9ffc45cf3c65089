import FlotillaEnvironment
import FlotillaModel

/// Groups that process every record of a topic: members of both protocols, so that a group changes from one to the other as they come and go.
final class Processing: Workload {
    private static let topic = "processed"
    private static let partitionCount: Int32 = 3

    private unowned let world: World
    private let topics: TopicDirectory
    private let history: History
    private let checker: ProcessingChecker
    private let client: SimulatedClient
    private var random: SeededRandom
    private var groups: [String] = []
    private var members: [GroupClient] = []
    /// The topic, once it is there.
    private var id: TopicID?
    private var isFinishing = false

    /// How many steps of a hundred a member takes until it leaves: often enough for a group to change a few times in a run.
    private static let unrest = 5

    init(world: World, topics: TopicDirectory, history: History) {
        self.world = world
        self.topics = topics
        self.history = history
        checker = ProcessingChecker(world: world, history: history)
        client = SimulatedClient("processing", world: world)
        random = SeededRandom(seed: world.plan.seed ^ 0x9806)
        let groupChecker = GroupChecker(world: world)
        let owners = OwnershipChecker(world: world)
        for number in 0..<random.draw(1...2) {
            let group = "processors-\(number)"
            groups.append(group)
            for number in 0..<random.draw(1...2) {
                members.append(
                    SimulatedMember(
                        identity(group, "\(group)-classic-\(number)"),
                        partitionCount: Self.partitionCount,
                        seed: random.next(),
                        world: world,
                        checker: groupChecker,
                        owners: owners
                    )
                )
            }
            for number in 0..<random.draw(1...2) {
                members.append(
                    SimulatedConsumer(
                        identity(group, "\(group)-consumer-\(number)"),
                        seed: random.next(),
                        world: world,
                        checker: groupChecker,
                        owners: owners
                    )
                )
            }
        }
    }

    private func identity(_ group: String, _ name: String) -> GroupClient.Identity {
        GroupClient.Identity(
            group: group,
            name: name,
            topic: Self.topic,
            isStatic: random.chance(30)
        )
    }

    func start() {
        // Clocks jump by an hour at a time, and nothing may be too old.
        let configs = ["retention.ms": "-1"]
        client.create(Self.topic, partitions: Self.partitionCount, configs: configs, &random) {
            [weak self] in self?.begin($0)
        }
    }

    private func begin(_ id: TopicID) {
        let topic = TopicDirectory.Topic(
            name: Self.topic,
            id: id,
            partitionCount: Int(Self.partitionCount),
            isKept: true
        )
        self.id = id
        topics.add(topic)
        for member in members {
            member.unrest = Self.unrest
            member.processor = RecordProcessor(
                topic,
                of: member.group,
                name: member.name,
                world: world,
                topics: topics,
                history: history,
                checker: checker
            )
            member.start()
        }
    }

    func finish() {
        guard !isFinishing else { return }
        isFinishing = true
        for member in members { member.finish() }
    }

    var whatIsLeft: String? {
        guard let id else { return "the topic \(Self.topic) is not there" }
        if let left = members.lazy.compactMap(\.whatIsLeft).first { return left }
        for group in groups {
            for number in 0..<Self.partitionCount {
                let partition = TopicPartition(topic: id, partition: number)
                if let left = checker.whatIsLeft(of: partition, for: group) { return left }
            }
        }
        return nil
    }
}
