import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaStorage
import struct NIOCore.ByteBuffer

/// Files on their way from a leader here to a member elsewhere.
///
/// It plans on a worker, has Raft offer the files, and then sends what the receiver asks for: a window behind what the
/// receiver's disk has, as fast as the shard's budget and the lane allow. The log keeps the segments as long as the receiver
/// goes on asking.
final class OutgoingShipment {
    /// How long nothing is heard before the offer is made again; it may be lost, or the receiver began anew.
    static let offerInterval = Duration.seconds(1)
    /// How long nothing is heard before the shipment is given up.
    static let patience = Duration.seconds(20)

    /// To whom, of which replica here.
    let member: RecoveryBudget.Member
    private let order: FileOrder
    private let plan: ShipmentPlan
    private let replica: Replica
    private unowned let shipping: Shipping
    private var shipment: Shipment?
    private var flow: ShipmentFlow?
    /// When the receiver was heard last.
    private var lastHeard: Instant
    private var lastOffer: Instant
    private var isReading = false
    private var isOver = false

    init(_ order: FileOrder, _ plan: ShipmentPlan, of replica: Replica, shipping: Shipping) {
        member = RecoveryBudget.Member(group: replica.group, member: order.target)
        self.order = order
        self.plan = plan
        self.replica = replica
        self.shipping = shipping
        lastHeard = shipping.shard.now
        lastOffer = lastHeard
    }

    /// Looks at what is to be shipped, and offers it.
    func begin() {
        let plan = plan
        shipping.shard.workers.runInBackground({ plan.perform() }) { [weak self] result in
            guard let self, !self.isOver else { return }
            switch result {
            case .success(let shipment):
                self.shipment = shipment
                self.offer()
            case .failure(let error): self.giveUp(error)
            }
        }
    }

    private func offer() {
        guard let shipment else { return }
        lastOffer = shipping.shard.now
        replica.offerFiles(order, upTo: shipment.manifest.position)
    }

    // MARK: The receiver

    /// The receiver has a part, and wants more.
    ///
    /// - Returns: false for a request that cannot be.
    func take(_ request: ShippingRequest) -> Bool {
        guard let shipment, request.lastIndex == shipment.manifest.position.index else {
            // It asks for files that were offered before these; the next offer tells it of them.
            return true
        }
        let now = shipping.shard.now
        guard replica.log.renewShipment(plan.number, now: now) else {
            giveUp(nil)
            return true
        }
        if request.number == 0 {
            lastHeard = now
            flow = ShipmentFlow(shipment.manifest)
            shipping.tell(
                .manifest(number: plan.number, shipment.manifest),
                to: order.target,
                from: member.group
            )
        } else if request.number == plan.number {
            lastHeard = now
            guard
                flow?.acknowledge(request.receivedByteCount, isRestLost: request.isRestLost)
                    ?? true
            else { return false }
        } else {
            shipping.tell(.end(number: request.number), to: order.target, from: member.group)
        }
        pump()
        return true
    }

    /// The receiver takes no more, or knows nothing of the shipment.
    func wasGivenUp(_ number: UInt64) {
        guard number == plan.number else { return }
        // It may have begun anew, as another process.
        guard flow != nil else { return }
        giveUp(nil)
    }

    // MARK: Sending

    private func pump() {
        guard !isOver, !isReading, let shipment, let flow, let (place, byteCount) = flow.next,
            shipping.hasRoom(for: byteCount, to: order.target.broker),
            shipping.budget.take(byteCount, for: member, now: shipping.shard.now)
        else { return }
        isReading = true
        let generation = flow.generation
        let read = shipment.read(at: place, maxByteCount: byteCount)
        shipping.shard.workers.runInBackground({ read.perform() }) { [weak self] result in
            guard let self, !self.isOver else { return }
            self.isReading = false
            switch result {
            case .success(let chunk): self.send(chunk, of: generation)
            case .failure(let error): self.giveUp(error)
            }
        }
    }

    private func send(_ chunk: ShipmentChunk, of generation: Int) {
        if flow?.generation == generation, flow?.next?.place == chunk.place,
            shipping.tell(
                .chunk(number: plan.number, chunk),
                to: order.target,
                from: member.group
            )
        {
            flow?.sent(chunk.bytes.readableBytes)
            shipping.shard.counters.shippedByteCount += chunk.bytes.readableBytes
        }
        // One that the lane did not take is read once more, at the next tick.
        pump()
    }

    // MARK: The end

    /// Goes on where there was no room, offers again, or gives up.
    func tick() {
        look()
        guard !isOver else { return }
        let now = shipping.shard.now
        if now - lastHeard >= Self.patience { return giveUp(nil) }
        if now - max(lastHeard, lastOffer) >= Self.offerInterval { offer() }
        pump()
    }

    /// Looks whether the member still needs the files: when it has them, its answer to Raft says so.
    func look() {
        guard !isOver else { return }
        guard replica.isLeader, replica.term == order.term,
            let known = replica.progress.first(where: { $0.member == order.target })
        else { return end(hasArrived: false) }
        if !known.awaitsFiles { end(hasArrived: true) }
    }

    /// Ends without success; Raft finds out what the member has.
    func giveUp(_ error: StorageError?) {
        guard !isOver else { return }
        if let error {
            shipping.shard.report(
                error,
                "shipment of \(member.group) to broker \(order.target.broker)"
            )
            if case .damaged = error { shipping.shard.report(error, in: member.group) }
        }
        shipping.tell(.end(number: plan.number), to: order.target, from: member.group)
        end(hasArrived: false)
        replica.filesSent(to: order.target, upTo: nil)
    }

    private func end(hasArrived: Bool) {
        isOver = true
        if hasArrived, let shipment {
            // What follows the files has to follow as entries.
            replica.log.narrowShipment(
                plan.number,
                to: shipment.manifest.position.index.next,
                now: shipping.shard.now
            )
            shipping.shard.counters.shipmentCount += 1
        } else {
            replica.log.endShipment(plan.number)
        }
        shipping.ended(self, hasArrived: hasArrived)
    }
}
