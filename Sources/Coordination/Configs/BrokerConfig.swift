/// Those of a broker's settings that requests look at, as they are in force; the server's own settings are its own.
package struct BrokerConfig: Hashable, Sendable {
    /// The partitions of a topic that asks for no number.
    package var partitionCount: Int32
    /// The replicas of a topic that asks for no number; the number of brokers where these are fewer.
    package var replicationFactor: Int16
    /// Whether a topic that a client asks for is created.
    package var isAutoCreateEnabled: Bool
    /// Whether topics may be deleted.
    package var isTopicDeletionEnabled: Bool
    /// Whether leadership goes back to the preferred replica by itself.
    package var isLeaderRebalanceEnabled: Bool
    /// How long a replica may be behind and still count as in sync.
    package var replicaLagTimeMillis: Int64
    /// The most bytes in one answer to Fetch.
    package var maximumFetchByteCount: Int
    /// How many fetch sessions are remembered.
    package var fetchSessionSlotCount: Int
    /// The most partitions in one answer to DescribeTopicPartitions.
    package var maximumDescribedPartitionCount: Int
    /// How long a partition remembers an idle producer.
    package var producerExpirationMillis: Int64
    /// The longest timeout of a transaction.
    package var transactionMaximumTimeoutMillis: Int32
    /// The longest note beside a committed offset.
    package var maximumOffsetMetadataByteCount: Int
    /// The partitions of the topic that holds consumer groups.
    package var offsetsPartitionCount: Int32
    /// Its replicas; the number of brokers where these are fewer.
    package var offsetsReplicationFactor: Int16
    /// How long commits are kept that nobody needs any more.
    package var offsetRetentionMillis: Int64
    /// How long a new group waits for further members.
    package var initialRebalanceDelay: Duration
    /// The shortest silence after which a member may be given up.
    package var minimumSessionTimeout: Duration
    /// The longest silence that a member may ask for.
    package var maximumSessionTimeout: Duration
    /// The most members of a classic group.
    package var maximumGroupSize: Int
    /// Whether groups may use the consumer protocol (KIP-848).
    package var isConsumerProtocolServed: Bool
    /// After how much silence a member of the consumer protocol is given up.
    package var consumerSessionTimeout: Duration
    /// How often such a member is to be heard.
    package var consumerHeartbeatMillis: Int32
    /// What groups may set for themselves in the place of the two.
    package var groupConfigBounds: GroupConfig.Bounds
    /// The most members of such a group.
    package var maximumConsumerGroupSize: Int
    /// Whether a classic group with members may become one of the consumer protocol.
    package var allowsGroupUpgrade: Bool
    /// Whether a group of the consumer protocol becomes a classic one when only such members are left.
    package var allowsGroupDowngrade: Bool
    /// What shares out the partitions of such a group; the first is the default.
    package var assignors: [Assignor]

    /// How many bytes a second each shard reads to find damage; 0 does without.
    package var scrubByteRate: Int
    /// How long after a look at a replica's segments the next one is due.
    package var scrubIntervalMillis: Int64

    /// The settings in force.
    package init(layers: ConfigLayers) {
        let reader = ConfigReader(table: BrokerConfigTable.table) { layers.value($0.name) }
        partitionCount = Int32(clamping: reader.integer("num.partitions"))
        replicationFactor = Int16(clamping: reader.integer("default.replication.factor"))
        isAutoCreateEnabled = reader.flag("auto.create.topics.enable")
        isTopicDeletionEnabled = reader.flag("delete.topic.enable")
        isLeaderRebalanceEnabled = reader.flag("auto.leader.rebalance.enable")
        replicaLagTimeMillis = reader.integer("replica.lag.time.max.ms")
        maximumFetchByteCount = Int(clamping: reader.integer("fetch.max.bytes"))
        fetchSessionSlotCount = Int(
            clamping: reader.integer("max.incremental.fetch.session.cache.slots")
        )
        maximumDescribedPartitionCount = Int(
            clamping: reader.integer("max.request.partition.size.limit")
        )
        producerExpirationMillis = reader.integer("producer.id.expiration.ms")
        transactionMaximumTimeoutMillis = Int32(
            clamping: reader.integer("transaction.max.timeout.ms")
        )
        scrubByteRate = Int(clamping: reader.integer("log.scrub.bytes.per.second"))
        scrubIntervalMillis = reader.integer("log.scrub.interval.ms")
        maximumOffsetMetadataByteCount = Int(clamping: reader.integer("offset.metadata.max.bytes"))
        offsetsPartitionCount = Int32(clamping: reader.integer("offsets.topic.num.partitions"))
        offsetsReplicationFactor = Int16(
            clamping: reader.integer("offsets.topic.replication.factor")
        )
        offsetRetentionMillis = reader.integer("offsets.retention.minutes") * 60_000
        initialRebalanceDelay = .milliseconds(reader.integer("group.initial.rebalance.delay.ms"))
        minimumSessionTimeout = .milliseconds(reader.integer("group.min.session.timeout.ms"))
        maximumSessionTimeout = .milliseconds(reader.integer("group.max.session.timeout.ms"))
        maximumGroupSize = Int(clamping: reader.integer("group.max.size"))
        isConsumerProtocolServed = reader.words("group.coordinator.rebalance.protocols")
            .contains("consumer")
        consumerSessionTimeout = .milliseconds(
            reader.integer("group.consumer.session.timeout.ms")
        )
        consumerHeartbeatMillis = Int32(
            clamping: reader.integer("group.consumer.heartbeat.interval.ms")
        )
        groupConfigBounds = GroupConfig.Bounds(reader)
        maximumConsumerGroupSize = Int(clamping: reader.integer("group.consumer.max.size"))
        let migration = reader.text("group.consumer.migration.policy")
        allowsGroupUpgrade = ["bidirectional", "upgrade"].contains(migration)
        allowsGroupDowngrade = ["bidirectional", "downgrade"].contains(migration)
        let served = reader.words("group.consumer.assignors").compactMap(Assignor.init(rawValue:))
        assignors = served.isEmpty ? Assignor.allCases : served
    }

    /// What a topic gets that asks for no numbers.
    package var topicDefaults: TopicDefaults {
        TopicDefaults(partitionCount: partitionCount, replicationFactor: replicationFactor)
    }
}
