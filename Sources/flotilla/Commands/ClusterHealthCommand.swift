import ArgumentParser
import FlotillaClient
import FlotillaModel

/// What is wrong with a cluster, as far as its brokers say.
struct ClusterHealth {
    /// One thing that should be so, and what speaks against it.
    struct Check: Hashable, Sendable {
        /// Its name for scripts.
        var name: String
        /// What is wrong, one sentence each; empty when it is well.
        var problems: [String]
    }

    /// The most partitions that a sentence names.
    static let namedLimit = 10
    /// A member of the metadata's group that was heard of so much earlier than others is silent, in milliseconds.
    static let silenceMillis: Int64 = 10_000

    /// All checks, in the order in which they are told.
    let checks: [Check]

    /// Judges a cluster.
    init(_ metadata: ClusterMetadata, _ view: ClusterView) {
        let partitions = metadata.topics.flatMap { topic in
            topic.partitions.map { (NamedPartition(topic: topic.name, index: $0.index), $0) }
        }
        let absent = view.nodes.filter { !$0.isUp }.map(\.id)
        var checks = [
            Check(name: "brokers", problems: absent.map { "broker \($0) does not answer" }),
            Check(
                name: "leaders",
                problems: Self.named(
                    partitions.filter { $0.1.leader == nil }.map(\.0),
                    "without a leader"
                )
            ),
            Check(
                name: "replicas",
                problems: Self.named(
                    partitions.filter { $0.1.inSyncReplicas.count < $0.1.replicas.count }.map(\.0),
                    "under-replicated"
                )
            ),
        ]
        if view.group.quorum != nil || view.group.problem != nil {
            checks.append(Self.metadata(view.group, absent: absent))
        }
        self.checks = checks
    }

    /// Whether nothing is wrong.
    var isHealthy: Bool { checks.allSatisfy(\.problems.isEmpty) }

    private static func metadata(_ group: MetadataGroup, absent: [BrokerID]) -> Check {
        let members = group.quorum?.members ?? []
        let newest = members.compactMap(\.lastHeard?.rawValue).max() ?? 0
        var problems = members.compactMap { member -> String? in
            guard let heard = member.lastHeard?.rawValue else {
                // Whoever has just begun to lead has not heard of everybody yet: that is no silence.
                guard let leader = group.quorum?.leader, absent.contains(member.broker) else {
                    return nil
                }
                return
                    "broker \(member.broker) has taken no metadata since broker \(leader) leads it"
            }
            guard newest - heard > silenceMillis else { return nil }
            return "broker \(member.broker) has not taken metadata for "
                + "\((newest - heard) / 1000) s"
        }
        if let problem = group.problem { problems.append(problem) }
        return Check(name: "metadata", problems: problems)
    }

    private static func named(_ partitions: [NamedPartition], _ what: String) -> [String] {
        guard !partitions.isEmpty else { return [] }
        let names = partitions.prefix(namedLimit).map(\.description).joined(separator: ", ")
        let rest = partitions.count - namedLimit
        return [
            "\(Words.counted(partitions.count, "partition")) \(what): \(names)"
                + (rest > 0 ? " and \(rest) more" : "")
        ]
    }
}

/// `flotilla cluster health`.
struct ClusterHealthCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "health",
        abstract: "Say what is wrong with the cluster; exit code 1 where something is."
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        try await client.run { client in
            let (metadata, view) = try await ClusterView.find(client)
            let health = ClusterHealth(metadata, view)
            switch output.format {
            case .json:
                print(
                    JSONText.object([
                        "healthy": String(health.isHealthy),
                        "checks": JSONText.array(
                            health.checks.map { check in
                                JSONText.object([
                                    "check": JSONText.quoted(check.name),
                                    "healthy": String(check.problems.isEmpty),
                                    "problems": JSONText.array(
                                        check.problems.map { JSONText.quoted($0) }
                                    ),
                                ])
                            }
                        ),
                    ])
                )
            case .name:
                for check in health.checks where !check.problems.isEmpty { print(check.name) }
            case .table:
                for check in health.checks {
                    if check.problems.isEmpty { print("ok   \(check.name)") }
                    for problem in check.problems { print("BAD  \(check.name): \(problem)") }
                }
            }
            guard health.isHealthy else {
                throw CommandFailure.failed("the cluster is not healthy")
            }
        }
    }
}

/// `flotilla cluster nodes`.
struct ClusterNodesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "nodes",
        abstract: "List the brokers, with what they hold and lead."
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        try await client.run { client in
            let (_, view) = try await ClusterView.find(client)
            let up = view.nodes.filter(\.isUp).map(\.id)
            let answers = await Admin(client).logDirectories(
                of: up,
                within: self.client.sizePatience
            )
            for (broker, answer) in answers.sorted(by: { $0.key < $1.key }) {
                guard case .failure(let error) = answer else { continue }
                self.client.note("the size of broker \(broker) is not known: \(error)")
            }
            show(view, answers.compactMapValues { try? $0.get() })
            if let problem = view.group.problem { self.client.note(problem) }
        }
    }

    private func show(_ view: ClusterView, _ directories: [BrokerID: [Admin.LogDirectory]]) {
        var table = Table(
            "BROKER",
            "ADDRESS",
            "RACK",
            "STATE",
            "REPLICAS",
            "LEADS",
            "SIZE",
            "METADATA"
        )
        for node in view.nodes {
            let byteCount = directories[node.id].map { directories in
                directories.flatMap(\.partitionByteCounts.values).reduce(0, +)
            }
            switch output.format {
            case .name: print(node.id)
            case .json:
                print(
                    JSONText.object([
                        "id": node.id.description,
                        "address": JSONText.optional(node.address?.description),
                        "rack": JSONText.optional(node.rack),
                        "state": JSONText.quoted(node.state), "replicas": String(node.replicas),
                        "leads": String(node.leads),
                        "bytes": byteCount?.description ?? "null",
                        "metadata": JSONText.optional(node.role),
                    ])
                )
            case .table:
                table.add(
                    node.id.description,
                    node.address?.description ?? "",
                    node.rack ?? "",
                    node.state,
                    String(node.replicas),
                    String(node.leads),
                    byteCount.map { Size(Int($0)).description } ?? Table.unknown,
                    node.role ?? ""
                )
            }
        }
        if output.format == .table { print(table.text) }
    }
}
