import ArgumentParser
import FlotillaClient
import FlotillaModel

/// `flotilla group seek`.
struct GroupSeekCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "seek",
        abstract: "Set where a group goes on reading. It must have no members.",
        discussion: """
            flotilla group seek billing --to start
            flotilla group seek billing --to @2026-11-20T14:29 --topic orders --dry-run
            flotilla group seek billing --by -100 --topic orders:0,2
            """
    )

    @Argument(help: "The group.")
    var group: String

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions

    @Option(
        name: .long,
        parsing: .unconditional,
        help: ArgumentHelp(
            "The place: start, end, an offset, +n (n after the start), -n (the last n), @time.",
            valueName: "place"
        )
    )
    var to: String?

    @Option(
        name: .long,
        parsing: .unconditional,
        help: ArgumentHelp("So many records on, or back, from where it stands.", valueName: "n")
    )
    var by: String?

    @Option(
        help: ArgumentHelp(
            "TOPIC or TOPIC:0,1,4-7; may be repeated. Otherwise all topics that it has committed.",
            valueName: "topic"
        )
    )
    var topic: [String] = []

    @Flag(help: "Make the group where there is none; --topic says of what.")
    var create = false

    @Flag(help: "Only show what would change; exit code 8 where something would.")
    var dryRun = false

    /// What becomes of a partition.
    private struct Move {
        var partition: NamedPartition
        var before: Offset?
        var after: Offset

        var isChange: Bool { before != after }
    }

    func run() async throws {
        let target: SeekTarget
        let choices: [TopicChoice]
        do throws(CommandFailure) {
            target = try SeekTarget(to: to, by: by)
            choices = try topic.map { choice throws(CommandFailure) in try TopicChoice(choice) }
        } catch {
            throw error.report()
        }
        try await client.run { client in
            try await requireEmpty(client)
            let moves = try await moves(to: target, choices, client)
            show(moves)
            let changes = moves.filter(\.isChange)
            if dryRun {
                if !changes.isEmpty { throw CommandFailure.differs("group \(group) would move") }
                return
            }
            try await perform(changes, client)
        }
    }

    private func requireEmpty(_ client: KafkaClient) async throws {
        let described: Admin.DescribedGroup
        do throws(ClientError) {
            described = try await Admin(client).describeGroup(group)
        } catch {
            guard case .refused(.groupIdNotFound, _, _) = error, create else { throw error }
            if topic.isEmpty { throw CommandFailure.usage("--create needs --topic") }
            return
        }
        try GroupRefusal.checkEmpty(described)
    }

    // MARK: What changes

    private func moves(
        to target: SeekTarget,
        _ choices: [TopicChoice],
        _ client: KafkaClient
    ) async throws -> [Move] {
        let admin = Admin(client)
        let committed = try await admin.groupOffsets(group).mapValues(\.offset)
        let partitions = try await partitions(choices, committed, client)
        guard !partitions.isEmpty else {
            throw CommandFailure.failed(
                "group \(group) has committed nothing; --topic says what it is to read"
            )
        }
        let starts = try await Place.named(.earliest).resolve(partitions, admin)
        let ends = try await Place.named(.latest).resolve(partitions, admin)
        var found: [NamedPartition: Offset] = [:]
        if case .place(let place) = target { found = try await place.resolve(partitions, admin) }
        var moves: [Move] = []
        for partition in partitions.sorted() {
            guard let start = starts[partition], let end = ends[partition] else { continue }
            let after = target.offset(
                found: found[partition],
                committed: committed[partition],
                readable: start..<max(start, end)
            )
            guard let after else {
                self.client.note("\(partition): nothing is committed, so it stays so")
                continue
            }
            moves.append(
                Move(partition: partition, before: committed[partition], after: after)
            )
        }
        return moves
    }

    /// Those that are named, or all of the topics of which the group has committed any.
    private func partitions(
        _ choices: [TopicChoice],
        _ committed: [NamedPartition: Offset],
        _ client: KafkaClient
    ) async throws -> [NamedPartition] {
        var partitions: Set<NamedPartition> = []
        if choices.isEmpty {
            let names = Set(committed.keys.map(\.topic)).sorted()
            let metadata = try await client.metadata(topics: names)
            for name in names {
                guard let topic = metadata.topic(name), topic.error == .noError else {
                    self.client.note("topic \(name) does not exist any more")
                    continue
                }
                partitions.formUnion(try Topics.partitions([], of: topic))
            }
            return partitions.sorted()
        }
        for choice in choices {
            partitions.formUnion(
                try await Topics.partitions(choice.topic, choice.partitions, client)
            )
        }
        return partitions.sorted()
    }

    private func show(_ moves: [Move]) {
        for move in moves {
            let before = move.before?.description
            switch output.format {
            case .json:
                print(
                    JSONText.object([
                        "group": JSONText.quoted(group),
                        "topic": JSONText.quoted(move.partition.topic),
                        "partition": String(move.partition.index),
                        "before": before ?? "null",
                        "after": move.after.description,
                    ])
                )
            case .name: print(move.after)
            case .table: print("\(move.partition): \(before ?? Table.unknown) -> \(move.after)")
            }
        }
    }

    // MARK: Changing it

    private func perform(_ moves: [Move], _ client: KafkaClient) async throws {
        let offsets = Dictionary(
            uniqueKeysWithValues: moves.map {
                ($0.partition, Admin.CommittedOffset(offset: $0.after))
            }
        )
        let outcomes = try await Admin(client).alterGroupOffsets(group, offsets)
        let failures = outcomes.sorted { $0.key < $1.key }.compactMap { $0.value }
        guard let first = failures.first else {
            return self.client.note(
                "group \(group) goes on elsewhere in \(Words.counted(moves.count, "partition"))"
            )
        }
        // Somebody joined since we looked.
        if case .refused(.unknownMemberId, _, _) = first {
            throw CommandFailure.failed("group \(group) has members; stop them first")
        }
        guard failures.count < outcomes.count else { throw first }
        throw CommandFailure.partial(failures.map(\.description).joined(separator: "\nflotilla: "))
    }
}
