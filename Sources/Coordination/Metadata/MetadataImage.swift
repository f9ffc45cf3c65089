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
    /// The voters that the replica begins with where it has no data yet; empty for one that joins a group.
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
    /// Replicas that left their groups and are not yet gone from their disks, with the name that their topic had.
    package internal(set) var removedReplicas = SortedTable<RemovedReplica, String>()
    /// The brokers that give their replicas away, ascending.
    package internal(set) var drainingBrokers: [BrokerID] = []
    /// The replicas of the metadata log, by broker; founders are listed before they register.
    package internal(set) var metadataMembers = SortedTable<BrokerID, MetadataMember>()
    /// What is set for all brokers while they run; checked.
    package internal(set) var clusterConfigs = ConfigValues()
    /// The partitions of all topics together.
    package internal(set) var partitionCount = 0
    /// Those among them whose members are to become others.
    package internal(set) var movingPartitionCount = 0

    var topicsByID = SortedTable<TopicID, TopicImage>()
    /// The topics' names as metrics spell them, to find collisions.
    var metricForms = SortedTable<String, String>()
    var brokerConfigs = SortedTable<BrokerID, ConfigValues>()
    var groupConfigs = SortedTable<String, ConfigValues>()
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

    /// What is set for a consumer group; checked.
    package func configs(ofGroup group: String) -> ConfigValues {
        groupConfigs[group] ?? ConfigValues()
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
                        members: partition.initialVoters(for: member)
                    )
                )
            }
        }
        return replicas
    }

    /// The replicas that a broker must delete and then confirm: those of deleted topics, then those that left their groups.
    package func replicasToDelete(on broker: BrokerID) -> [GroupID] {
        deletedTopics.flatMap { $0.value.replicas(on: broker) }
            + removedReplicas(on: broker).map(\.group)
    }

    /// The replicas that left their groups and that a broker must delete, by partition.
    func removedReplicas(on broker: BrokerID) -> [RemovedReplica] {
        let first = RemovedReplica(
            member: GroupMember(broker: broker, epoch: CreationEpoch(0)),
            partition: TopicPartition(topic: .zero, partition: 0)
        )
        return removedReplicas.entries(from: first).prefix { $0.key.member.broker == broker }
            .map(\.key)
    }

    /// A partition's place; nil when there is no such partition.
    package func place(of partition: TopicPartition) -> PartitionImage? {
        guard let topic = topicsByID[partition.topic],
            topic.partitions.indices.contains(Int(partition.partition))
        else { return nil }
        return topic.partitions[Int(partition.partition)]
    }

    /// Whether a topic other than `name` has a name that metrics cannot tell from it.
    func collision(with name: String) -> String? {
        metricForms[TopicName.metricForm(of: name)].flatMap { $0 == name ? nil : $0 }
    }
}
