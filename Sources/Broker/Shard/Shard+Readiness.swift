import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaReplication

extension Shard {
    /// Why the metadata is not known here, in words.
    ///
    /// Shard 0 says whom it takes for that; the others wait for shard 0.
    var whyMetadataIsUnknown: String? {
        guard index == 0, settings.isClustered, let replica = metadata?.replica,
            image.clusterID == nil
        else { return "the metadata is being read" }
        let silent = peers.addresses.map(\.broker).filter { !isReachable($0) }
        guard replica.leader == nil else { return "the metadata is being read" }
        let isMember = replica.membership.contains(broker: settings.broker)
        let what =
            isMember
            ? "the cluster's metadata has no leader"
            : "the cluster has not taken this broker into its metadata's group yet"
        return silent.isEmpty ? what : "\(what): \(Self.named(silent)) not answer"
    }

    private static func named(_ brokers: [BrokerID]) -> String {
        let ids = brokers.map(\.description).joined(separator: ", ")
        return brokers.count == 1 ? "broker \(ids) does" : "brokers \(ids) do"
    }
}
