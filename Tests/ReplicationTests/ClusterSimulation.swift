import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage
import FlotillaSimulation

/// One run of a cluster under the faults that its seed draws, and then without any.
final class ClusterSimulation {
    /// What happened in a run; a world in which nothing happens proves nothing.
    struct Counts {
        var acknowledged = 0
        var unsettled = 0
        var lost = 0
        var crashes = 0
        var reads = 0
        var transfers = 0
        var membershipChanges = 0
        var suspects = 0
        var truncations = 0

        mutating func add(_ other: Counts) {
            acknowledged += other.acknowledged
            unsettled += other.unsettled
            lost += other.lost
            crashes += other.crashes
            reads += other.reads
            transfers += other.transfers
            membershipChanges += other.membershipChanges
            suspects += other.suspects
            truncations += other.truncations
        }
    }

    /// How often, in a thousand hundredths of a second, each thing happens.
    private struct Plan {
        var proposal = 0
        var crash = 0
        var isolation = 0
        var healing = 20
        var segments = 0
        var checkpoint = 0
        var read = 0
        var transfer = 0
        var membership = 0
        var trim = 0
        var roll = 0
        var suspects = false
        /// Whether nobody leads for long: leaders are cut off and crash, patience is short, and journals are slow, so
        /// that many entries are replaced while the disk still has the old ones.
        var isRestless = false
        var largestValue = 100
    }

    private let cluster: ReplicaCluster
    private let voterCount: Int
    private var plan = Plan()
    private(set) var counts = Counts()
    private var nextValue = 0
    private var phase: [Int] = []
    /// Whether each settled proposal was settled once.
    private var openProposals: Set<Int> = []

    private var ledger: ClusterLedger { cluster.ledger }

    init(seed: UInt64, voterCount: Int) {
        cluster = ReplicaCluster(seed: seed)
        self.voterCount = voterCount
        draw()
        cluster.found(voterCount: voterCount)
        phase = (0..<voterCount).map { _ in draw(0...ReplicaCluster.tickLength - 1) }
    }

    private func draw(_ range: ClosedRange<Int>) -> Int {
        Int.random(in: range, using: &cluster.random)
    }

    private func chance(_ percent: Int) -> Bool { draw(0...99) < percent }

    private func draw() {
        cluster.faults.lossPerMille = chance(60) ? draw(0...200) : 0
        cluster.faults.duplicatePerMille = chance(60) ? draw(0...200) : 0
        cluster.faults.longestDelay = chance(70) ? draw(1...20) : 1
        cluster.faults.longestFlush = chance(70) ? draw(1...30) : 1
        cluster.faults.longestCompletion = chance(50) ? draw(1...10) : 0
        plan.proposal = draw(50...400)
        plan.crash = chance(75) ? draw(1...10) : 0
        plan.isolation = chance(60) ? draw(1...15) : 0
        plan.healing = draw(5...40)
        plan.segments = chance(80) ? draw(5...100) : 0
        plan.checkpoint = chance(50) ? draw(1...30) : 0
        plan.read = draw(0...50)
        plan.transfer = chance(50) ? draw(1...10) : 0
        plan.membership = chance(50) ? draw(1...10) : 0
        plan.trim = chance(50) ? draw(1...20) : 0
        plan.roll = chance(60) ? draw(1...20) : 0
        // Two voters of which one is in doubt elect nobody, and rightly so.
        plan.suspects = plan.membership == 0 && chance(60)
        cluster.faults.longestJob = chance(50) ? draw(1...30) : 1
        plan.largestValue = chance(50) ? 100 : 20_000
        cluster.settings.electionTimeoutTicks = draw(3...10)
        cluster.settings.retransmitTicks = draw(2...5)
        cluster.settings.appendEntryLimit = draw(1...8)
        cluster.settings.appendByteLimit = draw(200...30_000)
        cluster.settings.windowByteLimit = draw(400...60_000)
        cluster.settings.windowMessageLimit = draw(1...8)
        cluster.settings.recentEntryLimit = draw(1...40)
        cluster.settings.quietAfterTicks = chance(50) ? draw(1...15) : nil
        cluster.settings.uncommittedByteLimit = draw(1_000...200_000)
        cluster.settings.minInSyncReplicas = draw(1...2)
        cluster.settings.transferTimeoutTicks = draw(5...20)
        plan.isRestless = chance(40)
        guard plan.isRestless else { return }
        cluster.faults.lossPerMille /= 4
        cluster.faults.longestDelay = draw(1...5)
        cluster.faults.longestFlush = draw(10...60)
        cluster.faults.longestJob = 1
        cluster.settings.electionTimeoutTicks = draw(2...4)
        plan.crash = draw(1...8)
        plan.isolation = draw(10...40)
        plan.healing = draw(30...80)
        plan.segments = draw(100...400)
    }

    /// Runs, and says which promises were broken.
    func run(faultTicks: Int, calmTicks: Int) -> [String] {
        step(faultTicks * ReplicaCluster.tickLength) { self.makeTrouble() }
        calmDown()
        var remainingTicks = calmTicks
        while remainingTicks > 0, !isSettled || remainingTicks > calmTicks - 20 {
            step(5 * ReplicaCluster.tickLength) {}
            remainingTicks -= 5
        }
        checkProgress()
        checkLogs()
        counts.acknowledged = ledger.acknowledgedCount
        counts.truncations = cluster.nodes.reduce(0) { $0 + $1.truncationCount }
        return ledger.violations
    }

    /// Whether somebody leads and everybody has the same log.
    private var isSettled: Bool {
        let ends = Set(cluster.nodes.map { $0.replica?.log.lastIndex })
        return ends.count == 1 && cluster.nodes.contains { $0.replica?.isServing ?? false }
    }

    private func step(_ duration: Int, _ body: () -> Void) {
        for _ in 0..<duration where ledger.violations.isEmpty {
            cluster.run(until: cluster.time + 1)
            for (place, node) in cluster.nodes.enumerated()
            where cluster.time % ReplicaCluster.tickLength == phase[place] {
                // A quiet group's shard does not tick it.
                node.turn { if !$0.isQuiet { $0.tick() } }
                node.idleJournal()
            }
            body()
            work()
        }
    }

    // MARK: Work

    private func work() {
        if cluster.happens(plan.proposal) { propose() }
        if cluster.happens(plan.segments) { anyNode().writeSegments() }
        if cluster.happens(plan.segments / 2) { removeSegments() }
        if cluster.happens(plan.checkpoint) {
            anyNode().turn { replica in
                if Bool.random(using: &cluster.random) {
                    replica.provideCheckpoint()
                } else {
                    _ = replica.copyForward()
                }
            }
        }
        if cluster.happens(plan.read) { read() }
        if cluster.happens(plan.roll) { proposeAtLeader(.roll) }
        if cluster.happens(plan.trim) { trim() }
        if cluster.happens(plan.transfer) { transfer() }
        if cluster.happens(plan.membership) { changeMembership() }
    }

    private func anyNode() -> ClusterNode { cluster.node(draw(1...voterCount)) }

    private func anyLeader() -> ClusterNode? {
        let serving = cluster.nodes.filter { $0.replica?.isServing ?? false }
        return serving.isEmpty ? nil : serving[draw(0...serving.count - 1)]
    }

    private func propose() {
        guard let leader = anyLeader() else { return }
        let number = nextValue
        nextValue += 1
        openProposals.insert(number)
        let size = draw(1...plan.largestValue)
        let value = "\(number)-" + String(repeating: "x", count: size)
        cluster.propose(value, at: leader.number, durability: chance(80) ? .quorum : .leader) {
            [unowned self] result in
            if openProposals.remove(number) == nil {
                ledger.violation("proposal \(number) was answered twice")
            }
            switch result {
            case .success: break
            case .failure(.leadershipLost): counts.unsettled += 1
            case .failure: counts.lost += 1
            }
        }
    }

    private func proposeAtLeader(_ content: Proposal.Content) {
        guard let leader = anyLeader() else { return }
        leader.turn { $0.propose(Proposal(content, durability: .quorum) { _ in }) }
    }

    private func trim() {
        guard let end = anyLeader()?.replica?.highWatermark else { return }
        proposeAtLeader(.startOffset(Offset(Int64(draw(0...Int(end.rawValue))))))
    }

    /// Removes segments, but none that the slowest replica lacks: nobody ships files here.
    private func removeSegments() {
        let least = cluster.nodes.map { $0.replica?.log.commitIndex ?? .zero }.min() ?? .zero
        anyNode().removeSegments(keepingFrom: least)
    }

    private func read() {
        let known = ledger.acknowledgedIndex
        let node = anyNode()
        node.turn { replica in
            replica.readIndex { [unowned self] result in
                guard case .success(let index) = result else { return }
                counts.reads += 1
                if index < known { ledger.violation("a read at \(index) misses \(known)") }
                if replica.appliedIndex < index {
                    ledger.violation("a read at \(index) came before it was applied")
                }
            }
        }
    }

    private func transfer() {
        let target = chance(50) ? ReplicaCluster.member(draw(1...voterCount)) : nil
        anyLeader()?.turn { replica in
            replica.transferLeadership(to: target) { [unowned self] result in
                if case .success = result { counts.transfers += 1 }
            }
        }
    }

    /// Some voters become learners or the other way round; nobody leaves, so everybody can catch up.
    private func changeMembership() {
        var members = (1...voterCount).map(ReplicaCluster.member)
        members.shuffle(using: &cluster.random)
        let count = draw(2...voterCount)
        anyLeader()?.turn { replica in
            replica.changeMembership(
                voters: members.prefix(count).sorted(),
                learners: members.dropFirst(count).sorted()
            ) { [unowned self] result in
                if case .success = result { counts.membershipChanges += 1 }
            }
        }
    }

    // MARK: Trouble

    private func makeTrouble() {
        if cluster.happens(plan.crash) { crash(anyNode()) }
        if plan.crash > 0, cluster.happens(1), chance(20) { cluster.nodes.forEach(crash) }
        if cluster.happens(plan.isolation) {
            let leader = plan.isRestless && chance(70) ? anyLeader() : nil
            let node = leader ?? anyNode()
            cluster.isolate(node.number, true)
            cluster.schedule(after: 30) { [unowned self] in
                if cluster.isIsolated(node.number) {
                    cluster.tellOthers(of: node.number, isLost: true)
                }
            }
        }
        if cluster.happens(plan.healing) { heal(anyNode()) }
    }

    private func crash(_ node: ClusterNode) {
        guard node.isUp else { return }
        counts.crashes += 1
        let fate = draw(0...2)
        node.crash(
            fate == 0
                ? .dropUnsynced
                : fate == 1 ? .keepUnsynced : .tear(seed: cluster.random.next(), grain: 512),
            tearsRound: chance(50)
        )
        cluster.tellOthers(of: node.number, isLost: true)
    }

    private func heal(_ node: ClusterNode) {
        if !node.isUp {
            let others = cluster.nodes.allSatisfy {
                $0.replica?.isElectable ?? false || $0 === node
            }
            let isSuspect = plan.suspects && others && chance(30)
            if isSuspect { counts.suspects += 1 }
            cluster.start(node.number, isSuspect: isSuspect, forgets: chance(50))
            cluster.tellOthers(of: node.number, isLost: false)
        }
        if cluster.isIsolated(node.number) {
            cluster.isolate(node.number, false)
            cluster.tellOthers(of: node.number, isLost: false)
        }
    }

    private func calmDown() {
        plan = Plan()
        cluster.faults = ReplicaCluster.Faults()
        cluster.nodes.forEach(heal)
    }

    // MARK: Checks

    /// With all faults over, somebody leads, takes proposals, and everybody applies them.
    private func checkProgress() {
        guard ledger.violations.isEmpty else { return }
        guard let leader = cluster.nodes.first(where: { $0.replica?.isServing ?? false }) else {
            return ledger.violation("nobody leads: \(summary)")
        }
        var isAcknowledged = false
        cluster.propose("last", at: leader.number) { result in
            if case .success = result { isAcknowledged = true }
        }
        step(20 * ReplicaCluster.tickLength) {}
        if !isAcknowledged { ledger.violation("the last proposal is not acknowledged: \(summary)") }
        for node in cluster.nodes {
            let applied = node.replica?.appliedIndex ?? .zero
            if applied.rawValue != UInt64(ledger.facts.count) {
                ledger.violation("\(node.number) applied up to \(applied): \(summary)")
            }
            if !node.failures.isEmpty { ledger.violation("\(node.number): \(node.failures)") }
        }
        if !openProposals.isEmpty, ledger.violations.isEmpty {
            // Those of brokers that crashed are never answered; the others are.
            counts.unsettled += openProposals.count
        }
    }

    /// The logs are the same, byte for byte, wherever two of them reach.
    private func checkLogs() {
        guard ledger.violations.isEmpty else { return }
        for node in cluster.nodes {
            for entry in node.entries(upTo: node.replica?.log.commitIndex ?? .zero) {
                guard let fact = ledger.fact(at: entry.frame.index) else { continue }
                if fact.checksum != entry.frame.checksum || (try? entry.verifyBatch()) == nil {
                    ledger.violation("\(node.number) has another entry \(entry.frame.index)")
                }
            }
        }
    }

    private var summary: String {
        cluster.nodes.map { node in
            guard let replica = node.replica else { return "\(node.number) down" }
            return "\(node.number) \(replica.isLeader ? "leads" : "follows") \(replica.term) "
                + "last=\(replica.log.lastIndex) applied=\(replica.appliedIndex) \(replica.membership)"
                + (replica.isElectable ? "" : " suspect") + (replica.isQuiet ? " quiet" : "")
        }.joined(separator: "; ")
    }
}
