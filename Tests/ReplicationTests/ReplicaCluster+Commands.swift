import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage
import FlotillaSimulation

/// The commands of transcripts. Time passes only where a command says so; what a command sets in motion comes to rest
/// before the next one.
///
///     cluster 3 [spare=1] [setting=value ...]   founds a group; spare brokers exist and are not started
///     campaign 1                  tick 10       propose 1 a b [acks=leader]
///     isolate 1 / join 1          crash 1 / start 1 [suspect] [recycled]
///     hold 1 / release 1          the journal's thread stands still, or goes on
///     segments 1                  writes and syncs what is committed     checkpoint 1
///     roll 1                      trim 1 3 (the log starts at offset 3)  remove 1 (segments below the start)
///     read 1                      transfer 1 2            members 1 voters=1,2 [learners=3]
///     full 1 / room 1             the journal has no room for entries, or has room again
///     flip 1 5                    damages what the segments hold of entry 5
///     show                        log 1
extension ReplicaCluster {
    func run(_ line: String) -> [String] {
        let command = Command(line)
        if command.name == "show" { return nodes.map(summary) }
        if command.name == "log" { return [logLine(command.target)] }
        perform(command)
        settle()
        for violation in ledger.violations { note("broken: \(violation)") }
        return takeNotes()
    }

    private func perform(_ command: Command) {
        switch command.name {
        case "cluster":
            command.apply(to: &settings)
            found(voterCount: command.target.number, spareCount: command.value("spare") ?? 0)
        case "tick":
            for _ in 0..<command.target.number {
                for node in nodes { node.turn { $0.tick() } }
                settle()
            }
        case "propose": propose(command)
        case "isolate", "join":
            isolate(command.target.number, command.name == "isolate")
        case "crash": node(command).crash(.dropUnsynced)
        case "start":
            start(
                command.target.number,
                isSuspect: command.has("suspect"),
                forgets: command.has("recycled")
            )
        case "hold", "release": node(command).isJournalHeld = command.name == "hold"
        case "full", "room": node(command).takesEntries = command.name == "room"
        case "segments": node(command).writeSegments()
        case "remove": node(command).removeSegments()
        case "flip": node(command).flip(LogIndex(UInt64(command.number(1))))
        default: ask(node(command), command)
        }
    }

    private func node(_ command: Command) -> ClusterNode { node(command.target.number) }

    private func propose(_ command: Command) {
        let number = command.target.number
        let isForLeader = command.text("acks") == "leader"
        for value in command.words.dropFirst() {
            propose(value, at: number, durability: isForLeader ? .leader : .quorum) {
                [unowned self] result in
                switch result {
                case .success(let placed):
                    note(
                        "\(value) is acknowledged at \(placed.position.index), offset \(placed.baseOffset)"
                    )
                case .failure(let error): note("\(value) is refused: \(error)")
                }
            }
        }
    }

    /// What is asked of a replica.
    private func ask(_ node: ClusterNode, _ command: Command) {
        let number = node.number
        node.turn { replica in
            switch command.name {
            case "campaign": replica.campaign()
            case "checkpoint": replica.provideCheckpoint()
            case "roll": replica.propose(Proposal(.roll, durability: .quorum) { _ in })
            case "trim":
                let offset = Offset(Int64(command.number(1)))
                replica.propose(Proposal(.startOffset(offset), durability: .quorum) { _ in })
            case "lost", "back":
                let broker = BrokerID(Int32(command.number(1)))
                if command.name == "lost" {
                    replica.peerLost(broker)
                } else {
                    replica.peerBack(broker)
                }
            case "read":
                replica.readIndex { [unowned self] result in
                    switch result {
                    case .success(let index): note("\(number) may read at \(index)")
                    case .failure(let error): note("\(number) may not read: \(error)")
                    }
                }
            case "transfer":
                replica.transferLeadership(to: Self.member(command.number(1))) {
                    [unowned self] result in
                    switch result {
                    case .success(let target): note("\(number) handed over to \(target)")
                    case .failure(let error): note("\(number) leads on: \(error)")
                    }
                }
            case "members":
                replica.changeMembership(
                    voters: command.members("voters"),
                    learners: command.members("learners")
                ) { [unowned self] result in
                    switch result {
                    case .success(let membership): note("settled: \(membership)")
                    case .failure(let error): note("not settled: \(error)")
                    }
                }
            default: note("unknown command \(command.name)")
            }
        }
    }

    // MARK: Output

    private func summary(_ node: ClusterNode) -> String {
        guard let replica = node.replica else { return "\(node.number) is down" }
        let log = replica.log
        let role =
            replica.isLeader
            ? (replica.isServing ? "serves" : "leads")
            : replica.leader.map { "follows \($0)" } ?? "waits"
        let first = log.firstIndex > LogIndex(1) ? " first=\(log.firstIndex)" : ""
        return "\(node.number) \(role) term=\(replica.term)\(first) last=\(log.lastIndex) "
            + "applied=\(replica.appliedIndex) written=\(log.writtenIndex) hw=\(replica.highWatermark)"
            + (replica.isElectable ? "" : " suspect")
            + (replica.obstacle == nil ? "" : " obstructed")
    }

    private func logLine(_ command: Command.Target) -> String {
        let node = node(command.number)
        let entries = node.entries(upTo: node.replica?.log.lastIndex ?? .zero).map(describe)
        return "\(node.number): \(entries.joined(separator: " "))"
    }
}

/// A line of a transcript: a name, words, and `key=value` pairs.
struct Command {
    /// The broker, or the number, that a command is about.
    struct Target {
        var number: Int
    }

    let name: String
    private(set) var words: [String] = []
    private var values: [(key: String, value: String)] = []

    init(_ line: String) {
        let parts = line.split(separator: " ").map(String.init)
        name = parts.first ?? ""
        for part in parts.dropFirst() {
            if let equals = part.firstIndex(of: "=") {
                values.append((String(part[..<equals]), String(part[part.index(after: equals)...])))
            } else {
                words.append(part)
            }
        }
    }

    var target: Target { Target(number: number(0)) }

    func number(_ place: Int) -> Int {
        guard place < words.count, let number = Int(words[place]) else {
            preconditionFailure("\(name) has a number at place \(place)")
        }
        return number
    }

    func has(_ word: String) -> Bool { words.contains(word) }

    func text(_ key: String) -> String? { values.first { $0.key == key }?.value }

    func value(_ key: String) -> Int? { text(key).flatMap { Int($0) } }

    func members(_ key: String) -> [GroupMember] {
        (text(key) ?? "").split(separator: ",").compactMap { Int($0) }.map(ReplicaCluster.member)
    }

    /// Sets the settings that are named.
    func apply(to settings: inout Settings) {
        settings.minInSyncReplicas = value("minInSyncReplicas") ?? settings.minInSyncReplicas
        settings.recentEntryLimit = value("recentEntryLimit") ?? settings.recentEntryLimit
        settings.appendEntryLimit = value("appendEntryLimit") ?? settings.appendEntryLimit
        settings.quietAfterTicks = value("quietAfterTicks") ?? settings.quietAfterTicks
    }
}
