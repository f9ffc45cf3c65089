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

    /// Judges a cluster; `quorum` is nil where it does not tell of the metadata's group.
    init(_ metadata: ClusterMetadata, _ quorum: Admin.Quorum?) {
        let known = Set(metadata.brokers.map(\.id))
        let partitions = metadata.topics.flatMap { topic in
            topic.partitions.map { (NamedPartition(topic: topic.name, index: $0.index), $0) }
        }
        let holders = Set(
            partitions.flatMap { $0.1.replicas } + (quorum?.members ?? []).map(\.broker)
        )
        let absent = holders.subtracting(known).sorted()
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
        if let quorum { checks.append(Self.metadata(quorum)) }
        self.checks = checks
    }

    /// Whether nothing is wrong.
    var isHealthy: Bool { checks.allSatisfy(\.problems.isEmpty) }

    private static func metadata(_ quorum: Admin.Quorum) -> Check {
        let newest = quorum.members.compactMap(\.lastHeard?.rawValue).max() ?? 0
        var problems = quorum.members.compactMap { member -> String? in
            guard let heard = member.lastHeard?.rawValue, newest - heard > silenceMillis else {
                return nil
            }
            return "broker \(member.broker) has not taken metadata for "
                + "\((newest - heard) / 1000) s"
        }
        if quorum.leader == nil { problems.append("the metadata has no leader") }
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
            let metadata = try await client.metadata()
            let quorum = try await Quorums.find(Admin(client))
            let health = ClusterHealth(metadata, quorum)
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

/// The metadata's group, where the cluster tells of it.
enum Quorums {
    /// Nil for a cluster that keeps its metadata elsewhere, as older ones do.
    static func find(_ admin: Admin) async throws(ClientError) -> Admin.Quorum? {
        do throws(ClientError) {
            return try await admin.quorum()
        } catch {
            switch error {
            case .unsupported: return nil
            // Nobody is there to tell, which is an answer as well.
            case .refused(.notLeaderOrFollower, _, _): return .leaderless
            default: throw error
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

    /// A broker as a line.
    private struct Node {
        var id: BrokerID
        var broker: ClusterMetadata.Broker?
        var replicas: Int
        var leads: Int
        var byteCount: Int64?
        var metadata: String?
    }

    func run() async throws {
        try await client.run { client in
            let metadata = try await client.metadata()
            let admin = Admin(client)
            let quorum = try await Quorums.find(admin)
            var byteCounts: [BrokerID: Int64] = [:]
            do {
                for directory in try await admin.logDirectories() {
                    byteCounts[directory.broker, default: 0] += directory.partitionByteCounts
                        .values.reduce(0, +)
                }
            } catch {
                self.client.note("sizes are not known: \(error)")
            }
            let partitions = metadata.topics.flatMap(\.partitions)
            let ids = Set(
                metadata.brokers.map(\.id) + partitions.flatMap(\.replicas)
                    + (quorum?.members ?? []).map(\.broker)
            )
            let nodes = ids.sorted().map { id in
                Node(
                    id: id,
                    broker: metadata.brokers.first { $0.id == id },
                    replicas: partitions.count { $0.replicas.contains(id) },
                    leads: partitions.count { $0.leader == id },
                    byteCount: byteCounts[id],
                    metadata: Self.role(id, quorum)
                )
            }
            show(nodes)
        }
    }

    private static func role(_ id: BrokerID, _ quorum: Admin.Quorum?) -> String? {
        if quorum?.leader == id { return "leader" }
        return quorum?.members.first { $0.broker == id }.map { $0.isVoter ? "voter" : "learner" }
    }

    private func show(_ nodes: [Node]) {
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
        for node in nodes {
            let state = node.broker == nil ? "down" : "up"
            switch output.format {
            case .name: print(node.id)
            case .json:
                print(
                    JSONText.object([
                        "id": node.id.description,
                        "address": JSONText.optional(node.broker?.address.description),
                        "rack": JSONText.optional(node.broker?.rack),
                        "state": JSONText.quoted(state), "replicas": String(node.replicas),
                        "leads": String(node.leads),
                        "bytes": node.byteCount?.description ?? "null",
                        "metadata": JSONText.optional(node.metadata),
                    ])
                )
            case .table:
                table.add(
                    node.id.description,
                    node.broker?.address.description ?? "",
                    node.broker?.rack ?? "",
                    state,
                    String(node.replicas),
                    String(node.leads),
                    node.byteCount.map { Size(Int($0)).description } ?? "?",
                    node.metadata ?? ""
                )
            }
        }
        if output.format == .table { print(table.text) }
    }
}
