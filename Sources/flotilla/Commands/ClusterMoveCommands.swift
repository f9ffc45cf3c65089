import ArgumentParser
import FlotillaClient
import FlotillaModel

/// `flotilla cluster drain`.
struct ClusterDrainCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain",
        abstract: "Have a broker give away what it leads, and then its replicas.",
        discussion: """
            The cluster does it, a few partitions at a time; this command watches. It refuses where a partition has
            nowhere to go, and names it. --cancel lets the broker take replicas again.
            """
    )

    @Argument(help: "The broker's id.")
    var broker: Int32

    @OptionGroup var client: ClientOptions
    @OptionGroup var admin: AdminOptions
    @OptionGroup var output: OutputOptions
    @OptionGroup var movement: MovementOptions

    @Flag(help: "Let the broker take replicas again.")
    var cancel = false

    /// The time between two looks at what is left.
    private static let pollTime = Duration.seconds(1)

    func run() async throws {
        try await client.run { client in
            if movement.dryRun, !cancel { return try await show(client) }
            let answer = try await AdminRequest(
                method: cancel ? "DELETE" : "POST",
                path: "/v1/brokers/\(broker)/drain"
            ).send(to: try admin.address(), timeout: self.client.patience)
            switch answer.status {
            case 200: self.client.note("broker \(broker) is \(answer.body)")
            case 503: throw CommandFailure.unreachable(answer.body)
            default:
                // It refuses an id that it does not know as it refuses others.
                if let found = try? await ClusterView.find(client) {
                    try found.view.expect(BrokerID(broker))
                }
                throw CommandFailure.failed(answer.body)
            }
            if !cancel, movement.wait { try await waitUntilEmpty(client) }
        }
    }

    /// Prints what would have to move; the cluster chooses the places when it comes to that.
    private func show(_ client: KafkaClient) async throws {
        let admin = Admin(client)
        let id = BrokerID(broker)
        let (metadata, view) = try await ClusterView.find(client)
        try view.expect(id)
        let targets = try await Movements.find(admin).map { ($0.partition, $0.target) }
        var plan = ReplicaPlan(metadata, moving: Dictionary(targets) { first, _ in first })
        let (moves, stuck) = plan.draining(id)
        guard stuck.isEmpty else {
            let names = stuck.prefix(ClusterHealth.namedLimit).map(\.description)
            throw CommandFailure.failed(
                "broker \(id) cannot be drained: no other broker can take "
                    + "\(Words.counted(stuck.count, "partition")), such as "
                    + names.joined(separator: ", ")
            )
        }
        guard !moves.isEmpty else { return self.client.note("broker \(id) holds no replicas") }
        let run = MovementRun(admin: admin, client: self.client, format: output.format)
        try await run.carryOut(moves, movement)
    }

    private func waitUntilEmpty(_ client: KafkaClient) async throws {
        let id = BrokerID(broker)
        var told = -1
        while true {
            let left = try await client.metadata().topics.flatMap(\.partitions).count {
                $0.replicas.contains(id)
            }
            if left != told {
                self.client.note("\(Words.counted(left, "replica")) left on broker \(id)")
                told = left
            }
            if left == 0 { return }
            try await Task.sleep(for: Self.pollTime)
        }
    }
}

/// `flotilla cluster remove`.
struct ClusterRemoveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove",
        abstract: "Forget a broker that holds nothing any more."
    )

    @Argument(help: "The broker's id.")
    var broker: Int32

    @OptionGroup var client: ClientOptions

    @Flag(help: "Only check whether it holds replicas.")
    var dryRun = false

    func run() async throws {
        try await client.run { client in
            let id = BrokerID(broker)
            if dryRun { return try await check(id, client) }
            // The controller refuses where it holds replicas; what another broker's metadata says may be a moment old.
            try await Admin(client).unregister(id)
            self.client.note("broker \(id) is removed; stop it and wipe its directory")
        }
    }

    private func check(_ id: BrokerID, _ client: KafkaClient) async throws {
        let (metadata, view) = try await ClusterView.find(client)
        try view.expect(id)
        let held = metadata.topics.flatMap { topic in
            topic.partitions.filter { $0.replicas.contains(id) }.map {
                NamedPartition(topic: topic.name, index: $0.index).description
            }
        }
        guard held.isEmpty else {
            throw CommandFailure.failed(
                "broker \(id) still holds \(Words.counted(held.count, "replica")), such as "
                    + held.prefix(ClusterHealth.namedLimit).joined(separator: ", ")
                    + "; flotilla cluster drain \(id) moves them"
            )
        }
        self.client.note("broker \(id) holds no replicas and could be removed")
    }
}

/// `flotilla cluster balance`.
struct ClusterBalanceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "balance",
        abstract: "Even out replicas over the brokers, and let preferred replicas lead."
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions
    @OptionGroup var movement: MovementOptions

    @Flag(help: "Move no replicas, only leadership.")
    var leadersOnly = false

    func run() async throws {
        try await client.run { client in
            let admin = Admin(client)
            let metadata = try await client.metadata()
            let targets = try await Movements.find(admin).map { ($0.partition, $0.target) }
            var plan = ReplicaPlan(metadata, moving: Dictionary(targets) { first, _ in first })
            let moves = leadersOnly ? [] : plan.balancing()
            let misled = metadata.topics.flatMap { topic in
                topic.partitions.filter { $0.leader != nil && $0.leader != $0.replicas.first }.map {
                    NamedPartition(topic: topic.name, index: $0.index)
                }
            }
            self.client.note(
                "\(Words.counted(moves.count, "partition")) to move, "
                    + "\(Words.counted(misled.count, "partition")) not led by the preferred replica"
            )
            let run = MovementRun(admin: admin, client: self.client, format: output.format)
            if movement.dryRun, moves.isEmpty, !misled.isEmpty {
                throw CommandFailure.differs(
                    "\(Words.counted(misled.count, "partition")) would get another leader"
                )
            }
            try await run.carryOut(moves, movement)
            guard !movement.dryRun, !misled.isEmpty || !moves.isEmpty else { return }
            try run.conclude(try await admin.electPreferredLeaders())
        }
    }
}

/// `flotilla cluster transfer-leader`.
struct ClusterTransferLeaderCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "transfer-leader",
        abstract: "Let another replica lead a partition.",
        discussion: """
            flotilla cluster transfer-leader orders -p 3 --to 2
            The broker becomes the partition's preferred one: otherwise the cluster would take leadership back.
            """
    )

    @Argument(help: "The topic.")
    var topic: String

    @OptionGroup var client: ClientOptions

    @Option(
        name: [.short, .customLong("partition")],
        help: "Only this partition; may be repeated. Otherwise all."
    )
    var partition: [Int32] = []

    @Option(help: "The broker that shall lead; otherwise the preferred one of each partition.")
    var to: Int32?

    @Flag(help: "Only show which partitions would get another leader; exit code 8 where one would.")
    var dryRun = false

    func run() async throws {
        try await client.run { client in
            let admin = Admin(client)
            let names = try await Topics.partitions(topic, partition, client)
            let found = try await Topics.find([topic], client).flatMap(\.partitions)
            let chosen = found.filter { known in names.contains { $0.index == known.index } }
            let target = to.map { BrokerID($0) }
            for each in chosen {
                guard let target, !each.replicas.contains(target) else { continue }
                throw CommandFailure.failed(
                    "broker \(target) holds no replica of \(topic)[\(each.index)], which is on "
                        + Brokers.list(each.replicas)
                )
            }
            let wanted = chosen.filter { $0.leader != target ?? $0.replicas.first }
            if dryRun {
                for each in wanted { print("\(topic)[\(each.index)]") }
                guard wanted.isEmpty else {
                    throw CommandFailure.differs(
                        "\(Words.counted(wanted.count, "partition")) would get another leader"
                    )
                }
                return
            }
            try await transfer(wanted, to: target, admin)
        }
    }

    private func transfer(
        _ partitions: [ClusterMetadata.Partition],
        to target: BrokerID?,
        _ admin: Admin
    ) async throws {
        guard !partitions.isEmpty else { return client.note("nothing to transfer") }
        let run = MovementRun(admin: admin, client: client, format: .name)
        if let target {
            let wishes = partitions.filter { $0.replicas.first != target }.map { partition in
                (
                    NamedPartition(topic: topic, index: partition.index),
                    Optional([target] + partition.replicas.filter { $0 != target })
                )
            }
            try run.conclude(
                try await admin.reassign(Dictionary(wishes) { first, _ in first })
            )
        }
        let names = partitions.map { NamedPartition(topic: topic, index: $0.index) }
        let outcomes = try await admin.electPreferredLeaders(names)
        try run.conclude(
            outcomes.mapValues { error in
                guard case .refused(.electionNotNeeded, _, _)? = error else { return error }
                return nil
            }
        )
        client.note("\(Words.counted(names.count, "partition")) led as wished")
    }
}
