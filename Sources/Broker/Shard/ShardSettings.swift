package import FlotillaCoordination
package import FlotillaEnvironment
package import FlotillaModel

/// What every shard of a broker knows from the start, and what bounds it.
package struct ShardSettings: Sendable {
    /// This broker.
    package var broker: BrokerID
    /// The number of shards of this broker.
    package var shardCount: Int
    /// Where the replicas' directories are.
    package var dataDirectory: String
    /// The broker's static settings, by Kafka's names.
    package var layers: ConfigLayers
    /// The address that clients are told.
    package var advertised: AdvertisedAddress = .asReached
    /// The broker's rack, if it has one.
    package var rack: String?
    /// Where chance comes from.
    package var seed: UInt64
    /// Which life of the data directory this is.
    package var incarnation = BrokerIncarnation(high: 0, low: 0)
    /// The brokers that founded the cluster or are known to belong to it, before the metadata names them.
    package var seeds: [PeerAddress] = []
    /// Whether other brokers can belong to the cluster.
    package var isClustered = false
    /// This replica of the metadata log: this broker, in this creation.
    package var metadataMember: GroupMember
    /// The members that founded the metadata's group; empty for a broker that joined later.
    package var metadataFounders: [ClusterFounder]

    /// The most request bytes that one client may have unanswered before nothing more is read from it.
    package var connectionInFlightByteLimit = 64 << 20
    /// The most request bytes that all clients of one shard may have unanswered.
    package var inFlightByteLimit = 256 << 20
    /// The most bytes of records that the answers to fetches of all clients of one shard hold in memory.
    package var answerByteLimit = 128 << 20
    /// The most bytes of recent entries that a shard keeps in memory although segments hold them.
    package var tailByteCount = 64 << 20
    /// The most segments that a shard keeps open and mapped.
    package var openSegmentLimit = 512
    /// Batches from this size on are compressed by a worker instead of the shard.
    package var workerCompressionByteCount = 64 << 10
    /// Committed bytes of a partition from which on they are written to its segment at once.
    package var segmentWriteByteCount = 256 << 10
    /// How long committed bytes may wait for their segment when there are few.
    package var segmentWriteDelay = Duration.seconds(1)
    /// Free bytes below which producers are refused: twice what the journal may hold.
    package var minimumFreeByteCount: Int64 = 1 << 30
    /// Uncommitted bytes of a partition from which on batches wait: what no quorum commits stays in the journal, which all
    /// partitions share.
    package var uncommittedHoldByteCount = 32 << 20
    /// Bytes per second that this broker reads for replicas elsewhere that catch up; shared by the shards.
    package var recoveryByteRate = 100 << 20
    /// How long members wait to hear of a commit that nothing else tells them of; readers at followers feel it.
    package var commitNewsDelay = Duration.milliseconds(1)
    /// The least time between two looks at retention.
    package var retentionInterval = Duration.seconds(30)
    /// How long a topic's creator waits for its leaders before being answered without them.
    package var leaderWait = Duration.seconds(2)
    /// How long who looks for a coordinator waits for one; what the client asks behind it on the same connection waits as long.
    package var coordinatorWait = Duration.milliseconds(500)

    /// The settings of a broker; the bounds have defaults.
    package init(
        broker: BrokerID,
        shardCount: Int,
        dataDirectory: String,
        layers: ConfigLayers,
        seed: UInt64
    ) {
        self.broker = broker
        self.shardCount = shardCount
        self.dataDirectory = dataDirectory
        self.layers = layers
        self.seed = seed
        metadataMember = GroupMember(broker: broker, epoch: CreationEpoch(0))
        metadataFounders = [ClusterFounder(member: metadataMember, incarnation: incarnation)]
    }

    /// The most bytes that a group may have uncommitted.
    ///
    /// Above what clients may have in flight: their bound is reached first, and is felt as back-pressure, not as an error.
    var uncommittedByteLimit: Int { 2 * inFlightByteLimit }

    /// The shard that a partition lives on while this broker runs.
    ///
    /// Local to the broker: core counts may differ between brokers and change at a restart.
    package func shard(of partition: TopicPartition) -> Int {
        if partition == .clusterMetadata { return 0 }
        // Partitions of one topic are spread evenly: the topic chooses the first shard, the number counts on.
        var start = partition.topic.high ^ partition.topic.low
        start = (start ^ (start >> 31)) &* 0xBF58_476D_1CE4_E5B9
        start ^= start >> 29
        return Int((start &+ UInt64(bitPattern: Int64(partition.partition))) % UInt64(shardCount))
    }
}

/// How clients are told to reach this broker.
package enum AdvertisedAddress: Hashable, Sendable {
    /// Each client is told the address by which it reached the broker.
    case asReached
    /// Every client is told the same.
    case fixed(NetworkAddress)
}
