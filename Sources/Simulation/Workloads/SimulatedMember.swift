import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import struct NIOCore.ByteBuffer

/// A consumer of a classic group, as a client library is one.
final class SimulatedMember: GroupClient {
    private lazy var sessionMillis = Int32(random.draw(1_500...6_000))

    override func found() { join() }

    // MARK: Joining

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
            var bytes = answer.assignment
            var partitions: [Int32] = []
            while let partition = bytes.readInteger(as: Int32.self) { partitions.append(partition) }
            self.checker.assigned(
                partitions,
                to: self.isStatic ? self.name : self.id,
                of: self.group,
                in: self.generation
            )
            self.readPositions(partitions) { [unowned self] in self.work() }
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
    override func recover(from code: Int16) {
        stage = "got error \(code) while it \(stage)"
        turn += 1
        switch ErrorCode(rawValue: code) {
        case .rebalanceInProgress: later(.milliseconds(10)) { [unowned self] in self.join() }
        case .unknownMemberId, .illegalGeneration, .fencedInstanceId:
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
            case 0...1: self.leave()
            case 2...3: self.stall()
            case 4...60: self.commitOrBeat { [unowned self] in self.work() }
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
        ask(request, version: 4) { [unowned self] answer in
            guard answer.errorCode == 0 else { return self.recover(from: answer.errorCode) }
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
            self.heartbeat { [unowned self] in self.rest() }
        }
    }

    private func leave() {
        stage = "leaves"
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
        if isStatic, random.chance(50) { id = "" }
        later(random.draw(.milliseconds(500), .seconds(8))) { [unowned self] in self.find() }
    }
}
