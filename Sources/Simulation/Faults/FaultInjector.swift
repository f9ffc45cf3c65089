import FlotillaEnvironment
import struct NIOCore.ByteBuffer

/// Brings a plan's faults about, one after the other.
///
/// The fault atlas: what disks hold is changed and lost on one broker only, so that every committed byte stays on the others. Without it
/// bits change anywhere.
final class FaultInjector {
    private unowned let world: World
    private var random: SeededRandom
    private let kinds: [FaultClass]
    /// The broker whose disk may change or lose what it holds.
    private let unsound: Int
    private var isOver = false
    /// The broker that is left out when the faults end.
    private var leftOut: Int? {
        didSet { world.leftOut = leftOut }
    }
    /// How many faults there were, by kind.
    private(set) var counts: [FaultClass: Int] = [:]

    init(_ world: World) {
        self.world = world
        random = SeededRandom(seed: world.plan.seed ^ 0xFA17)
        kinds = world.plan.faults.subtracting([.clockDrift]).sorted()
        unsound = random.draw(0...(world.plan.brokerCount - 1))
    }

    /// Begins.
    func start() {
        guard !kinds.isEmpty else { return }
        planNext()
    }

    private func planNext() {
        let mean = world.plan.faultInterval
        let delay = random.draw(mean / 4, mean * 2)
        world.act("fault", after: delay) { [unowned self] in
            guard !self.isOver else { return }
            self.strike(self.kinds[self.random.draw(0...(self.kinds.count - 1))])
            self.planNext()
        }
    }

    // MARK: The end

    /// Ends the faults of a healthy core: every machine of it has power and its connections, every disk room and its speed.
    ///
    /// - Returns: the broker that stays down, cut off or slow; nil where all belong to the core.
    func end() -> Int? {
        isOver = true
        leftOut = world.plan.leavesOneOut ? brokerToLeaveOut() : nil
        heal { $0 != leftOut }
        guard let leftOut else { return nil }
        switch random.draw(0...2) {
        case 0:
            world.tell("broker \(leftOut + 1) stays down")
            world.crash(leftOut, powerFate())
        case 1:
            world.tell("broker \(leftOut + 1) stays cut off from the others")
            world.restart(leftOut)
            world.network.block(
                world.brokers.indices.filter { $0 != leftOut }.flatMap {
                    [
                        SimulatedNetwork.Direction(source: $0, target: leftOut),
                        SimulatedNetwork.Direction(source: leftOut, target: $0),
                    ]
                }
            )
        default:
            world.tell("broker \(leftOut + 1) stays slow")
            world.restart(leftOut)
            // It may lead, and slows down whoever asks it: what is left of the work must still fit into the budget.
            world.network.slowness[leftOut] = .milliseconds(40)
            world.brokers[leftOut].diskDelay = .milliseconds(50)
        }
        return leftOut
    }

    /// Ends what was left.
    func healAll() {
        leftOut = nil
        heal { _ in true }
    }

    /// One broker of three can always be missed, unless another one's disk lacks something; then that one is left out.
    private func brokerToLeaveOut() -> Int? {
        guard world.plan.hasAtlas || !world.plan.mayLose else { return nil }
        let number =
            world.plan.mayLose ? unsound : random.draw(0...(world.brokers.count - 1))
        return world.brokers[number].isOutside ? nil : number
    }

    private func heal(_ isHealed: (Int) -> Bool) {
        world.network.unblock(Array(world.network.blocked).sorted())
        for (number, broker) in world.brokers.enumerated() {
            world.pause(number, false)
            world.clients.heal(number)
            world.network.slowness[number] = nil
            world.clients.slowness[number] = nil
            broker.environments.forEach { $0.slowness = .zero }
            broker.disk.fault = nil
            broker.disk.breakOff = nil
            broker.disk.misdirect = nil
            broker.disk.capacity = .max
            broker.diskDelay = world.plan.diskDelay
            if isHealed(number) { world.restart(number) }
        }
    }

    // MARK: Faults

    private func strike(_ kind: FaultClass) {
        counts[kind, default: 0] += 1
        let number = random.draw(0...(world.brokers.count - 1))
        let broker = world.brokers[number]
        world.tell("fault \(kind.rawValue), broker \(number + 1)")
        switch kind {
        case .kill: crash(number, .keepUnsynced)
        case .power: crash(number, powerFate())
        case .powerAll:
            for each in world.brokers.indices { crash(each, powerFate()) }
        case .pause: pause(number)
        case .cut: cut(number, isOneWay: false)
        case .oneWay: cut(number, isOneWay: true)
        case .reset: world.network.resetSome(percent: random.draw(5...60))
        case .clientReset: world.clients.resetSome(percent: random.draw(5...60))
        case .clientCut: cutClients(number)
        case .slowNetwork: slowNetwork(number)
        case .slowShard: slowShard(broker)
        case .slowDisk: slowDisk(number)
        case .fullDisk: fullDisk(broker)
        case .syncError: failOnce(broker, isSync: true)
        case .writeError: breakOffOnce(broker)
        case .readError: failOnce(broker, isSync: false)
        case .bitRot: rot()
        case .misdirectedWrite: misdirect()
        case .wipedDisk: lose { $0.loseDisk() }
        case .lostJournal: lose { $0.loseJournal() }
        case .clockDrift: break
        case .clockJump: broker.clock.jump += Int64(random.draw(-3_600_000...3_600_000))
        }
    }

    private func powerFate() -> MemoryDisk.CrashFate {
        random.chance(50) ? .dropUnsynced : .tear(seed: random.next(), grain: 512)
    }

    private func crash(_ number: Int, _ fate: MemoryDisk.CrashFate) {
        guard world.brokers[number].isUp else { return }
        world.crash(number, fate)
        let longest: Duration = random.chance(80) ? .seconds(1) : .seconds(8)
        world.act("restart", after: random.draw(.milliseconds(20), longest)) { [unowned self] in
            if self.leftOut != number { self.world.restart(number) }
        }
    }

    private func pause(_ number: Int) {
        world.pause(number, true)
        world.act("goes on", after: random.draw(.milliseconds(50), .seconds(6))) {
            [unowned self] in self.world.pause(number, false)
        }
    }

    private func cut(_ number: Int, isOneWay: Bool) {
        typealias Direction = SimulatedNetwork.Direction
        var directions: [Direction] = []
        for other in world.brokers.indices where other != number && random.chance(70) {
            let out = Direction(source: number, target: other)
            let back = Direction(source: other, target: number)
            directions += isOneWay ? [random.chance(50) ? out : back] : [out, back]
        }
        world.network.block(directions)
        world.act("heals", after: random.draw(.milliseconds(200), .seconds(8))) {
            [unowned self] in
            let others = directions.filter {
                self.leftOut != $0.source && self.leftOut != $0.target
            }
            self.world.network.unblock(others)
        }
    }

    /// Some clients do not reach a broker, or it does not reach them.
    private func cutClients(_ number: Int) {
        let isOneWay = random.chance(40)
        let isOutward = random.chance(50)
        world.clients.cut(
            number,
            percent: random.draw(20...100),
            requests: !isOneWay || !isOutward,
            answers: !isOneWay || isOutward
        )
        world.act("clients reach it", after: random.draw(.milliseconds(200), .seconds(8))) {
            [unowned self] in self.world.clients.heal(number)
        }
    }

    private func slowNetwork(_ number: Int) {
        let slowness = random.draw(.milliseconds(1), .milliseconds(150))
        let reachesClients = random.chance(50)
        world.network.slowness[number] = slowness
        if reachesClients { world.clients.slowness[number] = slowness }
        world.act("is fast again", after: random.draw(.milliseconds(200), .seconds(8))) {
            [unowned self] in
            guard self.leftOut != number else { return }
            self.world.network.slowness[number] = nil
            self.world.clients.slowness[number] = nil
        }
    }

    /// One loop of a broker is busy with something else, over and over.
    private func slowShard(_ broker: SimulatedBroker) {
        let environments = broker.environments
        guard !environments.isEmpty else { return }
        let environment = environments[random.draw(0...(environments.count - 1))]
        environment.slowness = random.draw(.microseconds(500), .milliseconds(100))
        world.act("is fast again", after: random.draw(.milliseconds(200), .seconds(8))) {
            environment.slowness = .zero
        }
    }

    private func slowDisk(_ number: Int) {
        // Now and then writes hang for so long that another leads meanwhile, and their completions come too late.
        let hangs = random.chance(25)
        world.brokers[number].diskDelay =
            hangs
            ? random.draw(.milliseconds(800), .seconds(4))
            : random.draw(.milliseconds(5), .milliseconds(400))
        world.act("is fast again", after: random.draw(.milliseconds(200), .seconds(8))) {
            [unowned self] in
            guard self.leftOut != number else { return }
            self.world.brokers[number].diskDelay = self.world.plan.diskDelay
        }
        // With nobody to follow it, what it still takes in is replaced when it is back.
        if hangs, random.chance(60) { cut(number, isOneWay: false) }
    }

    private func fullDisk(_ broker: SimulatedBroker) {
        broker.disk.capacity = broker.disk.usedByteCount + Int64(random.draw(0...200_000))
        world.act("has room again", after: random.draw(.milliseconds(200), .seconds(5))) {
            broker.disk.capacity = .max
        }
    }

    private func failOnce(_ broker: SimulatedBroker, isSync: Bool) {
        var left = random.draw(0...20)
        broker.disk.fault = { [weak broker] operation in
            switch operation {
            case .sync where isSync, .syncDirectory where isSync, .read where !isSync,
                .populate where !isSync:
                left -= 1
            default: return nil
            }
            guard left < 0 else { return nil }
            broker?.disk.fault = nil
            broker?.meetsDiskFaults = true
            return .failed(operation: "simulated", path: "", errno: 5)
        }
    }

    /// One of the next writes fails, and nobody is told how much of it came to pass.
    private func breakOffOnce(_ broker: SimulatedBroker) {
        var left = random.draw(0...20)
        let share = random.draw(0...100)
        broker.disk.breakOffError = .failed(operation: "simulated write", path: "", errno: 5)
        broker.disk.breakOff = { [weak broker] operation in
            guard case .write(_, _, let count) = operation else { return nil }
            left -= 1
            guard left < 0 else { return nil }
            broker?.disk.breakOff = nil
            broker?.meetsDiskFaults = true
            return count * share / 100
        }
    }

    /// The parts of a broker's directory of which other brokers have their own.
    private static func mayRot(_ path: String) -> Bool {
        path.contains("/partitions/") || path.hasSuffix(".journal")
    }

    /// The unsound broker's process ends, and when it comes again something of its disk is gone.
    private func lose(_ loss: (SimulatedBroker) -> Void) {
        guard world.now >= world.nextLoss else { return }
        let broker = world.brokers[unsound]
        world.crash(unsound, .dropUnsynced)
        broker.disk.fault = nil
        broker.disk.breakOff = nil
        broker.disk.capacity = .max
        loss(broker)
        world.isLost(unsound)
    }

    /// The broker whose disk changes what it holds next.
    private func damagedBroker() -> Int {
        world.plan.hasAtlas ? unsound : random.draw(0...(world.brokers.count - 1))
    }

    /// Bits change in a few places of one disk.
    private func rot() {
        let number = damagedBroker()
        if !world.plan.hasAtlas, random.chance(40) { rotEverywhere(like: number) }
        for _ in 0..<random.draw(1...6) { flipOne(of: number) }
        // A start reads what nobody looks at before: the journal, and what was checked long ago.
        if random.chance(50) { crash(number, .keepUnsynced) }
    }

    /// One byte of a segment changes on all disks that have it: what nobody can heal must be told.
    private func rotEverywhere(like number: Int) {
        let disk = world.brokers[number].disk
        let paths = disk.paths.filter {
            $0.hasSuffix(".log") && disk.contents($0).readableBytes > 0
        }
        guard !paths.isEmpty else { return }
        let path = paths[random.draw(0...(paths.count - 1))]
        let position = writtenPosition(in: disk.contents(path))
        for broker in world.brokers where broker.disk.byteCount(of: path) > position {
            world.tell("bit rot in \(path) at \(position) of broker \(broker.id), as on others")
            broker.disk.flip(path, at: Int64(position))
            broker.noteDamage()
        }
    }

    private func flipOne(of number: Int) {
        let disk = world.brokers[number].disk
        let paths = disk.paths.filter { disk.contents($0).readableBytes > 0 && Self.mayRot($0) }
        let journals = paths.filter { $0.hasSuffix(".journal") }
        let choice = !journals.isEmpty && random.chance(30) ? journals : paths
        guard !choice.isEmpty else { return }
        let path = choice[random.draw(0...(choice.count - 1))]
        var position = writtenPosition(in: disk.contents(path))
        if path.hasSuffix(".journal") {
            // What a round says of its records, and their second copy, stand at the front of a block.
            if random.chance(50) { position = position / 4_096 * 4_096 + random.draw(0...511) }
            guard world.brokers[number].isSealed(path, at: position) else { return }
        }
        world.tell("bit rot in \(path) at \(position) of broker \(number + 1)")
        disk.flip(path, at: Int64(position), mask: 1 << UInt8(random.draw(0...7)))
        world.brokers[number].noteDamage()
    }

    /// A position in what was written of a file; behind it files may be long and empty.
    private func writtenPosition(in content: ByteBuffer) -> Int {
        let bytes = content.readableBytesView
        let end = bytes.lastIndex { $0 != 0 }.map { $0 - bytes.startIndex } ?? bytes.count - 1
        // The newest is what matters most.
        return random.chance(50) ? random.draw(max(0, end - 16_384)...end) : random.draw(0...end)
    }

    /// The next write to a segment lands elsewhere in its file, or nowhere; what should have changed keeps what it held.
    ///
    /// Segments only: a disk that drops the last round of a journal and says that it is durable lies, and one member that forgets
    /// without knowing it is more than a group of three can bear together with another fault.
    private func misdirect() {
        let number = damagedBroker()
        let disk = world.brokers[number].disk
        let shift = Int64(random.draw(-8...8)) * 4_096
        disk.misdirect = { [weak disk, world] path, position in
            guard path.contains("/partitions/") else { return position }
            disk?.misdirect = nil
            world.brokers[number].noteDamage()
            world.tell("a write to \(path) at \(position) of broker \(number + 1) is misdirected")
            return position + shift < 0 ? nil : position + shift
        }
    }
}
