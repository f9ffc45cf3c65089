import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import struct NIOCore.ByteBuffer

/// A consumer of the classic protocol, as a client library is one; it gives everything up before it joins again.
final class SimulatedMember: GroupClient {
    private let partitionCount: Int32
    /// Who watches that nobody else reads what it reads; nil where generations tell that.
    private let owners: OwnershipChecker?
    /// Shorter than `rebalanceMillis`: who is left out of a rebalance has been silent for longer than its session.
    private lazy var sessionMillis = Int32(random.draw(1_500...4_500))
    private static let rebalanceMillis: Int32 = 5_000

    init(
        _ identity: Identity,
        partitionCount: Int32,
        seed: UInt64,
        world: World,
        checker: GroupChecker,
        owners: OwnershipChecker? = nil
    ) {
        self.partitionCount = partitionCount
        self.owners = owners
        super.init(identity, seed: seed, world: world, checker: checker)
    }

    override func found() { join() }

    /// It was heard, with what it was sent at a moment: what it reads is its own for a session more.
    private func isHeard(since sent: Instant) {
        let session = Duration.milliseconds(Int64(sessionMillis)) - FaultPlan.clockTolerance
        owners?.reads(Set(positions.keys), name, of: group, until: sent + session)
    }

    /// It reads nothing any more.
    private func giveUp() {
        positions.removeAll()
        owners?.readsNothing(name, of: group)
    }

    // MARK: Joining

    private func join() {
        stage = "joins"
        giveUp()
        let subscription = ConsumerProtocolSubscription(topics: [topic])
        guard let metadata = coded({ try subscription.versionPrefixed(version: 1) }) else { return }
        let request = JoinGroupRequest(
            groupId: group,
            sessionTimeoutMs: sessionMillis,
            rebalanceTimeoutMs: Self.rebalanceMillis,
            memberId: id,
            groupInstanceId: isStatic ? name : nil,
            protocolType: "consumer",
            protocols: [.init(name: "range", metadata: metadata)]
        )
        ask(request, version: 9, within: .seconds(15)) { [unowned self] answer in
            switch ErrorCode(rawValue: answer.errorCode) {
            case .noError:
                self.id = answer.memberId
                self.generation = answer.generationId
                let isAssigning = answer.leader == answer.memberId && !answer.skipAssignment
                self.sync(isAssigning ? answer.members.map(\.memberId) : [])
            case .memberIdRequired:
                self.id = answer.memberId
                self.join()
            default: self.recover(from: answer.errorCode)
            }
        }
    }

    /// `members`: all of them, where this one assigns.
    private func sync(_ members: [String]) {
        stage = "waits for its share"
        let sent = world.now
        let request = SyncGroupRequest(
            groupId: group,
            generationId: generation,
            memberId: id,
            groupInstanceId: isStatic ? name : nil,
            assignments: members.sorted().enumerated().map { place, member in
                .init(memberId: member, assignment: share(place, of: members.count))
            }
        )
        ask(request, version: 5, within: .seconds(15)) { [unowned self] answer in
            guard answer.errorCode == 0 else { return self.recover(from: answer.errorCode) }
            self.take(answer.assignment, sent)
        }
    }

    /// `sent`: when it asked for its share.
    private func take(_ assignment: ByteBuffer, _ sent: Instant) {
        // No bytes are no partitions.
        let share =
            assignment.readableBytes == 0
            ? ConsumerProtocolAssignment()
            : coded {
                try ConsumerProtocolAssignment(versionPrefixed: assignment, acceptsNewer: true)
            }
        guard let share else { return }
        let partitions = share.assignedPartitions.flatMap(\.partitions)
        if owners == nil {
            checker.assigned(
                partitions,
                to: isStatic ? name : id,
                of: group,
                in: generation
            )
        } else {
            world.tell("\(group): \(name) reads \(partitions) in generation \(generation)")
        }
        for partition in partitions { positions[partition] = -1 }
        repeatOldCommit()
        isHeard(since: sent)
        readPositions(partitions) { [unowned self] in self.work() }
    }

    private func share(_ place: Int, of count: Int) -> ByteBuffer {
        let partitions = (0..<partitionCount).filter { Int($0) % count == place }
        let share = ConsumerProtocolAssignment(assignedPartitions: [
            .init(topic: topic, partitions: partitions)
        ])
        return coded { try share.versionPrefixed(version: 1) } ?? ByteBuffer()
    }

    /// What is written and read here is well-formed, or the run ends.
    private func coded<Value>(_ body: () throws -> Value) -> Value? {
        do {
            return try body()
        } catch {
            world.violate("\(group): \(name) can write or read its share no more: \(error)")
            return nil
        }
    }

    /// Goes on after an error as client libraries do.
    override func recover(from code: Int16) {
        stage = "got error \(code) while it \(stage)"
        turn += 1
        switch ErrorCode(rawValue: code) {
        case .rebalanceInProgress: later(.milliseconds(10)) { [unowned self] in self.join() }
        case .unknownMemberId, .illegalGeneration, .fencedInstanceId:
            giveUp()
            id = ""
            generation = -1
            later(.milliseconds(50)) { [unowned self] in self.join() }
        default: find()
        }
    }

    // MARK: Working

    private func work() {
        stage = "works"
        if isFinishing { return commitOrBeat { [unowned self] in self.confirm() } }
        later(random.draw(.milliseconds(50), .milliseconds(400))) { [unowned self] in
            switch self.random.draw(0...99) {
            case ..<self.unrest: self.leave()
            case ..<(self.unrest * 2): self.stall()
            case ...60: self.commitOrBeat { [unowned self] in self.work() }
            default: self.heartbeat { [unowned self] in self.work() }
            }
        }
    }

    private func heartbeat(then body: @escaping () -> Void) {
        let request = HeartbeatRequest(
            groupId: group,
            generationId: generation,
            memberId: id,
            groupInstanceId: isStatic ? name : nil
        )
        let sent = world.now
        ask(request, version: 4) { [unowned self] answer in
            guard answer.errorCode == 0 else { return self.recover(from: answer.errorCode) }
            self.isHeard(since: sent)
            body()
        }
    }

    /// Who has no share has nothing to commit.
    private func commitOrBeat(then body: @escaping () -> Void) {
        if positions.isEmpty { heartbeat(then: body) } else { commit(then: body) }
    }

    /// Reads what it committed in peace, and goes on as long as the run does.
    private func confirm() {
        readPositions(positions.keys.sorted()) { [unowned self] in
            self.isDone = true
            self.rest()
        }
    }

    private func rest() {
        stage = "rests"
        later(.milliseconds(Int64(sessionMillis / 4))) { [unowned self] in
            self.heartbeat { [unowned self] in self.work() }
        }
    }

    private func leave() {
        stage = "leaves"
        giveUp()
        let request = LeaveGroupRequest(
            groupId: group,
            members: [.init(memberId: id, groupInstanceId: isStatic ? name : nil)]
        )
        ask(request, version: 5) { [unowned self] _ in
            self.id = ""
            self.generation = -1
            self.later(self.random.draw(.milliseconds(10), .seconds(3))) { [unowned self] in
                self.find()
            }
        }
    }

    /// It is heard no more for a while, perhaps for longer than its session; a static one may lose its id with its process.
    private func stall() {
        stage = "stalls"
        if isStatic, random.chance(50) {
            giveUp()
            id = ""
        }
        later(random.draw(.milliseconds(500), .seconds(8))) { [unowned self] in self.find() }
    }
}
