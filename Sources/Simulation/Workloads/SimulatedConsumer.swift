import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// A consumer of a group of the consumer protocol, as a client library is one.
final class SimulatedConsumer: GroupClient {
    private let owners: OwnershipChecker
    /// What it reads; nil while it has yet to tell everything.
    private var owned: Set<Int32>?
    private var topicID = TopicID.zero

    /// The shortest session that the brokers of a run have, less than which a clock may run fast.
    private static let session = FaultPlan.consumerSession - FaultPlan.clockTolerance
    private static let rebalanceMillis: Int32 = 5_000

    init(
        _ identity: Identity,
        seed: UInt64,
        world: World,
        checker: GroupChecker,
        owners: OwnershipChecker
    ) {
        self.owners = owners
        super.init(identity, seed: seed, world: world, checker: checker)
        id = name
    }

    /// It does not know whether it was heard, so it tells everything again.
    override func found() {
        if generation <= 0 { return join() }
        beat(isFull: true)
    }

    override func recover(from code: Int16) {
        stage = "got error \(code) while it \(stage)"
        turn += 1
        switch ErrorCode(rawValue: code) {
        case .fencedMemberEpoch, .unknownMemberId, .groupIdNotFound:
            drop()
            later(.milliseconds(20)) { [unowned self] in self.join() }
        case .staleMemberEpoch:
            later(.milliseconds(20)) { [unowned self] in self.beat() }
        case .unreleasedInstanceId, .fencedInstanceId:
            drop()
            later(.milliseconds(500)) { [unowned self] in self.join() }
        default: find()
        }
    }

    /// It reads nothing any more, and begins anew.
    private func drop() {
        owners.readsNothing(name, of: group)
        positions.removeAll()
        owned = nil
        generation = 0
    }

    // MARK: Heartbeats

    private func join() {
        stage = "joins"
        drop()
        beat(isFull: true)
    }

    private func beat(isFull: Bool = false) {
        let sent = world.now
        let owned = owned ?? []
        let request = ConsumerGroupHeartbeatRequest(
            groupId: group,
            memberId: id,
            memberEpoch: generation,
            instanceId: isStatic ? name : nil,
            rebalanceTimeoutMs: isFull ? Self.rebalanceMillis : -1,
            subscribedTopicNames: isFull ? [topic] : nil,
            topicPartitions: owned.isEmpty
                ? [] : [.init(topicId: topicID, partitions: owned.sorted())]
        )
        ask(request, version: 1, within: .seconds(2)) { [unowned self] answer in
            guard answer.errorCode == 0 else { return self.recover(from: answer.errorCode) }
            self.generation = answer.memberEpoch
            self.take(answer.assignment, sent)
        }
    }

    private func take(_ assignment: ConsumerGroupHeartbeatResponse.Assignment?, _ sent: Instant) {
        var partitions = owned ?? []
        if let assignment {
            partitions = Set(assignment.topicPartitions.flatMap(\.partitions))
            if let id = assignment.topicPartitions.first?.topicId { topicID = id }
            if partitions != owned {
                world.tell("\(group): \(name) reads \(partitions.sorted()) in epoch \(generation)")
            }
        }
        owners.reads(partitions, name, of: group, until: sent + Self.session)
        // Those too of which it has yet to be told what was committed.
        let new = partitions.filter { positions[$0] == nil }
        for partition in (owned ?? []).subtracting(partitions) { positions[partition] = nil }
        owned = partitions
        guard !new.isEmpty else { return work() }
        readPositions(new.sorted()) { [unowned self] in self.work() }
    }

    // MARK: Working

    private func work() {
        stage = "works"
        if isFinishing {
            return positions.isEmpty ? rest() : commit { [unowned self] in self.confirm() }
        }
        later(random.draw(.milliseconds(50), .milliseconds(400))) { [unowned self] in
            switch self.random.draw(0...99) {
            case ..<self.unrest: self.leave()
            case ..<(self.unrest * 2): self.stall()
            case ...60 where !self.positions.isEmpty:
                self.commit { [unowned self] in self.beat() }
            default: self.beat()
            }
        }
    }

    /// Reads what it committed in peace, and goes on as long as the run does.
    private func confirm() {
        readPositions(positions.keys.sorted()) { [unowned self] in self.rest() }
    }

    private func rest() {
        stage = "rests"
        isDone = true
        later(.milliseconds(500)) { [unowned self] in self.beat() }
    }

    private func leave() {
        stage = "leaves"
        let isAway = isStatic && random.chance(50)
        let request = ConsumerGroupHeartbeatRequest(
            groupId: group,
            memberId: id,
            memberEpoch: isAway ? -2 : -1,
            instanceId: isStatic ? name : nil
        )
        drop()
        ask(request, version: 1, within: .seconds(2)) { [unowned self] _ in
            self.later(self.random.draw(.milliseconds(10), .seconds(3))) { [unowned self] in
                self.find()
            }
        }
    }

    /// It is heard no more for a while, perhaps for longer than its session; what it reads meanwhile is its own as long as that lasts.
    private func stall() {
        stage = "stalls"
        later(random.draw(.milliseconds(500), .seconds(8))) { [unowned self] in
            self.find()
        }
    }
}
