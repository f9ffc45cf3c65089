import FlotillaClient
import FlotillaModel

/// The group that keeps the cluster's metadata, as far as somebody tells of it.
struct MetadataGroup {
    /// The group; nil for a cluster that keeps its metadata elsewhere, as older ones do, and where nobody tells.
    var quorum: Admin.Quorum?
    /// Why nobody leads it, or nobody tells.
    var problem: String?

    /// Asks for it.
    static func find(_ admin: Admin) async throws(ClientError) -> MetadataGroup {
        do throws(ClientError) {
            return MetadataGroup(quorum: try await admin.quorum())
        } catch {
            switch error {
            case .unsupported: return MetadataGroup()
            // That nobody is there to tell is an answer as well.
            case .refused(.notLeaderOrFollower, _, let message):
                // Brokers say why, and that one may try again.
                let reason = message?.prefix { $0 != ";" }
                return MetadataGroup(
                    quorum: .leaderless,
                    problem: reason.map { String($0) } ?? "the metadata has no leader"
                )
            case .requestTimedOut, .unreachable, .disconnected:
                return MetadataGroup(problem: "who leads the metadata is not known: \(error)")
            default: throw error
            }
        }
    }
}

/// A cluster's brokers, with what they hold: those that answer, and those that do not.
struct ClusterView {
    /// A broker.
    struct Node: Hashable {
        var id: BrokerID
        /// Where clients reach it, or would.
        var address: BrokerAddress?
        var rack: String?
        /// Whether the cluster hears of it.
        var isUp: Bool
        var replicas: Int
        var leads: Int
        /// Its part in the metadata's group.
        var role: String?

        var state: String { isUp ? "up" : "down" }
    }

    /// By ascending id.
    let nodes: [Node]
    /// Who decides about the cluster; nil where nobody does, or nobody tells.
    let controller: BrokerID?
    let group: MetadataGroup

    /// Looks at what the cluster says of its brokers.
    ///
    /// A broker of Flotilla takes administrative requests whoever leads the metadata, and names itself in its metadata
    /// for them: the controller is who leads the metadata's group, where the cluster has one.
    init(
        _ metadata: ClusterMetadata,
        registered: [Admin.RegisteredBroker] = [],
        _ group: MetadataGroup = MetadataGroup()
    ) {
        self.group = group
        controller =
            group.quorum.map(\.leader) ?? (group.problem == nil ? metadata.controller : nil)
        let partitions = metadata.topics.flatMap(\.partitions)
        let members = group.quorum?.members ?? []
        // A member of the metadata's group that is not registered is no broker, but one of Kafka's controllers.
        let ids = Set(
            metadata.brokers.map(\.id) + registered.map(\.id) + partitions.flatMap(\.replicas)
                + (registered.isEmpty ? members.map(\.broker) : [])
        )
        nodes = ids.sorted().map { id in
            let alive = metadata.brokers.first { $0.id == id }
            let known = registered.first { $0.id == id }
            var role = members.first { $0.broker == id }.map { $0.isVoter ? "voter" : "learner" }
            if group.quorum?.leader == id { role = "leader" }
            return Node(
                id: id,
                address: alive?.address ?? known?.address,
                rack: alive?.rack ?? known?.rack,
                isUp: alive != nil,
                replicas: partitions.count { $0.replicas.contains(id) },
                leads: partitions.count { $0.leader == id },
                role: role
            )
        }
    }

    /// Asks a cluster.
    static func find(
        _ client: KafkaClient
    ) async throws(ClientError) -> (metadata: ClusterMetadata, view: ClusterView) {
        let metadata = try await client.metadata()
        let admin = Admin(client)
        let group = try await MetadataGroup.find(admin)
        return (metadata, ClusterView(metadata, registered: try await registered(admin), group))
    }

    /// Empty for a cluster that cannot be asked.
    private static func registered(
        _ admin: Admin
    ) async throws(ClientError) -> [Admin.RegisteredBroker] {
        do throws(ClientError) {
            return try await admin.registeredBrokers()
        } catch {
            guard case .unsupported = error else { throw error }
            return []
        }
    }

    /// Refuses the id of a broker that the cluster does not know.
    func expect(_ id: BrokerID) throws(CommandFailure) {
        guard !nodes.contains(where: { $0.id == id }) else { return }
        throw .notFound(
            "there is no broker \(id); the cluster has \(Brokers.list(nodes.map(\.id)))"
        )
    }
}
