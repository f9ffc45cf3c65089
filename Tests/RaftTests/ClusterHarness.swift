import FlotillaModel
import FlotillaRaft

/// A group whose members a transcript drives one command at a time; nothing happens by itself.
///
/// After each command messages are delivered in the order of sending and disks finish their writes,
/// until nothing is left to do, unless the transcript cut a link, holds its messages, or stalled a
/// disk.
///
/// | Command | What it does |
/// |---|---|
/// | `cluster 3 [learners=4] [spare=5] [setting=n ...]` | starts anew with voters 1 to 3 |
/// | `given 2 log=1,1,4 [term=6] [vote=1] [commit=2] [damaged]` | starts member 2 from such a disk |
/// | `tick 2 15`, `elapse 3` | lets ticks pass for one member, or for all in turn |
/// | `campaign 1`, `propose 1 [count] [bytes=n]`, `read 1`, `transfer 1 [2]` | as it says |
/// | `membership 1 voters=1,2 [learners=3]` | asks member 1 for a change |
/// | `cut 1`, `cut 1→2`, `heal` | loses messages; heals all |
/// | `hold 1→2`, `release 1→2 [reversed] [twice]`, `drop 1→2` | keeps messages back, and lets them go |
/// | `stall 2`, `flush 2 1`, `resume 2` | keeps a disk from finishing; finishes one write; lets it go |
/// | `crash 2`, `restart 2 [commit=n] [lost=n]` | stops a member; starts it, its log damaged from n on |
/// | `trim 1 4`, `offer 1→3`, `ship 1→3 [fails]` | forgets entries below 4; ships the files that 1 owes 3 |
/// | `replace 3` | member 3 comes back as another creation with an empty log |
/// | `unreachable 1 2`, `reachable 1 2`, `slow 1`, `wake 1`, `set 1 setting=n` | inputs of that name |
/// | `lead 1` | elects member 1 without a word |
/// | `campaign 1 slowly`, `until TEXT`, `lose` | lets nothing follow yet; goes on until a line says so; loses all messages |
/// | `state`, `logs`, `show heartbeats` | prints all members; their terms; heartbeats from now on |
struct ClusterHarness {
    struct Link: Hashable {
        var from: Int
        var to: Int
    }

    struct Shipment {
        var term: Term
        var sequence: UInt64
    }

    var members: [TestMember] = []
    var output: [String] = []
    var showsHeartbeats = false
    private var settings = Settings()
    private var packets: [Packet] = []
    private var cuts: Set<Link> = []
    private var held: [Link: [Packet]] = [:]
    private var stalled: Set<Int> = []
    private var shipments: [Link: Shipment] = [:]
    private var nextPayload: UInt64 = 1
    private var nextRequestID: UInt64 = 1
    private var isStopped = false

    /// Runs one command.
    ///
    /// - Returns: what it printed.
    mutating func run(_ line: String) -> [String] {
        output = []
        isStopped = false
        let command = Command(line)
        switch command.name {
        case "cluster": start(command)
        case "given": give(command)
        case "replace": replace(command.member(0))
        case "lead": lead(command.member(0))
        case "until": until(line.dropFirst("until ".count))
        case "lose": packets = []
        case "crash", "restart", "stall", "flush", "resume", "trim": runDisk(command)
        case "cut", "heal", "hold", "release", "drop", "offer", "ship": runNetwork(command)
        case "state", "logs", "show": runReport(command)
        case "tick":
            for _ in 0..<(command.number(1) ?? 1) {
                step(command.member(0), .tick)
                settle()
            }
        case "elapse":
            for _ in 0..<(command.number(0) ?? 1) {
                for member in members where member.isUp {
                    step(number(of: member.id), .tick)
                    settle()
                }
            }
        default: runInput(command)
        }
        if !isHeld(line) {
            settle()
        }
        return output
    }

    private mutating func runInput(_ command: Command) {
        let member = command.member(0)
        switch command.name {
        case "campaign": step(member, .campaign)
        case "propose":
            let count = command.number(1) ?? 1
            let payloads = (0..<UInt64(count)).map { nextPayload + $0 }
            nextPayload += UInt64(count)
            let entry = ProposedEntry(
                kind: .data,
                byteCount: command.value("bytes").flatMap(Int.init) ?? 10
            )
            step(member, .propose(Array(repeating: entry, count: count)), payloads: payloads)
        case "read":
            step(member, .readIndex(requestID: nextRequestID))
            nextRequestID += 1
        case "announce": step(member, .announceCommit)
        case "transfer": step(member, .transferLeadership(to: command.number(1).map(Self.id)))
        case "membership":
            let voters = command.members("voters")
            step(member, .changeMembership(voters: voters, learners: command.members("learners")))
        case "unreachable": step(member, .unreachable(Self.id(command.member(1))))
        case "reachable": step(member, .reachable(Self.id(command.member(1))))
        case "slow": step(member, .diskSlow)
        case "wake": step(member, .wake)
        case "set":
            var settings = members[member - 1].raft.settings
            command.apply(to: &settings)
            step(member, .settings(settings))
        default: output.append("unknown command: \(command.name)")
        }
    }

    /// Whether what follows from a command waits for the next one: an input with `slowly`, or a
    /// report.
    private func isHeld(_ line: String) -> Bool {
        line.hasSuffix(" slowly") || line == "state" || line == "logs"
    }

    private mutating func runReport(_ command: Command) {
        switch command.name {
        case "state": output += members.map(Self.describe)
        case "logs": output += members.map(Self.describeLog)
        default: showsHeartbeats = true
        }
    }

    // MARK: Shortcuts

    /// Elects a member, and tells nobody about it.
    private mutating func lead(_ number: Int) {
        step(number, .campaign)
        settle()
        step(number, .tick)
        settle()
        precondition(members[number - 1].raft.isReady, "member \(number) could not lead")
        output = []
    }

    /// Goes on until a line with this text was printed; what is under way then stays under way.
    private mutating func until(_ text: Substring) {
        for _ in 0..<10_000 where !output.contains(where: { $0.contains(text) }) {
            _ = settleOne()
        }
        isStopped = true
    }

    // MARK: Groups

    static func id(_ number: Int) -> GroupMember {
        GroupMember(broker: BrokerID(Int32(number)), epoch: CreationEpoch(1))
    }

    func number(of member: GroupMember) -> Int {
        Int(member.broker.rawValue)
    }

    private mutating func start(_ command: Command) {
        self = ClusterHarness()
        let voterCount = command.number(0) ?? 3
        let learners = command.members("learners")
        let spares = command.members("spare")
        command.apply(to: &settings)
        let voters = (1...voterCount).map(Self.id)
        let membership = Membership(voters: voters, learners: learners)
        for id in (voters + learners + spares).sorted() {
            members.append(
                TestMember(
                    id: id,
                    membership: spares.contains(id) ? .empty : membership,
                    settings: settings(of: number(of: id)),
                    seed: UInt64(number(of: id))
                )
            )
        }
    }

    /// Member 1 is the preferred leader, then 2, and so on.
    private func settings(of number: Int) -> Settings {
        var settings = settings
        settings.electionRank = number - 1
        return settings
    }

    /// Puts a disk under a member; entries of equal index and term are equal.
    private mutating func give(_ command: Command) {
        let number = command.member(0)
        var disk = members[number - 1].durable
        let terms = (command.value("log") ?? "").split(separator: ",").compactMap { UInt32($0) }
        disk.entries = terms.enumerated().map { offset, term in
            TestEntry(
                term: Term(term),
                kind: .data,
                byteCount: 10,
                payload: UInt64(term) * 1000 + UInt64(offset)
            )
        }
        disk.hardState = HardState(
            term: Term(command.value("term").flatMap(UInt32.init) ?? terms.last ?? 0),
            votedFor: command.value("vote").flatMap(Int.init).map(Self.id)
        )
        members[number - 1] = TestMember(
            id: Self.id(number),
            disk: disk,
            commitIndex: LogIndex(command.value("commit").flatMap(UInt64.init) ?? 0),
            isDamaged: command.has("damaged"),
            settings: settings(of: number),
            seed: UInt64(number)
        )
    }

    /// The broker lost its disk, and its replica comes back as another member with an empty log.
    private mutating func replace(_ number: Int) {
        let epoch = CreationEpoch(members[number - 1].id.epoch.rawValue + 1)
        let id = GroupMember(broker: BrokerID(Int32(number)), epoch: epoch)
        members[number - 1] = TestMember(
            id: id,
            membership: .empty,
            settings: settings(of: number),
            seed: UInt64(number)
        )
    }

    // MARK: Running

    mutating func step(_ number: Int, _ input: Input, payloads: [UInt64] = []) {
        guard members[number - 1].isUp else {
            return
        }
        let (effects, packets) = members[number - 1].step(input, payloads: payloads)
        perform(effects, packets, of: number)
    }

    private mutating func perform(_ effects: [Effect], _ packets: [Packet], of number: Int) {
        output += effects.compactMap { describe($0, of: number, among: effects) }
        self.packets += packets
        for effect in effects {
            switch effect {
            case .readEntries(let follower, let first, let byteLimit):
                let entries = members[number - 1].read(from: first, byteLimit: byteLimit)
                step(number, .entriesRead(for: follower, first: first, entries))
            case .sendSnapshot(let target, let term, let sequence, _):
                let link = Link(from: number, to: self.number(of: target))
                shipments[link] = Shipment(term: term, sequence: sequence)
            default: break
            }
        }
    }

    private mutating func settle() {
        for _ in 0..<10_000 where !isStopped {
            guard settleOne() else {
                return
            }
        }
        precondition(isStopped, "a transcript's group comes to rest")
    }

    /// - Returns: whether there was anything left to do.
    private mutating func settleOne() -> Bool {
        if !packets.isEmpty {
            deliver(packets.removeFirst())
        } else if let number = members.map({ self.number(of: $0.id) }).first(where: canFlush) {
            flush(number, count: .max)
        } else {
            return false
        }
        return true
    }

    private mutating func deliver(_ packet: Packet) {
        let link = Link(from: number(of: packet.sender), to: number(of: packet.target))
        if held[link] != nil {
            held[link]?.append(packet)
            return
        }
        let isLost = cuts.contains(link) || !members[link.to - 1].isUp
        if let line = describe(packet) {
            output.append(isLost ? "\(line) lost" : line)
        }
        if !isLost {
            let input = Input.receive(packet.message, from: packet.sender, to: packet.target)
            step(link.to, input, payloads: packet.payloads)
        }
    }

    // MARK: Disks

    private func canFlush(_ number: Int) -> Bool {
        !stalled.contains(number) && members[number - 1].isUp && !members[number - 1].writes.isEmpty
    }

    private mutating func flush(_ number: Int, count: Int) {
        for ticket in members[number - 1].flush(min(count, members[number - 1].writes.count))
            .suffix(1)
        {
            let (effects, packets) = members[number - 1].complete(ticket)
            perform(effects, packets, of: number)
        }
    }

    private mutating func runDisk(_ command: Command) {
        let number = command.member(0)
        switch command.name {
        case "crash": members[number - 1].crash(survivors: 0)
        case "restart":
            let member = members[number - 1]
            if let index = command.value("lost").flatMap(UInt64.init) {
                member.damage(from: LogIndex(index), isNoticed: !command.has("unnoticed"))
            }
            let hint = command.value("commit").flatMap(UInt64.init) ?? 0
            member.restart(
                commitHint: LogIndex(hint),
                settings: settings(of: number),
                seed: UInt64(number)
            )
        case "stall": stalled.insert(number)
        case "flush": flush(number, count: command.number(1) ?? 1)
        case "resume": stalled.remove(number)
        default:
            if !members[number - 1].trim(to: LogIndex(UInt64(command.number(1) ?? 1))) {
                output.append("\(number) cannot trim")
            }
        }
    }

    // MARK: Network

    private mutating func runNetwork(_ command: Command) {
        if command.name == "heal" {
            cuts = []
            return
        }
        guard let link = command.link(0) else {
            for other in members.map({ self.number(of: $0.id) }) where other != command.member(0) {
                cuts.insert(Link(from: command.member(0), to: other))
                cuts.insert(Link(from: other, to: command.member(0)))
            }
            return
        }
        switch command.name {
        case "cut": cuts.insert(link)
        case "hold": held[link] = held[link] ?? []
        case "release":
            var kept = held.removeValue(forKey: link) ?? []
            if command.has("reversed") {
                kept.reverse()
            }
            packets += command.has("twice") ? kept + kept : kept
        case "drop": held[link] = nil
        case "offer": offer(link)
        default: ship(link, fails: command.has("fails"))
        }
    }

    /// Announces the files that are owed, up to the leader's commit index.
    private mutating func offer(_ link: Link) {
        guard let shipment = shipments[link] else {
            output.append("\(link.from) owes \(link.to) no files")
            return
        }
        let leader = members[link.from - 1]
        let index = leader.raft.commitIndex
        let position = LogPosition(term: leader.log.term(at: index) ?? .zero, index: index)
        let offer = SnapshotOffer(
            term: shipment.term,
            sequence: shipment.sequence,
            position: position
        )
        let target = Self.id(link.to)
        deliver(
            Packet(message: .snapshotOffer(offer), sender: leader.id, target: target, payloads: [])
        )
        settle()
    }

    /// Announces the files, and delivers them.
    private mutating func ship(_ link: Link, fails: Bool) {
        offer(link)
        shipments[link] = nil
        let leader = members[link.from - 1]
        let index = leader.raft.commitIndex
        let position = LogPosition(term: leader.log.term(at: index) ?? .zero, index: index)
        if fails {
            step(link.to, .snapshotAbandoned)
        } else {
            step(link.to, .snapshotReceived(position, leader.log.membership(at: index)))
        }
        settle()
        step(link.from, .snapshotSent(to: Self.id(link.to), fails ? nil : position))
    }
}
