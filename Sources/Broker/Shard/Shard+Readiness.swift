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
        let doubt =
            replica.isElectable ? "" : ", and what it acknowledged may be missing on this broker"
        let what =
            isMember
            ? "the cluster's metadata has no leader\(doubt)"
            : "the cluster has not taken this broker into its metadata's group yet"
        return silent.isEmpty ? what : "\(what): \(Self.named(silent)) not answer"
    }

    /// Whether the metadata that is known here names this broker as what it is.
    package var isNamed: Bool {
        guard settings.isClustered else { return true }
        return image.brokers[settings.broker] != nil
            && image.metadataMembers[settings.broker]?.epoch == settings.metadataMember.epoch
    }

    /// Why the broker has no place in the cluster, in words; nil where it has one, and on the shards that shard 0 speaks for.
    var whyOutside: String? {
        index == 0 && !isNamed ? "the cluster's metadata does not name this broker" : nil
    }

    /// What keeps partitions of this shard from being served, in words.
    ///
    /// `leaderless`: those without a leader; `absent`: replicas that should be here and are not open.
    func whatIsMissing(leaderless: [TopicPartition], absent: [GroupID]) -> String? {
        let renewed = absent.filter { renewals[$0] != nil }
        var sentences: [String] = []
        let count = leaderless.count + absent.count - renewed.count
        if count > 0 { sentences.append("\(count) partitions of shard \(index) have no leader") }
        let doubted = leaderless.filter { partitions[$0]?.replica.isElectable == false }
        if !doubted.isEmpty {
            sentences.append(
                "\(doubted.count) of them may lack here what was acknowledged, and wait for a leader to match them"
            )
        }
        if !renewed.isEmpty {
            sentences.append(
                "\(renewed.count) replicas of shard \(index) lost their votes and wait to be replaced"
            )
        }
        return sentences.isEmpty ? nil : sentences.joined(separator: "; ")
    }

    private static func named(_ brokers: [BrokerID]) -> String {
        let ids = brokers.map(\.description).joined(separator: ", ")
        return brokers.count == 1 ? "broker \(ids) does" : "brokers \(ids) do"
    }
}
