import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaReplication
import FlotillaStorage
import struct NIOCore.ByteBuffer

/// The files that a shard sends to other brokers and receives from them.
///
/// A leader whose log no longer begins where a member's ends ships its sealed segments: `OutgoingShipment` on its shard,
/// `IncomingShipment` on the member's. Both are soft state. Whatever ends one, a crash or another leader, the member has
/// its old log or the new one, and Raft finds out where it stands and orders files again if it has to.
final class Shipping {
    /// The most shipments that a shard sends at a time.
    static let outgoingLimit = 4
    /// The most that it receives at a time.
    static let incomingLimit = 4
    /// How long a member goes without after a shipment that came to nothing.
    static let pause = Duration.seconds(2)
    /// How often shipments are looked at, for what waits for room or for an answer.
    static let interval = Duration.milliseconds(20)
    /// Bytes that may wait in the bulk lane to a broker before nothing more is read for it; well below the lane's window,
    /// since what does not fit there is lost.
    static let laneByteLimit = 4 << 20

    unowned let shard: Shard
    var budget: RecoveryBudget
    private var outgoing: [RecoveryBudget.Member: OutgoingShipment] = [:]
    private var incoming: [GroupID: IncomingShipment] = [:]
    private var pauses: [RecoveryBudget.Member: Instant] = [:]
    private var isTicking = false

    init(shard: Shard) {
        self.shard = shard
        budget = RecoveryBudget(
            byteRate: shard.settings.recoveryByteRate / shard.settings.shardCount,
            leastBurst: Settings().appendByteLimit
        )
    }

    // MARK: Orders

    /// A member needs files; false where it has to wait.
    func order(_ order: FileOrder, of replica: Replica) -> Bool {
        let member = RecoveryBudget.Member(group: replica.group, member: order.target)
        let now = shard.now
        pauses = pauses.filter { $0.value > now }
        guard pauses[member] == nil, outgoing[member] == nil,
            outgoing.count < Self.outgoingLimit, shard.isReachable(order.target.broker),
            budget.admit(member, now: now)
        else { return false }
        do throws(StorageError) {
            guard
                let plan = try replica.log.beginShipment(neededBy: order.neededIndex, now: now)
            else {
                // Too many are under way, or what is committed is not in segments yet: soon it is.
                return false
            }
            let shipment = OutgoingShipment(order, plan, of: replica, shipping: self)
            outgoing[member] = shipment
            shipment.begin()
            startTicking()
            return true
        } catch {
            shard.report(error, in: replica.group)
            return false
        }
    }

    /// Whether entries that have left memory may be read for a member now.
    func grants(_ byteCount: Int, to member: GroupMember, of group: GroupID) -> Bool {
        hasRoom(for: byteCount, to: member.broker)
            && budget.take(
                byteCount,
                for: RecoveryBudget.Member(group: group, member: member),
                now: shard.now
            )
    }

    /// A shipment has ended.
    func ended(_ shipment: OutgoingShipment, hasArrived: Bool) {
        guard outgoing[shipment.member] === shipment else { return }
        outgoing[shipment.member] = nil
        guard !hasArrived else { return }
        budget.release(shipment.member)
        pauses[shipment.member] = shard.now + Self.pause
    }

    // MARK: Offers

    /// A leader is about to ship files to a replica here; false where it has to wait.
    func offer(upTo position: LogPosition, by leader: GroupMember, to replica: Replica) -> Bool {
        if let known = incoming[replica.group] { return known.isOffered(position, by: leader) }
        guard incoming.count < Self.incomingLimit, !shard.isVolumeFull, !shard.isStopping,
            let writer = shard.segmentWriter(of: replica.group), writer.replica === replica
        else { return false }
        let shipment = IncomingShipment(
            upTo: position,
            by: leader,
            to: writer,
            shipping: self
        )
        incoming[replica.group] = shipment
        shipment.begin()
        startTicking()
        return true
    }

    /// A shipment has ended, and nothing of it is under way.
    func ended(_ shipment: IncomingShipment) {
        guard incoming[shipment.group] === shipment else { return }
        incoming[shipment.group] = nil
    }

    // MARK: News

    /// Takes in what another replica says about files.
    ///
    /// - Returns: false for bytes that are no message of ours.
    func take(_ message: ReplicaMessage, from broker: BrokerID) -> Bool {
        let body = message.parts.first ?? ByteBuffer()
        guard let content = ShippingMessage(kind: message.kind, body) else { return false }
        let group = GroupID(partition: message.partition, epoch: message.targetEpoch)
        let sender = GroupMember(broker: broker, epoch: message.senderEpoch)
        let member = RecoveryBudget.Member(group: group, member: sender)
        switch content {
        case .request(let request):
            if let shipment = outgoing[member] { return shipment.take(request) }
            tell(.end(number: request.number), to: sender, from: group)
        case .manifest(let number, let manifest):
            if let shipment = shipment(to: group, from: sender) {
                shipment.take(manifest, number: number)
            } else {
                tell(.end(number: number), to: sender, from: group)
            }
        case .chunk(let number, let chunk):
            if let shipment = shipment(to: group, from: sender) {
                shipment.take(chunk, number: number)
            } else {
                tell(.end(number: number), to: sender, from: group)
            }
        case .end(let number):
            if let shipment = outgoing[member] { shipment.wasGivenUp(number) }
            shipment(to: group, from: sender)?.wasGivenUp(number)
        }
        return true
    }

    private func shipment(to group: GroupID, from leader: GroupMember) -> IncomingShipment? {
        guard let shipment = incoming[group], shipment.leader == leader else { return nil }
        return shipment
    }

    /// The role, the term or the leader of a replica changed.
    func leadershipChanged(_ replica: Replica) {
        for shipment in shipments(of: replica.group) { shipment.look() }
        incoming[replica.group]?.leaderIs(replica.leader)
    }

    /// A broker came back as another process: it knows of nothing that was on its way.
    func reborn(_ broker: BrokerID) {
        for member in outgoing.keys.filter({ $0.member.broker == broker }).sorted() {
            outgoing[member]?.giveUp(nil)
        }
    }

    /// A replica is gone from here.
    func forget(_ group: GroupID) {
        for shipment in shipments(of: group) { shipment.giveUp(nil) }
        incoming[group]?.giveUp(nil)
    }

    private func shipments(of group: GroupID) -> [OutgoingShipment] {
        guard !outgoing.isEmpty else { return [] }
        return outgoing.keys.filter { $0.group == group }.sorted().compactMap { outgoing[$0] }
    }

    // MARK: Time

    private func startTicking() {
        guard !isTicking else { return }
        isTicking = true
        scheduleTick()
    }

    private func scheduleTick() {
        shard.schedule(after: Self.interval) { [unowned self] in
            for member in self.outgoing.keys.sorted() { self.outgoing[member]?.tick() }
            for group in self.incoming.keys.sorted() { self.incoming[group]?.tick() }
            self.isTicking = !self.outgoing.isEmpty || !self.incoming.isEmpty
            if self.isTicking { self.scheduleTick() }
        }
    }

    // MARK: Sending

    /// Whether a broker's bulk lane takes more without losing it.
    func hasRoom(for byteCount: Int, to broker: BrokerID) -> Bool {
        let peers = shard.environment.peers
        guard peers.isUp(broker, .bulk) else { return false }
        let queued = peers.queuedByteCount(broker, .bulk)
        // An empty lane takes anything.
        return queued == 0 || queued + byteCount <= Self.laneByteLimit
    }

    /// Sends a message to another replica of the group; what the leader has to say about files goes in bulk.
    ///
    /// - Returns: whether it was taken.
    @discardableResult
    func tell(_ message: ShippingMessage, to member: GroupMember, from group: GroupID) -> Bool {
        let lane: PeerLane =
            switch message {
            case .manifest, .chunk: .bulk
            case .request, .end: .live
            }
        return shard.sendToPeer(
            .replica(
                ReplicaMessage(
                    partition: group.partition,
                    senderEpoch: group.epoch,
                    targetEpoch: member.epoch,
                    kind: message.kind,
                    parts: message.parts
                )
            ),
            member.broker,
            on: lane
        )
    }

    /// How many replicas elsewhere this shard brings up.
    var catchingUpCount: Int { budget.memberCount(now: shard.now) }
}

extension RecoveryBudget.Member: Comparable {
    static func < (left: Self, right: Self) -> Bool {
        (left.group, left.member) < (right.group, right.member)
    }
}
