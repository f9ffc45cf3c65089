import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import struct NIOCore.ByteBuffer

// MARK: - Life of a member

/// A consumer of a classic group, as a client library is one.
final class SimulatedMember {
    private unowned let world: World
    private let checker: GroupChecker
    private let client: SimulatedClient
    private var random: SeededRandom
    private let group: String
    /// The name that it keeps, for itself and for the coordinator if it is static.
    private let name: String
    private let isStatic: Bool
    private let sessionMillis: Int32

    private var coordinator: Int?
    private var id = ""
    private var generation: Int32 = -1
    /// What it has committed, by partition; empty while it has no share.
    private var positions: [Int32: Int64] = [:]
    /// What the last stage of its life was, in words.
    private var stage = "has not begun"
    private var isFinishing = false
    /// Whether it has committed and read that back since nothing fails any more.
    private var isDone = false
    /// Its life has gone another way since: an answer with another number is void.
    private var turn = 0

    init(
        _ group: String,
        _ name: String,
        isStatic: Bool,
        seed: UInt64,
        world: World,
        checker: GroupChecker
    ) {
        self.world = world
        self.checker = checker
        self.group = group
        self.name = name
        self.isStatic = isStatic
        client = SimulatedClient(name, world: world)
        random = SeededRandom(seed: seed)
        sessionMillis = Int32(random.draw(1_500...6_000))
    }

    func start() { find() }

    /// From now on it only has to commit once more, in peace.
    func finish() {
        isFinishing = true
        isDone = false
    }

    var whatIsLeft: String? {
        isDone ? nil : "\(name) of \(group), generation \(generation), \(stage)"
    }

    private func later(_ delay: Duration, _ body: @escaping (SimulatedMember) -> Void) {
        let turn = turn
        world.act(name, after: delay) { [weak self] in
            if let self, self.turn == turn { body(self) }
        }
    }

    private func ask<Request: KafkaRequest>(
        _ request: Request,
        version: Int16,
        within timeout: Duration = .seconds(4),
        then completion: @escaping (SimulatedMember, Request.Response) -> Void
    ) {
        let turn = turn
        client.ask(request, version: version, of: coordinator ?? anyBroker, within: timeout) {
            [weak self] result in
            guard let self, self.turn == turn else { return }
            switch result {
            case .success(let answer): completion(self, answer)
            case .failure: self.find()
            }
        }
    }

    private var anyBroker: Int { random.draw(0...(world.brokers.count - 1)) }

    // MARK: Joining

    private func find() {
        stage = "looks for its coordinator"
        turn += 1
        coordinator = nil
        later(random.draw(.milliseconds(10), .milliseconds(200))) { member in
            member.ask(
                FindCoordinatorRequest(coordinatorKeys: [member.group]),
                version: 6,
                within: .seconds(12)
            ) { member, answer in
                guard let found = answer.coordinators.first, found.errorCode == 0 else {
                    return member.find()
                }
                member.coordinator = Int(found.nodeId) - 1
                member.join()
            }
        }
    }

    private func join() {
        stage = "joins"
        positions.removeAll()
        let request = JoinGroupRequest(
            groupId: group,
            sessionTimeoutMs: sessionMillis,
            rebalanceTimeoutMs: 5_000,
            memberId: id,
            groupInstanceId: isStatic ? name : nil,
            protocolType: "consumer",
            protocols: [.init(name: "range", metadata: ByteBuffer(string: name))]
        )
        ask(request, version: 9, within: .seconds(15)) { member, answer in
            switch ErrorCode(rawValue: answer.errorCode) {
            case .noError:
                member.id = answer.memberId
                member.generation = answer.generationId
                let isAssigning = answer.leader == answer.memberId && !answer.skipAssignment
                member.sync(isAssigning ? answer.members.map(\.memberId) : [])
            case .memberIdRequired:
                member.id = answer.memberId
                member.join()
            default: member.recover(from: answer.errorCode)
            }
        }
    }

    /// `members`: all of them, where this one assigns.
    private func sync(_ members: [String]) {
        stage = "waits for its share"
        let request = SyncGroupRequest(
            groupId: group,
            generationId: generation,
            memberId: id,
            groupInstanceId: isStatic ? name : nil,
            assignments: members.sorted().enumerated().map { place, member in
                .init(memberId: member, assignment: share(place, of: members.count))
            }
        )
        ask(request, version: 5, within: .seconds(15)) { member, answer in
            guard answer.errorCode == 0 else { return member.recover(from: answer.errorCode) }
            var bytes = answer.assignment
            var partitions: [Int32] = []
            while let partition = bytes.readInteger(as: Int32.self) { partitions.append(partition) }
            member.checker.assigned(
                partitions,
                to: member.isStatic ? member.name : member.id,
                of: member.group,
                in: member.generation
            )
            member.readPositions(partitions) { $0.work() }
        }
    }

    private func share(_ place: Int, of count: Int) -> ByteBuffer {
        var bytes = ByteBuffer()
        for partition in 0..<Grouping.partitionCount where Int(partition) % count == place {
            bytes.writeInteger(partition)
        }
        return bytes
    }

    /// Goes on after an error as client libraries do.
    private func recover(from code: Int16) {
        stage = "got error \(code) while it \(stage)"
        turn += 1
        switch ErrorCode(rawValue: code) {
        case .rebalanceInProgress: later(.milliseconds(10)) { $0.join() }
        case .unknownMemberId, .illegalGeneration, .fencedInstanceId:
            id = ""
            generation = -1
            later(.milliseconds(50)) { $0.join() }
        default: find()
        }
    }

    // MARK: Working

    private func readPositions(
        _ partitions: [Int32],
        then body: @escaping (SimulatedMember) -> Void
    ) {
        stage = "reads its offsets"
        let known = partitions.map { checker.lastAcknowledged(for: $0, by: group) }
        let request = OffsetFetchRequest(groups: [
            .init(
                groupId: group,
                topics: [.init(name: Grouping.topic, partitionIndexes: partitions)]
            )
        ])
        ask(request, version: 9) { member, answer in
            guard let found = answer.groups.first, found.errorCode == 0 else {
                return member.recover(from: answer.groups.first?.errorCode ?? -1)
            }
            let parts = found.topics.flatMap(\.partitions)
            for (part, known) in zip(parts, known) {
                member.checker.read(
                    part.committedOffset,
                    for: part.partitionIndex,
                    by: member.group,
                    known: known
                )
                member.positions[part.partitionIndex] = part.committedOffset
            }
            body(member)
        }
    }

    private func work() {
        stage = "works"
        if isFinishing { return commit { $0.confirm() } }
        later(random.draw(.milliseconds(50), .milliseconds(400))) { member in
            switch member.random.draw(0...99) {
            case 0...1: member.leave()
            case 2...3: member.stall()
            case 4...60: member.commit { $0.work() }
            default: member.heartbeat { $0.work() }
            }
        }
    }

    private func heartbeat(then body: @escaping (SimulatedMember) -> Void) {
        let request = HeartbeatRequest(
            groupId: group,
            generationId: generation,
            memberId: id,
            groupInstanceId: isStatic ? name : nil
        )
        ask(request, version: 4) { member, answer in
            guard answer.errorCode == 0 else { return member.recover(from: answer.errorCode) }
            body(member)
        }
    }

    private func commit(then body: @escaping (SimulatedMember) -> Void) {
        let next = positions.mapValues { $0 + Int64(random.draw(1...5)) }
        let partitions = next.sorted { $0.key < $1.key }
        guard !partitions.isEmpty else { return heartbeat(then: body) }
        for (partition, offset) in partitions { checker.sent(offset, for: partition, by: group) }
        let request = OffsetCommitRequest(
            groupId: group,
            generationIdOrMemberEpoch: generation,
            memberId: id,
            groupInstanceId: isStatic ? name : nil,
            topics: [
                .init(
                    name: Grouping.topic,
                    partitions: partitions.map {
                        .init(partitionIndex: $0.key, committedOffset: $0.value)
                    }
                )
            ]
        )
        ask(request, version: 9) { member, answer in
            let parts = answer.topics.flatMap(\.partitions)
            for part in parts where part.errorCode == 0 {
                guard let offset = next[part.partitionIndex] else { continue }
                member.positions[part.partitionIndex] = offset
                member.checker.acknowledged(offset, for: part.partitionIndex, by: member.group)
            }
            if let failed = parts.first(where: { $0.errorCode != 0 }) {
                return member.recover(from: failed.errorCode)
            }
            body(member)
        }
    }

    /// Reads what it committed in peace, and goes on as long as the run does.
    private func confirm() {
        readPositions(positions.keys.sorted()) { member in
            member.isDone = true
            member.rest()
        }
    }

    private func rest() {
        stage = "rests"
        later(.milliseconds(Int64(sessionMillis / 4))) { member in
            member.heartbeat { $0.rest() }
        }
    }

    private func leave() {
        stage = "leaves"
        let request = LeaveGroupRequest(
            groupId: group,
            members: [.init(memberId: id, groupInstanceId: isStatic ? name : nil)]
        )
        ask(request, version: 5) { member, _ in
            member.id = ""
            member.generation = -1
            member.later(member.random.draw(.milliseconds(10), .seconds(3))) { $0.find() }
        }
    }

    /// It is heard no more for a while, perhaps for longer than its session; a static one may lose its id with its process.
    private func stall() {
        stage = "stalls"
        if isStatic, random.chance(50) { id = "" }
        later(random.draw(.milliseconds(500), .seconds(8))) { $0.find() }
    }
}
