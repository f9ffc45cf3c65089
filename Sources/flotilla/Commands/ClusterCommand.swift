import ArgumentParser
import FlotillaClient
import FlotillaModel

/// `flotilla cluster`.
struct ClusterCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster",
        abstract: "The cluster as a whole.",
        subcommands: [
            ClusterStatusCommand.self, ClusterHealthCommand.self, ClusterNodesCommand.self,
            ClusterDrainCommand.self, ClusterRemoveCommand.self, ClusterBalanceCommand.self,
            ClusterTransferLeaderCommand.self, ClusterRecoverCommand.self,
        ]
    )
}

/// `flotilla cluster status`.
struct ClusterStatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show brokers, and whether all partitions are served."
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        try await client.run { client in
            let (metadata, view) = try await ClusterView.find(client)
            let partitions = metadata.topics.flatMap(\.partitions)
            let leaderless = partitions.filter { $0.leader == nil }.count
            let lagging = partitions.filter { $0.inSyncReplicas.count < $0.replicas.count }.count
            switch output.format {
            case .json:
                let brokers = view.nodes.map { node in
                    JSONText.object([
                        "id": node.id.description, "host": JSONText.optional(node.address?.host),
                        "port": node.address?.port.description ?? "null",
                        "rack": JSONText.optional(node.rack),
                        "state": JSONText.quoted(node.state), "leads": String(node.leads),
                    ])
                }
                print(
                    JSONText.object([
                        "cluster": JSONText.optional(metadata.clusterID),
                        "controller": view.controller?.description ?? "null",
                        "brokers": JSONText.array(brokers), "topics": String(metadata.topics.count),
                        "partitions": String(partitions.count), "leaderless": String(leaderless),
                        "under_replicated": String(lagging),
                    ])
                )
            case .name: for broker in metadata.brokers { print(broker.address) }
            case .table: show(metadata, view, leaderless, lagging)
            }
            var problems: [String] = []
            if leaderless > 0 {
                problems.append("\(Words.counted(leaderless, "partition")) without a leader")
            }
            if let problem = view.group.problem { problems.append(problem) }
            guard problems.isEmpty else {
                throw CommandFailure.failed(problems.joined(separator: "; "))
            }
        }
    }

    private func show(
        _ metadata: ClusterMetadata,
        _ view: ClusterView,
        _ leaderless: Int,
        _ lagging: Int
    ) {
        let partitionCount = metadata.topics.map(\.partitions.count).reduce(0, +)
        print(
            "cluster \(metadata.clusterID ?? "(no id)")  \(Words.counted(metadata.topics.count, "topic"))  "
                + "\(Words.counted(partitionCount, "partition"))  \(leaderless) leaderless  "
                + "\(lagging) under-replicated  controller \(view.controller?.description ?? "none")"
        )
        var table = Table("BROKER", "ADDRESS", "RACK", "STATE", "LEADS", "CONTROLLER")
        for node in view.nodes {
            table.add(
                node.id.description,
                node.address?.description ?? "",
                node.rack ?? "",
                node.state,
                String(node.leads),
                node.id == view.controller ? "yes" : ""
            )
        }
        print(table.text)
    }
}
