import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaReplication

/// How the Raft groups of a shard are tuned, and who leads a new one.
extension Shard {
    /// How many idle ticks make a group quiet; the beat between brokers then stands in for it.
    private static let quietAfterTicks = 10

    /// The settings of a partition's group: acknowledgements as its topic asks, and this broker's place among the replicas.
    func groupSettings(of id: TopicPartition, _ config: TopicConfig) -> Settings {
        var group = Settings()
        group.minInSyncReplicas = config.minimumInSyncReplicaCount
        group.uncommittedByteLimit = settings.uncommittedByteLimit
        group.electionRank = rank(in: image.place(of: id)?.brokers ?? [])
        if settings.isClustered { group.quietAfterTicks = Self.quietAfterTicks }
        return group
    }

    /// The settings of the metadata's group.
    var metadataGroupSettings: Settings {
        var group = Settings()
        group.electionRank = rank(in: settings.metadataFounders.map(\.member.broker))
        if settings.isClustered { group.quietAfterTicks = Self.quietAfterTicks }
        return group
    }

    private func rank(in brokers: [BrokerID]) -> Int {
        brokers.firstIndex(of: settings.broker) ?? brokers.count
    }

    /// When the preferred leader of a new group asks for votes: the others may hear of the group a little later.
    private static let campaignDelays: [Duration] = [
        .milliseconds(5), .milliseconds(30), .milliseconds(100), .milliseconds(300),
    ]

    /// Has the first replica of a new group lead it at once, instead of after a timeout.
    func campaignIfPreferred(_ replica: Replica) {
        let voters = replica.membership.voters
        let place = image.place(of: replica.group.partition)
        guard voters.count > 1, place?.brokers.first == settings.broker else { return }
        for delay in Self.campaignDelays {
            schedule(after: delay) { [weak replica] in
                guard let replica, replica.leader == nil else { return }
                replica.campaign()
            }
        }
    }
}
