package import FlotillaModel

/// How much a broker carries; what placement looks at.
struct BrokerLoad: Hashable, Sendable {
    /// Replicas of all topics.
    var replicaCount = 0
    /// Those among them that are preferred leaders.
    var leaderCount = 0
}

/// A replica that a broker holds or should hold.
package struct LocalReplica: Hashable, Sendable {
    /// The replica: partition and creation.
    package var group: GroupID
    /// The topic's name.
    package var topicName: String
    /// All members of the Raft group, the preferred leader first.
    package var members: [GroupMember]

    /// Names a replica.
    package init(group: GroupID, topicName: String, members: [GroupMember]) {
        self.group = group
        self.topicName = topicName
        self.members = members
    }
}

/// The cluster's metadata at one point of its log: what all brokers agree on.
///
/// A value: whoever got it may keep it and read it on any thread. Copies share what did not change, so the broker makes one after each
/// applied entry and hands it to its shards.
package struct MetadataImage: Sendable, Equatable {
    /// The highest feature level that this program can serve.
    package static let supportedFeatureLevel: Int16 = 1

    /// The entry after which this is the state.
    package internal(set) var appliedIndex = LogIndex.zero
    /// The cluster's id; nil before the first record.
    package internal(set) var clusterID: String?
    /// The format of the data that the cluster was made with.
    package internal(set) var format: UInt16 = 0
    /// Formats up to this level may be written.
    package internal(set) var featureLevel: Int16 = 0
    /// The brokers, by id.
    package internal(set) var brokers = SortedTable<BrokerID, BrokerRegistration>()
    /// The topics, by name.
    package internal(set) var topics = SortedTable<String, TopicImage>()
    /// Topics that are gone for clients and not yet from all disks, by id.
    package internal(set) var deletedTopics = SortedTable<TopicID, DeletedTopic>()
    /// What is set for all brokers while they run; checked.
    package internal(set) var clusterConfigs = ConfigValues()
    /// The partitions of all topics together.
    package internal(set) var partitionCount = 0

    var topicsByID = SortedTable<TopicID, TopicImage>()
    /// The topics' names as metrics spell them, to find collisions.
    var metricForms = SortedTable<String, String>()
    var brokerConfigs = SortedTable<BrokerID, ConfigValues>()
    var loads = SortedTable<BrokerID, BrokerLoad>()
    var nextProducerID = ProducerID(0)
    var nextCreationEpoch = CreationEpoch(1)

    /// A cluster of which nothing is known yet.
    package init() {}

    /// The topic of this name.
    package func topic(named name: String) -> TopicImage? {
        topics[name]
    }

    /// The topic of this id.
    package func topic(_ id: TopicID) -> TopicImage? {
        topicsByID[id]
    }

    /// What is set for one broker while it runs; checked.
    package func configs(of broker: BrokerID) -> ConfigValues {
        brokerConfigs[broker] ?? ConfigValues()
    }

    /// The replicas that a broker should hold, by topic name and partition.
    package func replicas(on broker: BrokerID) -> [LocalReplica] {
        var replicas: [LocalReplica] = []
        for (name, topic) in topics {
            for (number, partition) in topic.partitions.enumerated() {
                guard let member = partition.replica(on: broker) else { continue }
                let place = TopicPartition(topic: topic.id, partition: Int32(number))
                replicas.append(
                    LocalReplica(
                        group: GroupID(partition: place, epoch: member.epoch),
                        topicName: name,
                        members: partition.replicas
                    )
                )
            }
        }
        return replicas
    }

    /// The replicas that a broker must delete and then confirm.
    package func replicasToDelete(on broker: BrokerID) -> [GroupID] {
        deletedTopics.flatMap { $0.value.replicas(on: broker) }
    }

    /// Whether a topic other than `name` has a name that metrics cannot tell from it.
    func collision(with name: String) -> String? {
        metricForms[TopicName.metricForm(of: name)].flatMap { $0 == name ? nil : $0 }
    }
}
