import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// What consumers of both group protocols do alike: they look for their coordinator, read offsets and commit.
class GroupClient {
    unowned let world: World
    let checker: GroupChecker
    var random: SeededRandom
    private let identity: Identity
    private let client: SimulatedClient
    /// Reads the records that it commits; nil for one that only counts.
    var processor: RecordProcessor?
    /// How many steps of a hundred end with its leaving, and how many with its falling silent.
    var unrest = 2

    var coordinator: Int?
    var id = ""
    /// Its generation, or its epoch.
    var generation: Int32 = -1
    /// What it has committed, by partition; empty while it has no share.
    var positions: [Int32: Int64] = [:]
    /// What it committed last, which it may say again in a later generation.
    private var lastCommit: OffsetCommitRequest?
    /// What the last stage of its life was, in words.
    var stage = "has not begun"
    private(set) var isFinishing = false
    /// Whether it has committed and read that back since nothing fails any more.
    var isDone = false
    /// Its life has gone another way since: an answer with another number is void.
    var turn = 0

    /// Who it is.
    struct Identity {
        var group: String
        /// The name that it keeps, for itself and for the coordinator if it is static.
        var name: String
        /// The topic whose partitions are shared.
        var topic: String
        var isStatic: Bool
    }

    init(_ identity: Identity, seed: UInt64, world: World, checker: GroupChecker) {
        self.world = world
        self.checker = checker
        self.identity = identity
        client = SimulatedClient(identity.name, world: world)
        random = SeededRandom(seed: seed)
    }

    var group: String { identity.group }
    var name: String { identity.name }
    var topic: String { identity.topic }
    var isStatic: Bool { identity.isStatic }

    func start() { find() }

    /// From now on it only has to commit once more, in peace.
    func finish() {
        isFinishing = true
        isDone = false
    }

    var whatIsLeft: String? {
        isDone ? nil : "\(name) of \(group), generation \(generation), \(stage)"
    }

    /// It knows its coordinator.
    func found() { preconditionFailure("each protocol goes on in its own way") }

    /// Goes on after an error as client libraries do.
    func recover(from code: Int16) { preconditionFailure("each protocol has its own errors") }

    // MARK: Asking

    func later(_ delay: Duration, _ body: @escaping () -> Void) {
        let turn = turn
        world.act(name, after: delay) { [weak self] in
            if let self, self.turn == turn { body() }
        }
    }

    func ask<Request: KafkaRequest>(
        _ request: Request,
        version: Int16,
        within timeout: Duration = .seconds(4),
        then completion: @escaping (Request.Response) -> Void
    ) {
        let turn = turn
        client.ask(request, version: version, of: coordinator ?? anyBroker, within: timeout) {
            [weak self] result in
            guard let self, self.turn == turn else { return }
            switch result {
            case .success(let answer): completion(answer)
            case .failure: self.find()
            }
        }
    }

    private var anyBroker: Int { random.draw(0...(world.brokers.count - 1)) }

    func find() {
        stage = "looks for its coordinator"
        turn += 1
        coordinator = nil
        later(random.draw(.milliseconds(10), .milliseconds(200))) { [unowned self] in
            self.ask(
                FindCoordinatorRequest(coordinatorKeys: [self.group]),
                version: 6,
                within: .seconds(12)
            ) { [unowned self] answer in
                guard let found = answer.coordinators.first, found.errorCode == 0 else {
                    return self.find()
                }
                self.coordinator = Int(found.nodeId) - 1
                self.found()
            }
        }
    }

    // MARK: Offsets

    func readPositions(_ partitions: [Int32], then body: @escaping () -> Void) {
        stage = "reads its offsets"
        let known = partitions.map { checker.lastAcknowledged(for: $0, by: group) }
        let request = OffsetFetchRequest(groups: [
            .init(groupId: group, topics: [.init(name: topic, partitionIndexes: partitions)])
        ])
        ask(request, version: 9) { [unowned self] answer in
            guard let found = answer.groups.first, found.errorCode == 0 else {
                return self.recover(from: answer.groups.first?.errorCode ?? -1)
            }
            let parts = found.topics.flatMap(\.partitions)
            for (part, known) in zip(parts, known) {
                self.checker.read(
                    part.committedOffset,
                    for: part.partitionIndex,
                    by: self.group,
                    known: known
                )
                self.positions[part.partitionIndex] = part.committedOffset
            }
            body()
        }
    }

    /// Commits what comes next of every partition that it has, after it has processed it.
    func commit(then body: @escaping () -> Void) {
        guard let processor else {
            return commit(positions.mapValues { $0 + Int64(random.draw(1...5)) }, then: body)
        }
        stage = "processes"
        let turn = turn
        processor.process(positions) { [weak self] ends in
            guard let self, self.turn == turn else { return }
            let next = ends.filter { $0.value != self.positions[$0.key] }
            if next.isEmpty { body() } else { self.commit(next, then: body) }
        }
    }

    private func commit(_ next: [Int32: Int64], then body: @escaping () -> Void) {
        let partitions = next.sorted { $0.key < $1.key }
        for (partition, offset) in partitions { checker.sent(offset, for: partition, by: group) }
        let request = OffsetCommitRequest(
            groupId: group,
            generationIdOrMemberEpoch: generation,
            memberId: id,
            groupInstanceId: isStatic ? name : nil,
            topics: [
                .init(
                    name: topic,
                    partitions: partitions.map {
                        .init(partitionIndex: $0.key, committedOffset: $0.value)
                    }
                )
            ]
        )
        lastCommit = request
        ask(request, version: 9) { [unowned self] answer in
            let parts = answer.topics.flatMap(\.partitions)
            for part in parts where part.errorCode == 0 {
                guard let offset = next[part.partitionIndex] else { continue }
                self.positions[part.partitionIndex] = offset
                self.checker.acknowledged(offset, for: part.partitionIndex, by: self.group)
            }
            if let failed = parts.first(where: { $0.errorCode != 0 }) {
                return self.recover(from: failed.errorCode)
            }
            body()
        }
    }

    /// A commit of an earlier generation comes once more, as from a library that had no answer to it: its partitions may be others' by now.
    func repeatOldCommit() {
        guard let request = lastCommit, request.generationIdOrMemberEpoch < generation,
            random.chance(40)
        else { return }
        lastCommit = nil
        let now = generation
        client.ask(request, version: 9, of: coordinator ?? anyBroker) { [weak self] result in
            guard let self, case .success(let answer) = result,
                answer.topics.flatMap(\.partitions).contains(where: { $0.errorCode == 0 })
            else { return }
            self.world.violate(
                "group \(self.group): a commit of generation \(request.generationIdOrMemberEpoch) was taken from \(self.name) in generation \(now)"
            )
        }
    }
}
