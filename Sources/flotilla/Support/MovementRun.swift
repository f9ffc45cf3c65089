import ArgumentParser
import FlotillaClient
import FlotillaModel

/// What commands that move replicas have in common.
struct MovementOptions: ParsableArguments {
    @Flag(help: "Only show what would change; exit code 8 where something would.")
    var dryRun = false

    @Flag(inversion: .prefixedNo, help: "Wait until everything has moved.")
    var wait = true
}

/// Moves that somebody asked for: shown, wished for, and waited for.
struct MovementRun {
    let admin: Admin
    let client: ClientOptions
    let format: OutputFormat

    /// The time between two looks at what still moves.
    private static let pollTime = Duration.milliseconds(500)

    /// Prints moves: what is, and what is wanted.
    func show(_ moves: [ReplicaPlan.Move]) {
        var table = Table("PARTITION", "FROM", "TO")
        for move in moves {
            switch format {
            case .name: print(move.partition)
            case .json:
                print(
                    JSONText.object([
                        "topic": JSONText.quoted(move.partition.topic),
                        "partition": String(move.partition.index),
                        "from": Brokers.json(move.from), "to": Brokers.json(move.to),
                    ])
                )
            case .table:
                table.add(
                    move.partition.description,
                    Brokers.list(move.from),
                    Brokers.list(move.to)
                )
            }
        }
        if format == .table, !moves.isEmpty { print(table.text) }
    }

    /// Makes the moves, or only shows them.
    ///
    /// - Throws: `.differs` for a dry run with moves, `.partial` where some are refused.
    func carryOut(_ moves: [ReplicaPlan.Move], _ options: MovementOptions) async throws {
        show(moves)
        guard !moves.isEmpty else { return }
        if options.dryRun {
            throw CommandFailure.differs("\(Words.counted(moves.count, "partition")) would move")
        }
        let wishes = moves.map { ($0.partition, Optional($0.to)) }
        let outcomes = try await admin.reassign(Dictionary(wishes) { first, _ in first })
        try conclude(outcomes)
        if options.wait { try await wait(for: Set(moves.map(\.partition))) }
    }

    /// Waits until none of the partitions moves any more.
    func wait(for partitions: Set<NamedPartition>) async throws {
        var told = -1
        while true {
            let moving = try await admin.reassignments().count {
                partitions.contains($0.partition)
            }
            if moving == 0 { break }
            if moving != told {
                client.note("\(Words.counted(moving, "partition")) moving")
                told = moving
            }
            try await Task.sleep(for: Self.pollTime)
        }
        client.note("\(Words.counted(partitions.count, "partition")) moved")
    }

    /// Fails where wishes were refused.
    func conclude(_ outcomes: [NamedPartition: ClientError?]) throws {
        let errors = outcomes.sorted { $0.key < $1.key }.compactMap(\.value)
        guard let last = errors.last else { return }
        if errors.count == outcomes.count {
            for error in errors.dropLast() { CommandOutput.note("flotilla: \(error)") }
            throw last
        }
        throw CommandFailure.partial(errors.map(\.description).joined(separator: "\nflotilla: "))
    }
}

/// What moves, where the cluster can tell.
enum Movements {
    /// Empty for a cluster too old to be asked.
    static func find(_ admin: Admin) async throws(ClientError) -> [Admin.Reassignment] {
        do throws(ClientError) {
            return try await admin.reassignments()
        } catch {
            guard case .unsupported = error else { throw error }
            return []
        }
    }
}

/// Brokers as text.
enum Brokers {
    /// `1,2,3`.
    static func list(_ brokers: [BrokerID]) -> String {
        brokers.map(\.description).joined(separator: ",")
    }

    /// `[1,2,3]`.
    static func json(_ brokers: [BrokerID]) -> String {
        JSONText.array(brokers.map(\.description))
    }

    /// Reads `1,2,3`: each once, at least one.
    static func parse(_ text: String) throws(CommandFailure) -> [BrokerID] {
        var brokers: [BrokerID] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let number = Int32(part) else {
                throw .usage("\"\(text)\" is no list of brokers; write their ids, as in 1,2,3")
            }
            guard number >= 0 else {
                throw .usage("\(number) in \"\(text)\" is no broker's id: ids begin at 0")
            }
            guard !brokers.contains(BrokerID(number)) else {
                throw .usage(
                    "\"\(text)\" names broker \(number) twice; a broker holds one replica of a partition"
                )
            }
            brokers.append(BrokerID(number))
        }
        return brokers
    }
}
