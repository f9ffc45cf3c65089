import ArgumentParser
import FlotillaClient
import FlotillaModel

/// `flotilla partition`.
struct PartitionCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "partition",
        abstract: "Single partitions: where they lie, who leads, and movements.",
        subcommands: [
            PartitionDescribeCommand.self, PartitionRaftCommand.self, PartitionMoveCommand.self,
            PartitionVerifyCommand.self,
        ]
    )
}

/// `flotilla partition describe`.
struct PartitionDescribeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "describe",
        abstract: "Show where partitions lie, who leads them, and what moves."
    )

    @Argument(help: "The topic.")
    var topic: String

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions

    @Option(
        name: [.short, .customLong("partition")],
        help: "Only this partition; may be repeated."
    )
    var partition: [Int32] = []

    func run() async throws {
        try await client.run { client in
            let admin = Admin(client)
            let names = try await Topics.partitions(topic, partition, client)
            let found = try await Topics.find([topic], client).flatMap(\.partitions)
            let moving = try await Movements.find(admin)
            let led = names.filter { name in
                found.contains { $0.index == name.index && $0.leader != nil }
            }
            let starts = try await Place.named(.earliest).resolve(led, admin)
            let ends = try await Place.named(.latest).resolve(led, admin)
            var table = Table(
                "PARTITION",
                "LEADER",
                "EPOCH",
                "REPLICAS",
                "IN SYNC",
                "ADDING",
                "REMOVING",
                "START",
                "END"
            )
            for name in names {
                guard let known = found.first(where: { $0.index == name.index }) else { continue }
                let movement = moving.first { $0.partition == name }
                switch output.format {
                case .name: print(name)
                case .json: print(Self.json(name, known, movement, starts[name], ends[name]))
                case .table:
                    table.add(
                        name.description,
                        known.leader?.description ?? "none",
                        String(known.leaderEpoch),
                        Brokers.list(known.replicas),
                        Brokers.list(known.inSyncReplicas),
                        Brokers.list(movement?.adding ?? []),
                        Brokers.list(movement?.removing ?? []),
                        starts[name]?.description ?? Table.unknown,
                        ends[name]?.description ?? Table.unknown
                    )
                }
            }
            if output.format == .table { print(table.text) }
        }
    }

    private static func json(
        _ name: NamedPartition,
        _ known: ClusterMetadata.Partition,
        _ movement: Admin.Reassignment?,
        _ start: Offset?,
        _ end: Offset?
    ) -> String {
        JSONText.object([
            "topic": JSONText.quoted(name.topic), "partition": String(name.index),
            "leader": known.leader?.description ?? "null", "epoch": String(known.leaderEpoch),
            "replicas": Brokers.json(known.replicas),
            "in_sync": Brokers.json(known.inSyncReplicas),
            "offline": Brokers.json(known.offlineReplicas),
            "adding": Brokers.json(movement?.adding ?? []),
            "removing": Brokers.json(movement?.removing ?? []),
            "start": start?.description ?? "null", "end": end?.description ?? "null",
        ])
    }
}

/// `flotilla partition raft`.
struct PartitionRaftCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "raft",
        abstract: "Show the replicas of a group: who leads, who votes, who lags.",
        discussion: "Without a topic: the group that keeps the cluster's metadata."
    )

    @Argument(help: "The topic.")
    var topic: String?

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions

    @Option(
        name: [.short, .customLong("partition")],
        help: "Only this partition; may be repeated."
    )
    var partition: [Int32] = []

    func run() async throws {
        try await client.run { client in
            guard let topic else {
                guard partition.isEmpty else {
                    throw CommandFailure.usage("-p needs a topic: the metadata has one partition")
                }
                let group = try await MetadataGroup.find(Admin(client))
                if let problem = group.problem {
                    throw group.quorum == nil
                        ? CommandFailure.unreachable(problem) : CommandFailure.failed(problem)
                }
                // Only to learn that the cluster cannot be asked.
                guard let quorum = group.quorum else {
                    _ = try await Admin(client).quorum()
                    return
                }
                return show(quorum, try await client.metadata(topics: []).brokers.map(\.id))
            }
            let names = try await Topics.partitions(topic, partition, client)
            let found = try await Topics.find([topic], client).flatMap(\.partitions)
            let up = Set(found.flatMap { Set($0.replicas).subtracting($0.offlineReplicas) })
            let answers = await Admin(client).logDirectories(
                of: up.sorted(),
                within: self.client.sizePatience
            )
            show(
                names.compactMap { name in
                    found.first { $0.index == name.index }.map { (name, $0) }
                },
                answers.values.flatMap { (try? $0.get()) ?? [] }
            )
        }
    }

    /// When a member last had everything, told against the one that had it last.
    static func caughtUp(behindMillis: Int64?, isUp: Bool) -> String {
        guard let behindMillis else { return "unknown" }
        // Of a group at rest a leader believes the best until it knows that a broker is gone.
        return isUp && behindMillis < 1000 ? "now" : "\(behindMillis / 1000) s ago"
    }

    private func show(_ quorum: Admin.Quorum, _ alive: [BrokerID]) {
        if output.format == .table {
            print(
                "metadata  leader \(quorum.leader?.description ?? "none")  term \(quorum.epoch)  "
                    + "committed \(quorum.highWatermark)"
            )
        }
        let newest = quorum.members.compactMap(\.lastCaughtUp?.rawValue).max() ?? 0
        var table = Table("BROKER", "ROLE", "STATE", "LOG END", "LAG", "CAUGHT UP")
        for member in quorum.members {
            let role =
                member.broker == quorum.leader ? "leader" : member.isVoter ? "voter" : "learner"
            let lag = member.logEnd.map { max(0, quorum.highWatermark - $0) }
            let behind = member.lastCaughtUp.map { newest - $0.rawValue }
            let isUp = alive.contains(member.broker)
            switch output.format {
            case .name: print(member.broker)
            case .json:
                print(
                    JSONText.object([
                        "broker": member.broker.description, "role": JSONText.quoted(role),
                        "state": JSONText.quoted(isUp ? "up" : "down"),
                        "term": String(quorum.epoch),
                        "log_end": member.logEnd?.description ?? "null",
                        "lag": lag?.description ?? "null",
                        "behind_ms": behind?.description ?? "null",
                    ])
                )
            case .table:
                table.add(
                    member.broker.description,
                    role,
                    isUp ? "up" : "down",
                    member.logEnd?.description ?? Table.unknown,
                    lag?.description ?? Table.unknown,
                    Self.caughtUp(behindMillis: behind, isUp: isUp)
                )
            }
        }
        if output.format == .table { print(table.text) }
    }

    private func show(
        _ partitions: [(NamedPartition, ClusterMetadata.Partition)],
        _ directories: [Admin.LogDirectory]
    ) {
        var table = Table("PARTITION", "TERM", "BROKER", "ROLE", "SIZE")
        for (name, partition) in partitions {
            for broker in partition.replicas {
                let role = Self.role(of: broker, in: partition)
                let byteCount = directories.first {
                    $0.broker == broker && $0.partitionByteCounts[name] != nil
                }?.partitionByteCounts[name]
                switch output.format {
                case .name: print("\(name)@\(broker)")
                case .json:
                    print(
                        JSONText.object([
                            "topic": JSONText.quoted(name.topic), "partition": String(name.index),
                            "term": String(partition.leaderEpoch), "broker": broker.description,
                            "role": JSONText.quoted(role),
                            "bytes": byteCount?.description ?? "null",
                        ])
                    )
                case .table:
                    table.add(
                        name.description,
                        String(partition.leaderEpoch),
                        broker.description,
                        role,
                        byteCount.map { Size(Int($0)).description } ?? Table.unknown
                    )
                }
            }
        }
        if output.format == .table { print(table.text) }
    }

    /// What a replica is at this moment, in one word.
    static func role(of broker: BrokerID, in partition: ClusterMetadata.Partition) -> String {
        if partition.leader == broker { return "leader" }
        if partition.offlineReplicas.contains(broker) { return "offline" }
        return partition.inSyncReplicas.contains(broker) ? "follower" : "lagging"
    }
}

/// `flotilla partition move`.
struct PartitionMoveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "move",
        abstract: "Have partitions lie on other brokers, give that up, or show what moves.",
        discussion: """
            flotilla partition move orders -p 0 --to 1,2,4       the first of them is the preferred leader
            flotilla partition move orders -p 0 --cancel
            flotilla partition move                              what moves now
            """
    )

    @Argument(help: "The topic.")
    var topic: String?

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions
    @OptionGroup var movement: MovementOptions

    @Option(
        name: [.short, .customLong("partition")],
        help: "Only this partition; may be repeated. Otherwise all."
    )
    var partition: [Int32] = []

    @Option(help: "The brokers, as in 1,2,3.")
    var to: String?

    @Flag(help: "Give up what moves, and go back to where the partitions were.")
    var cancel = false

    func validate() throws {
        guard to == nil || !cancel else { throw ValidationError("either --to or --cancel") }
        guard topic != nil || (to == nil && !cancel && partition.isEmpty) else {
            throw ValidationError("name the topic whose partitions shall move")
        }
        guard topic == nil || to != nil || cancel else {
            throw ValidationError(
                "--to says where the partitions shall be, --cancel gives a movement up"
            )
        }
    }

    func run() async throws {
        try await client.run { client in
            let admin = Admin(client)
            let run = MovementRun(admin: admin, client: self.client, format: output.format)
            guard let topic else {
                let moves = try await admin.reassignments().map { moving in
                    ReplicaPlan.Move(
                        partition: moving.partition,
                        from: moving.replicas.filter { !moving.adding.contains($0) },
                        to: moving.target
                    )
                }
                if moves.isEmpty { self.client.note("nothing moves") }
                return run.show(moves)
            }
            let names = try await Topics.partitions(topic, partition, client)
            guard let to else { return try await giveUp(names, run) }
            let brokers = try Brokers.parse(to)
            let found = try await Topics.find([topic], client).flatMap(\.partitions)
            let moves = names.compactMap { name -> ReplicaPlan.Move? in
                guard let known = found.first(where: { $0.index == name.index }),
                    known.replicas != brokers
                else { return nil }
                return ReplicaPlan.Move(partition: name, from: known.replicas, to: brokers)
            }
            if moves.isEmpty { self.client.note("all of it is there already") }
            try await run.carryOut(moves, movement)
        }
    }

    private func giveUp(_ names: [NamedPartition], _ run: MovementRun) async throws {
        let moving = Set(try await run.admin.reassignments().map(\.partition))
        let wanted = names.filter { moving.contains($0) }
        guard !wanted.isEmpty else { return client.note("nothing moves") }
        if movement.dryRun {
            for name in wanted { print(name) }
            throw CommandFailure.differs(
                "\(Words.counted(wanted.count, "movement")) would be given up"
            )
        }
        var wishes: [NamedPartition: [BrokerID]?] = [:]
        for name in wanted { wishes.updateValue(nil, forKey: name) }
        try run.conclude(try await run.admin.reassign(wishes))
        if movement.wait { try await run.wait(for: Set(wanted)) }
    }
}
