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
            let metadata = try await client.metadata()
            let partitions = metadata.topics.flatMap(\.partitions)
            let leaderless = partitions.filter { $0.leader == nil }.count
            let lagging = partitions.filter { $0.inSyncReplicas.count < $0.replicas.count }.count
            switch output.format {
            case .json:
                let brokers = metadata.brokers.map { broker in
                    JSONText.object([
                        "id": broker.id.description, "host": JSONText.quoted(broker.address.host),
                        "port": String(broker.address.port), "rack": JSONText.optional(broker.rack),
                        "leads": String(partitions.filter { $0.leader == broker.id }.count),
                    ])
                }
                print(
                    JSONText.object([
                        "cluster": JSONText.optional(metadata.clusterID),
                        "controller": metadata.controller?.description ?? "null",
                        "brokers": JSONText.array(brokers), "topics": String(metadata.topics.count),
                        "partitions": String(partitions.count), "leaderless": String(leaderless),
                        "under_replicated": String(lagging),
                    ])
                )
            case .name: for broker in metadata.brokers { print(broker.address) }
            case .table: show(metadata, partitions, leaderless, lagging)
            }
            if leaderless > 0 {
                throw CommandFailure.failed(
                    "\(Words.counted(leaderless, "partition")) without a leader"
                )
            }
        }
    }

    private func show(
        _ metadata: ClusterMetadata,
        _ partitions: [ClusterMetadata.Partition],
        _ leaderless: Int,
        _ lagging: Int
    ) {
        print(
            "cluster \(metadata.clusterID ?? "(no id)")  \(Words.counted(metadata.topics.count, "topic"))  "
                + "\(Words.counted(partitions.count, "partition"))  \(leaderless) leaderless  \(lagging) under-replicated"
        )
        var table = Table("BROKER", "ADDRESS", "RACK", "LEADS", "CONTROLLER")
        for broker in metadata.brokers {
            table.add(
                broker.id.description,
                broker.address.description,
                broker.rack ?? "",
                String(partitions.filter { $0.leader == broker.id }.count),
                broker.id == metadata.controller ? "yes" : ""
            )
        }
        print(table.text)
    }
}
