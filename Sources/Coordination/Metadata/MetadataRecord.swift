package import FlotillaModel

/// A change of the cluster's metadata, as the controller group's log carries it.
///
/// Every replica applies every record in the order of the log. A record says what becomes, not what was asked: applying it needs no
/// clock, no chance and no settings. The records of one decision travel in one entry and are applied all or not at all.
package enum MetadataRecord: Hashable, Sendable {
    /// The cluster exists; the first record of every metadata log.
    case clusterInitialised(clusterID: String, format: UInt16)
    /// A broker joined, moved or came back as another incarnation.
    case brokerRegistered(BrokerRegistration)
    /// A topic exists from now on.
    case topicCreated(
        id: TopicID,
        name: String,
        partitions: [PartitionImage],
        configs: ConfigValues
    )
    /// A topic has more partitions; `partitions` are those after the existing ones.
    case partitionsAdded(topic: TopicID, partitions: [PartitionImage])
    /// A topic is gone for clients; its replicas stay listed until their brokers confirm that the data is deleted.
    case topicDeleted(TopicID)
    /// A broker has deleted its replicas of a deleted topic.
    case replicaDeletionConfirmed(topic: TopicID, broker: BrokerID)
    /// Settings of a topic are other than before.
    case topicConfigsChanged(topic: TopicID, changes: [ConfigChange])
    /// Settings of a broker, or with nil of all brokers, are other than before.
    case brokerConfigsChanged(broker: BrokerID?, changes: [ConfigChange])
    /// Settings of a consumer group.
    case groupConfigsChanged(group: String, changes: [ConfigChange])
    /// These producer ids belong to the broker for good.
    case producerIDsAllocated(ProducerIDBlock, broker: BrokerID)
    /// Formats up to this level may be written.
    case featureLevelSet(Int16)
    /// These brokers formed the cluster; it follows `clusterInitialised` in the same entry, if at all.
    case clusterFounded([ClusterFounder])
    /// A broker's replica of the metadata log is this one from now on.
    case metadataMemberAdded(GroupMember)
    /// The cluster wants something else of a broker.
    case brokerStateChanged(broker: BrokerID, state: BrokerState)
    /// A broker is gone for good, and with it what it still had to delete.
    case brokerUnregistered(BrokerID)
    /// Partitions of a topic have other wished members or another order of them.
    case partitionsMoved(topic: TopicID, changes: [PartitionChange])
    /// A partition's group has become what was wished for; what left it is to be deleted.
    case movementFinished(partition: TopicPartition, revision: UInt64)
    /// A broker has deleted a replica that left its group.
    case replicaRemovalConfirmed(RemovedReplica)
    /// One broker went on alone with what it had, as a cluster of this id: what others knew beside it is given up.
    case clusterRecovered(clusterID: String)

    /// The record's name in messages.
    package var name: String {
        switch self {
        case .clusterInitialised: "clusterInitialised"
        case .brokerRegistered: "brokerRegistered"
        case .topicCreated: "topicCreated"
        case .partitionsAdded: "partitionsAdded"
        case .topicDeleted: "topicDeleted"
        case .replicaDeletionConfirmed: "replicaDeletionConfirmed"
        case .topicConfigsChanged: "topicConfigsChanged"
        case .brokerConfigsChanged: "brokerConfigsChanged"
        case .groupConfigsChanged: "groupConfigsChanged"
        case .producerIDsAllocated: "producerIDsAllocated"
        case .featureLevelSet: "featureLevelSet"
        case .clusterFounded: "clusterFounded"
        case .metadataMemberAdded: "metadataMemberAdded"
        case .brokerStateChanged: "brokerStateChanged"
        case .brokerUnregistered: "brokerUnregistered"
        case .partitionsMoved: "partitionsMoved"
        case .movementFinished: "movementFinished"
        case .replicaRemovalConfirmed: "replicaRemovalConfirmed"
        case .clusterRecovered: "clusterRecovered"
        }
    }
}

/// A partition of a topic as it is from now on.
package struct PartitionChange: Hashable, Sendable {
    /// The partition's number.
    package var number: Int32
    /// Its place.
    package var place: PartitionImage

    /// States a change.
    package init(number: Int32, place: PartitionImage) {
        self.number = number
        self.place = place
    }
}

/// Producer ids in a row: `start` and the `count - 1` after it.
package struct ProducerIDBlock: Hashable, Sendable {
    /// The first id.
    package var start: ProducerID
    /// How many ids.
    package var count: Int32

    /// States a block.
    package init(start: ProducerID, count: Int32) {
        self.start = start
        self.count = count
    }

    /// One past the last id.
    package var end: ProducerID {
        ProducerID(start.rawValue + Int64(count))
    }
}
