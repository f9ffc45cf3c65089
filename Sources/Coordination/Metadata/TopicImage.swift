package import FlotillaModel

/// A topic as it is at one point of the metadata log; it never changes, a changed topic is another object.
package final class TopicImage: Sendable, Equatable {
    /// The topic's identity.
    package let id: TopicID
    /// The topic's name.
    package let name: String
    /// The partitions, by number.
    package let partitions: [PartitionImage]
    /// What is set on the topic itself; checked.
    package let configs: ConfigValues

    /// States a topic.
    package init(id: TopicID, name: String, partitions: [PartitionImage], configs: ConfigValues) {
        self.id = id
        self.name = name
        self.partitions = partitions
        self.configs = configs
    }

    /// Whether it holds the cluster's own state.
    ///
    /// - Source: SEMANTICS rule GEN-6.
    package var isInternal: Bool {
        TopicName.internalNames.contains(name)
    }

    /// The replicas per partition, as Kafka counts them: those of the first partition.
    package var replicationFactor: Int {
        partitions.first?.replicas.count ?? 0
    }

    /// The same topic with other partitions or settings.
    func with(partitions: [PartitionImage]? = nil, configs: ConfigValues? = nil) -> TopicImage {
        TopicImage(
            id: id,
            name: name,
            partitions: partitions ?? self.partitions,
            configs: configs ?? self.configs
        )
    }

    /// Equal when all is.
    package static func == (left: TopicImage, right: TopicImage) -> Bool {
        left === right
            || left.id == right.id && left.name == right.name && left.partitions == right.partitions
                && left.configs == right.configs
    }
}

/// A topic that is gone for clients, while replicas of it may still lie on brokers.
package struct DeletedTopic: Hashable, Sendable {
    /// The topic's identity.
    package var id: TopicID
    /// The name it had; another topic may have it now.
    package var name: String
    /// Where its partitions lay.
    package var partitions: [PartitionImage]
    /// The brokers that have not yet confirmed, ascending.
    package var unconfirmedBrokers: [BrokerID]

    /// The broker's replicas that are to be deleted.
    package func replicas(on broker: BrokerID) -> [GroupID] {
        guard unconfirmedBrokers.contains(broker) else { return [] }
        return partitions.enumerated().flatMap { number, partition in
            partition.members.filter { $0.broker == broker }.map { member in
                GroupID(
                    partition: TopicPartition(topic: id, partition: Int32(number)),
                    epoch: member.epoch
                )
            }
        }
    }
}
