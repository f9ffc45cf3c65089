import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// Consumer groups: members that join, share the partitions of a topic, commit, go and come back.
///
/// They read nothing: an offset is a number that only grows, so that a commit which goes back shows.
final class Grouping: Workload {
    private static let topic = "shared"
    private static let partitionCount: Int32 = 6

    private unowned let world: World
    private let client: SimulatedClient
    private var random: SeededRandom
    private var members: [SimulatedMember] = []
    private var isFinishing = false
    private let checker: GroupChecker

    init(world: World) {
        self.world = world
        client = SimulatedClient("groups", world: world)
        random = SeededRandom(seed: world.plan.seed ^ 0x6909)
        checker = GroupChecker(world: world)
        for group in 0..<random.draw(1...3) {
            for number in 0..<random.draw(1...4) {
                members.append(
                    SimulatedMember(
                        GroupClient.Identity(
                            group: "group-\(group)",
                            name: "member-\(group)-\(number)",
                            topic: Self.topic,
                            isStatic: random.chance(30)
                        ),
                        partitionCount: Self.partitionCount,
                        seed: random.next(),
                        world: world,
                        checker: checker
                    )
                )
            }
        }
    }

    func start() {
        client.create(Self.topic, partitions: Self.partitionCount, &random) { [weak self] _ in
            self?.members.forEach { $0.start() }
        }
    }

    func finish() {
        guard !isFinishing else { return }
        isFinishing = true
        for member in members { member.finish() }
    }

    var whatIsLeft: String? {
        members.lazy.compactMap(\.whatIsLeft).first
            ?? checker.whatIsLeft(of: members, atLeast: Int(Self.partitionCount))
    }
}
