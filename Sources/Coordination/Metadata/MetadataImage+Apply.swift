import FlotillaModel

/// Why a record cannot follow the state; the caller adds where and which.
struct Contradiction: Error {
    /// What does not fit.
    var reason: String

    init(_ reason: String) {
        self.reason = reason
    }
}

/// What each record does. It looks at nothing but the state and the record.
extension MetadataImage {
    /// Applies one record.
    ///
    /// - Throws: when the record contradicts the state; the state is then of no use, and the caller drops it.
    mutating func apply(_ record: MetadataRecord) throws(Contradiction) {
        if case .clusterInitialised = record {
        } else if clusterID == nil {
            throw Contradiction("the cluster is not initialised")
        }
        switch record {
        case .clusterInitialised(let clusterID, let format):
            try initialise(clusterID, format: format)
        case .brokerRegistered(let registration): register(registration)
        case .topicCreated(let id, let name, let partitions, let configs):
            guard partitions.allSatisfy({ !$0.isMoving && $0.revision == 0 }) else {
                throw Contradiction("a new partition is not moving")
            }
            try create(TopicImage(id: id, name: name, partitions: partitions, configs: configs))
        case .partitionsAdded(let topic, let partitions): try add(partitions, to: topic)
        case .topicDeleted(let topic): try delete(topic)
        case .replicaDeletionConfirmed(let topic, let broker):
            try confirmDeletion(of: topic, on: broker)
        case .topicConfigsChanged(let topic, let changes): try change(topic, changes)
        case .brokerConfigsChanged(let broker, let changes): try change(broker, changes)
        case .groupConfigsChanged(let group, let changes):
            var configs = configs(ofGroup: group)
            configs.apply(changes)
            try check(configs, with: GroupConfig.table)
            groupConfigs[group] = configs.isEmpty ? nil : configs
        case .producerIDsAllocated(let block, _): try allocate(block)
        case .featureLevelSet(let level): try raiseFeatureLevel(to: level)
        case .clusterFounded(let founders): try found(founders)
        case .metadataMemberAdded(let member): try addMetadataMember(member)
        case .brokerStateChanged(let broker, let state): try setState(of: broker, to: state)
        case .brokerUnregistered(let broker): try unregister(broker)
        case .partitionsMoved(let topic, let changes): try move(topic, changes)
        case .movementFinished(let partition, let revision):
            try finishMovement(of: partition, revision: revision)
        case .replicaRemovalConfirmed(let replica): try confirmRemoval(of: replica)
        case .clusterRecovered(let id): try recover(as: id)
        }
    }

    /// How many creation epochs and producer ids are passed over: records that are lost may have given some away.
    private static let recoveryGap: (epochs: UInt64, producerIDs: Int64) = (1 << 32, 1 << 40)

    private mutating func recover(as id: String) throws(Contradiction) {
        guard id != clusterID else { throw Contradiction("a recovered cluster has another id") }
        guard nextCreationEpoch.rawValue <= UInt64.max - Self.recoveryGap.epochs,
            nextProducerID.rawValue <= Int64.max - Self.recoveryGap.producerIDs
        else { throw Contradiction("no numbers are left") }
        clusterID = id
        nextCreationEpoch = CreationEpoch(nextCreationEpoch.rawValue + Self.recoveryGap.epochs)
        nextProducerID = ProducerID(nextProducerID.rawValue + Self.recoveryGap.producerIDs)
    }

    private mutating func initialise(_ id: String, format: UInt16) throws(Contradiction) {
        guard clusterID == nil else { throw Contradiction("the cluster is initialised") }
        clusterID = id
        self.format = format
    }

    mutating func create(_ topic: TopicImage) throws(Contradiction) {
        guard TopicName.fault(in: topic.name) == nil else {
            throw Contradiction("the name is not allowed")
        }
        guard topics[topic.name] == nil else { throw Contradiction("a topic of this name exists") }
        guard topic.id != .zero, topic.id != .clusterMetadata, topicsByID[topic.id] == nil,
            deletedTopics[topic.id] == nil
        else { throw Contradiction("the topic's id is taken") }
        guard collision(with: topic.name) == nil else {
            throw Contradiction("the name collides with another")
        }
        guard !topic.partitions.isEmpty else {
            throw Contradiction("a topic has at least one partition")
        }
        try check(topic.configs, with: TopicConfigTable.table)
        try place(topic.partitions)
        metricForms[TopicName.metricForm(of: topic.name)] = topic.name
        put(topic)
    }

    private mutating func add(_ partitions: [PartitionImage], to id: TopicID) throws(Contradiction)
    {
        let topic = try existingTopic(id)
        guard !partitions.isEmpty else { throw Contradiction("no partition is added") }
        try place(partitions)
        put(topic.with(partitions: topic.partitions + partitions))
    }

    private mutating func delete(_ id: TopicID) throws(Contradiction) {
        let topic = try existingTopic(id)
        topics[topic.name] = nil
        topicsByID[id] = nil
        metricForms[TopicName.metricForm(of: topic.name)] = nil
        partitionCount -= topic.partitions.count
        for partition in topic.partitions {
            count(partition, by: -1)
        }
        let holders = topic.partitions.flatMap { $0.members.map(\.broker) }.sorted()
        var unconfirmed: [BrokerID] = []
        for broker in holders where unconfirmed.last != broker {
            unconfirmed.append(broker)
        }
        deletedTopics[id] = DeletedTopic(
            id: id,
            name: topic.name,
            partitions: topic.partitions,
            unconfirmedBrokers: unconfirmed
        )
    }

    mutating func confirmDeletion(of id: TopicID, on broker: BrokerID) throws(Contradiction) {
        guard var topic = deletedTopics[id], topic.unconfirmedBrokers.contains(broker) else {
            throw Contradiction("the broker has no replica of that topic to delete")
        }
        topic.unconfirmedBrokers.removeAll { $0 == broker }
        deletedTopics[id] = topic.unconfirmedBrokers.isEmpty ? nil : topic
    }

    private mutating func change(_ id: TopicID, _ changes: [ConfigChange]) throws(Contradiction) {
        let topic = try existingTopic(id)
        var configs = topic.configs
        configs.apply(changes)
        try check(configs, with: TopicConfigTable.table)
        put(topic.with(configs: configs))
    }

    private mutating func change(_ broker: BrokerID?, _ changes: [ConfigChange])
        throws(Contradiction)
    {
        var configs = broker.map { self.configs(of: $0) } ?? clusterConfigs
        configs.apply(changes)
        try check(configs, with: BrokerConfigTable.table)
        if let broker {
            brokerConfigs[broker] = configs.isEmpty ? nil : configs
        } else {
            clusterConfigs = configs
        }
    }

    private mutating func allocate(_ block: ProducerIDBlock) throws(Contradiction) {
        // A gap is fine, an overlap would give two producers one id.
        guard block.count > 0, block.start >= nextProducerID else {
            throw Contradiction("producer ids below \(nextProducerID) are given away")
        }
        nextProducerID = block.end
    }

    private mutating func raiseFeatureLevel(to level: Int16) throws(Contradiction) {
        guard level > featureLevel else { throw Contradiction("the feature level never falls") }
        guard level <= Self.supportedFeatureLevel else {
            throw Contradiction("level \(level) needs a newer program")
        }
        featureLevel = level
    }

    func existingTopic(_ id: TopicID) throws(Contradiction) -> TopicImage {
        guard let topic = topicsByID[id] else { throw Contradiction("there is no topic \(id)") }
        return topic
    }

    mutating func put(_ topic: TopicImage) {
        partitionCount += topic.partitions.count - (topicsByID[topic.id]?.partitions.count ?? 0)
        topics[topic.name] = topic
        topicsByID[topic.id] = topic
    }

    private mutating func place(_ partitions: [PartitionImage]) throws(Contradiction) {
        var next = nextCreationEpoch
        for partition in partitions {
            try check(partition)
            for member in partition.members {
                next = max(next, try after(member))
            }
            count(partition, by: 1)
        }
        nextCreationEpoch = next
    }

    /// States what every partition's place must be.
    func check(_ partition: PartitionImage) throws(Contradiction) {
        if let fault = partition.fault { throw Contradiction(fault) }
        if let stranger = partition.members.first(where: { brokers[$0.broker] == nil }) {
            throw Contradiction("broker \(stranger.broker) is not registered")
        }
    }

    /// The creation epoch after a new member's.
    func after(_ member: GroupMember) throws(Contradiction) -> CreationEpoch {
        guard member.epoch >= nextCreationEpoch, member.epoch.rawValue < UInt64.max else {
            throw Contradiction("creation epochs below \(nextCreationEpoch) are used")
        }
        return CreationEpoch(member.epoch.rawValue + 1)
    }

    mutating func count(_ partition: PartitionImage, by step: Int) {
        movingPartitionCount += partition.isMoving ? step : 0
        for (place, replica) in partition.replicas.enumerated() {
            var load = loads[replica.broker] ?? BrokerLoad()
            load.replicaCount += step
            load.leaderCount += place == 0 ? step : 0
            loads[replica.broker] = load == BrokerLoad() ? nil : load
        }
    }

    private func check(_ configs: ConfigValues, with table: ConfigTable) throws(Contradiction) {
        for entry in configs.entries {
            guard let definition = table.definition(entry.name),
                let canonical = try? definition.canonical(entry.value), canonical == entry.value
            else {
                throw Contradiction("\(entry.name)=\(entry.value) is not known to this program")
            }
        }
    }
}
