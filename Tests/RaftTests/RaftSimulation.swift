import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft

/// A group in a world of its own: lossy links, slow disks, crashes, and a workload, all from one
/// seed.
///
/// Time runs in tenths of a tick. The first phase injects faults, the second heals everything and
/// expects progress.
final class RaftSimulation {
    enum Event {
        case deliver(Packet)
        case tick(slot: Int, incarnation: Int)
        case flush(slot: Int, incarnation: Int)
        case completion(slot: Int, incarnation: Int, Ticket)
        case entriesRead(
            slot: Int,
            incarnation: Int,
            follower: GroupMember,
            first: LogIndex,
            byteLimit: Int
        )
        case files(FileTransfer)
        case crash(slot: Int, incarnation: Int)
        case restart(slot: Int, incarnation: Int)
        case isolate(slot: Int)
        case world
    }

    /// Files on their way to a member whose entries are gone.
    struct FileTransfer {
        var leader: Int
        var incarnation: Int
        var target: GroupMember
        var position: LogPosition
        var membership: Membership
    }

    var random: SeededRandom
    var plan: FaultPlan
    var members: [TestMember] = []
    var checker: RaftChecker
    var isFlushing: [Bool]
    /// `isCut[a][b]`: nothing gets from a to b.
    var isCut: [[Bool]]
    /// What each broker last heard of the other: the start it is in, or nil when its beat is
    /// missed.
    var beats: [[Int?]]
    private var queue = EventQueue<Event>()
    private(set) var now = 0
    private(set) var stepCount = 0
    private var nextPayload: UInt64 = 1
    private var nextRequestID: UInt64 = 1
    /// Counts what a run exercised, so that a test can tell that it did.
    var counts = Counts()

    struct Counts {
        var commits = 0
        var leaders = 0
        var truncations = 0
        var installs = 0
        var reads = 0
        var transfers = 0
        var membershipChanges = 0
        var quiets = 0
        var crashes = 0
        var repairs = 0
    }

    /// A group of `voterCount` voters; two more brokers stand by.
    init(seed: UInt64, voterCount: Int) {
        random = SeededRandom(seed: seed)
        plan = FaultPlan(using: &random)
        let brokerCount = voterCount + 2
        let ids = (1...brokerCount).map {
            GroupMember(broker: BrokerID(Int32($0)), epoch: CreationEpoch(1))
        }
        let first = Membership(voters: Array(ids[..<voterCount]))
        checker = RaftChecker(membership: first)
        isFlushing = Array(repeating: false, count: brokerCount)
        isCut = Array(repeating: Array(repeating: false, count: brokerCount), count: brokerCount)
        beats = Array(repeating: Array(repeating: 0, count: brokerCount), count: brokerCount)
        for (slot, id) in ids.enumerated() {
            members.append(
                TestMember(
                    id: id,
                    membership: slot < voterCount ? first : .empty,
                    settings: settings(of: slot),
                    seed: random.next()
                )
            )
            queue.add(.tick(slot: slot, incarnation: 0), at: draw(1...10))
        }
        queue.add(.world, at: 1)
    }

    func settings(of slot: Int) -> Settings {
        var settings = plan.settings
        settings.electionRank = plan.isRestless ? 0 : slot
        return settings
    }

    func draw(_ range: ClosedRange<Int>) -> Int {
        Int.random(in: range, using: &random)
    }

    func happens(perMille: Int) -> Bool {
        perMille > 0 && draw(0...999) < perMille
    }

    func slot(of member: GroupMember) -> Int? {
        members.firstIndex { $0.id == member }
    }

    // MARK: Running

    /// Runs both phases.
    ///
    /// - Returns: the sentences of what went wrong; empty when all is well.
    func run(faultTicks: Int, calmTicks: Int) -> [String] {
        run(until: faultTicks * 10) { false }
        guard checker.violations.isEmpty else {
            return checker.violations
        }
        calm()
        var goal: LogIndex?
        run(until: now + calmTicks * 10) {
            if goal == nil || self.isLost(goal) {
                goal = self.proposeGoal()
            }
            return goal.map(self.isReached) ?? false
        }
        if goal.map(isReached) != true {
            checker.noteStuck(describe())
        }
        return checker.violations
    }

    private func run(until end: Int, isDone: () -> Bool) {
        while checker.violations.isEmpty, !isDone(), let (time, event) = queue.next() {
            now = time
            if now > end {
                queue.add(event, at: time)
                return
            }
            happen(event)
        }
    }

    private func happen(_ event: Event) {
        switch event {
        case .deliver(let packet):
            deliver(packet)
        case .tick(let slot, let incarnation):
            guard members[slot].incarnation == incarnation else {
                return
            }
            step(slot, .tick)
            queue.add(event, at: now + draw(9...11))
        case .flush(let slot, let incarnation):
            flush(slot, incarnation)
        case .completion(let slot, let incarnation, let ticket):
            guard members[slot].incarnation == incarnation else {
                return
            }
            let before = members[slot].raft.membership
            let (effects, packets) = members[slot].complete(ticket)
            stepCount += 1
            note(effects, at: slot, before)
            packets.forEach(send)
            scheduleFlush(slot)
        case .entriesRead(let slot, let incarnation, let follower, let first, let byteLimit):
            guard members[slot].incarnation == incarnation else {
                return
            }
            let entries =
                happens(perMille: plan.lossPerMille / 3)
                ? [] : members[slot].read(from: first, byteLimit: byteLimit)
            step(slot, .entriesRead(for: follower, first: first, entries))
        case .files(let transfer):
            deliver(transfer)
        case .crash(let slot, let incarnation) where plan.isRestless:
            if members[slot].incarnation == incarnation {
                crash(slot)
                let next = members[slot].incarnation
                queue.add(.restart(slot: slot, incarnation: next), at: now + draw(1...20))
            }
        case .restart(let slot, let incarnation):
            if members[slot].incarnation == incarnation, !members[slot].isUp {
                restart(slot)
            }
        case .isolate(let slot) where plan.isRestless:
            isolate(slot)
        case .crash, .isolate:
            break
        case .world:
            changeWorld()
            queue.add(.world, at: now + 1)
        }
    }

    /// Feeds one input and everything that follows from it at once.
    func step(_ slot: Int, _ input: Input, payloads: [UInt64] = []) {
        guard members[slot].isUp else {
            return
        }
        let before = members[slot].raft.membership
        let (effects, packets) = members[slot].step(input, payloads: payloads)
        stepCount += 1
        note(effects, at: slot, before)
        packets.forEach(send)
        scheduleFlush(slot)
    }

    func startTicking(_ slot: Int) {
        queue.add(.tick(slot: slot, incarnation: members[slot].incarnation), at: now + draw(1...10))
    }

    // MARK: Network

    private func send(_ packet: Packet) {
        if case .voteResponse(let response) = packet.message {
            checker.noteVote(response, by: packet.sender, for: packet.target)
        }
        guard !happens(perMille: plan.lossPerMille) else {
            return
        }
        queue.add(.deliver(packet), at: now + draw(1...plan.longestDelay))
        if happens(perMille: plan.duplicatePerMille) {
            queue.add(.deliver(packet), at: now + draw(1...(plan.longestDelay * 4)))
        }
    }

    private func deliver(_ packet: Packet) {
        guard let source = slot(of: packet.sender), let target = slot(of: packet.target),
            !isCut[source][target]
        else {
            return
        }
        let input = Input.receive(packet.message, from: packet.sender, to: packet.target)
        step(target, input, payloads: packet.payloads)
    }

    private func deliver(_ transfer: FileTransfer) {
        let isLeaderUp = members[transfer.leader].incarnation == transfer.incarnation
        let target = slot(of: transfer.target)
        let arrives =
            isLeaderUp && !happens(perMille: plan.lossPerMille)
            && target.map { members[$0].isUp && !isCut[transfer.leader][$0] } == true
        if let target, arrives {
            step(target, .snapshotReceived(transfer.position, transfer.membership))
        } else if let target {
            step(target, .snapshotAbandoned)
        }
        if isLeaderUp {
            step(
                transfer.leader,
                .snapshotSent(to: transfer.target, arrives ? transfer.position : nil)
            )
        }
    }

    // MARK: Disks

    private func scheduleFlush(_ slot: Int) {
        guard members[slot].isUp, !isFlushing[slot], !members[slot].writes.isEmpty else {
            return
        }
        isFlushing[slot] = true
        queue.add(
            .flush(slot: slot, incarnation: members[slot].incarnation),
            at: now + draw(1...plan.longestFlush)
        )
    }

    /// Some of the pending writes become durable; each completion, or the last alone, is told
    /// later, and a later one may come first.
    private func flush(_ slot: Int, _ incarnation: Int) {
        let member = members[slot]
        guard member.incarnation == incarnation else {
            return
        }
        isFlushing[slot] = false
        let tickets = member.flush(draw(1...max(member.writes.count, 1)))
        let told = draw(0...1) == 0 ? tickets.suffix(1) : tickets[...]
        for ticket in told {
            queue.add(
                .completion(slot: slot, incarnation: incarnation, ticket),
                at: now + draw(0...plan.longestCompletion)
            )
        }
        scheduleFlush(slot)
    }

    // MARK: Effects

    private func note(_ effects: [Effect], at slot: Int, _ membership: Membership) {
        for effect in effects {
            note(effect, at: slot, membership)
            if plan.isRestless {
                tempt(effect, at: slot)
            }
        }
    }

    /// Faults happen at the worst moments: to a member that has just won, voted, or lost a suffix.
    private func tempt(_ effect: Effect, at slot: Int) {
        let crash = Event.crash(slot: slot, incarnation: members[slot].incarnation)
        switch effect {
        case .roleChanged(.leader, _, _):
            if happens(perMille: 350) {
                queue.add(.isolate(slot: slot), at: now + draw(0...12))
            } else if happens(perMille: 150) {
                queue.add(crash, at: now + draw(0...15))
            }
        case .truncate where happens(perMille: 200), .persistHardState where happens(perMille: 60):
            queue.add(crash, at: now + draw(0...15))
        default:
            break
        }
    }

    private func note(_ effect: Effect, at slot: Int, _ membership: Membership) {
        let member = members[slot]
        switch effect {
        case .append(let range, _, _, _), .appendReceived(let range, _):
            var index = range.lowerBound
            while index < range.upperBound {
                checker.noteEntry(at: index, of: member)
                index = index.next
            }
        case .roleChanged(.leader, _, _):
            counts.leaders += 1
            checker.noteLeader(member)
        case .commitAdvanced(let index):
            counts.commits += 1
            if member.raft.base.index >= index, member.log.entries.isEmpty {
                checker.noteInstall(member.raft.base, at: member.id)
            }
            checker.noteCommit(of: member, upTo: index)
            noteDurable(index, at: slot, membership, .majority)
        case .acknowledgedAdvanced(let index):
            let quorum = Quorum(atLeast: member.raft.settings.minInSyncReplicas)
            noteDurable(index, at: slot, membership, quorum)
        case .readReady(let requestID, let index):
            counts.reads += 1
            checker.noteReadReady(requestID, index)
        case .readEntries(let follower, let first, let byteLimit):
            queue.add(
                .entriesRead(
                    slot: slot,
                    incarnation: member.incarnation,
                    follower: follower,
                    first: first,
                    byteLimit: byteLimit
                ),
                at: now + draw(0...5)
            )
        case .sendSnapshot(let target, let term, let sequence, let neededIndex):
            ship(from: slot, to: target, term, sequence, neededIndex)
        case .truncate: counts.truncations += 1
        case .installSnapshot: counts.installs += 1
        case .transferFinished(_, succeeded: true): counts.transfers += 1
        case .membershipChangeFinished: counts.membershipChanges += 1
        case .quietChanged(true): counts.quiets += 1
        case .electableChanged(true): counts.repairs += 1
        case .persistHardState, .rejectProposal, .receiveSnapshot, .send, .roleChanged,
            .leaderReady, .membershipChanged, .membershipChangeFailed, .readFailed,
            .transferFinished, .transferRejected, .quietChanged, .electableChanged:
            break
        }
    }

    private func noteDurable(
        _ index: LogIndex,
        at slot: Int,
        _ membership: Membership,
        _ quorum: Quorum
    ) {
        let member = members[slot]
        guard member.raft.role == .leader, !plan.damages, let term = member.log.term(at: index)
        else {
            return
        }
        checker.noteDurable(index, term: term, in: membership, quorum: quorum, members: members)
    }

    /// Ships committed entries as files, up to a position of the driver's choice.
    private func ship(
        from slot: Int,
        to target: GroupMember,
        _ term: Term,
        _ sequence: UInt64,
        _ neededIndex: LogIndex
    ) {
        let leader = members[slot]
        let least = max(neededIndex, leader.log.base.index)
        let index = LogIndex(
            UInt64(draw(Int(least.rawValue)...Int(leader.raft.commitIndex.rawValue)))
        )
        let position = LogPosition(term: leader.log.term(at: index) ?? .zero, index: index)
        let offer = SnapshotOffer(term: term, sequence: sequence, position: position)
        send(
            Packet(
                message: .snapshotOffer(offer),
                sender: leader.id,
                target: target,
                payloads: []
            )
        )
        let transfer = FileTransfer(
            leader: slot,
            incarnation: leader.incarnation,
            target: target,
            position: position,
            membership: leader.log.membership(at: index)
        )
        queue.add(.files(transfer), at: now + draw(1...(plan.longestDelay * 5)))
    }

    // MARK: Workload

    func takePayloads(_ count: Int) -> [UInt64] {
        defer { nextPayload += UInt64(count) }
        return (0..<UInt64(count)).map { nextPayload + $0 }
    }

    func takeRequestID() -> UInt64 {
        defer { nextRequestID += 1 }
        return nextRequestID
    }

    /// The newest leader that believes in itself.
    var newestLeader: Int? {
        members.indices
            .filter { members[$0].isUp && members[$0].raft.role == .leader }
            .max { members[$0].raft.term < members[$1].raft.term }
    }
}
