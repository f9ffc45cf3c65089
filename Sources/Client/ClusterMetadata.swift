public import FlotillaModel
import FlotillaKafkaWire

/// What a broker said about its cluster at one moment.
public struct ClusterMetadata: Hashable, Sendable {
    /// A broker of the cluster.
    public struct Broker: Hashable, Sendable {
        /// Its id.
        public var id: BrokerID
        /// Where clients reach it.
        public var address: BrokerAddress
        /// The rack that it says it stands in.
        public var rack: String?
    }

    /// A topic.
    public struct Topic: Hashable, Sendable {
        /// Its name.
        public var name: String
        /// Its identity; zero where the broker is too old to say.
        public var id: TopicID
        /// Whether brokers made it for themselves.
        public var isInternal: Bool
        /// Why nothing more is known of it; `.noError` where something is.
        public var error: ErrorCode
        /// By ascending number.
        public var partitions: [Partition]
    }

    /// A partition.
    public struct Partition: Hashable, Sendable {
        /// Its number within the topic.
        public var index: Int32
        /// Who takes its records; nil while nobody does.
        public var leader: BrokerID?
        /// The leader's term, -1 where the broker is too old to say.
        public var leaderEpoch: Int32
        /// Who holds a copy.
        public var replicas: [BrokerID]
        /// Whose copy is as new as the leader's.
        public var inSyncReplicas: [BrokerID]
        /// Whose copy cannot be reached.
        public var offlineReplicas: [BrokerID]
    }

    /// The cluster's id, nil where the broker has none.
    public var clusterID: String?
    /// Who takes administrative requests.
    public var controller: BrokerID?
    /// By ascending id.
    public var brokers: [Broker] = []
    /// By name.
    public var topics: [Topic] = []

    /// A topic by its name.
    public func topic(_ name: String) -> Topic? {
        topics.first { $0.name == name }
    }
}

extension ClusterMetadata {
    init(_ response: MetadataResponse) {
        clusterID = response.clusterId
        controller = response.controllerId < 0 ? nil : BrokerID(response.controllerId)
        brokers = response.brokers.map { broker in
            Broker(
                id: BrokerID(broker.nodeId),
                address: BrokerAddress(host: broker.host, port: Int(broker.port)),
                rack: broker.rack
            )
        }
        brokers.sort { $0.id < $1.id }
        topics = response.topics.map(Topic.init)
        topics.sort { $0.name < $1.name }
    }
}

extension ClusterMetadata.Topic {
    init(_ topic: MetadataResponse.MetadataResponseTopic) {
        name = topic.name ?? ""
        id = topic.topicId
        isInternal = topic.isInternal
        error = ErrorCode(rawValue: topic.errorCode) ?? .unknownServerError
        partitions = topic.partitions.map(ClusterMetadata.Partition.init)
        partitions.sort { $0.index < $1.index }
    }
}

extension ClusterMetadata.Topic {
    /// The same without leaders that were deposed: a broker may name itself long after another leads.
    func keepingNewer(_ known: Self) -> Self {
        guard known.id == id, error == .noError, known.error == .noError else { return self }
        let leaders = Dictionary(known.partitions.map { ($0.index, $0) }) { $1 }
        var newest = self
        for place in newest.partitions.indices {
            let told = newest.partitions[place]
            guard let other = leaders[told.index], other.leaderEpoch > told.leaderEpoch else {
                continue
            }
            newest.partitions[place].leader = other.leader
            newest.partitions[place].leaderEpoch = other.leaderEpoch
        }
        return newest
    }
}

extension ClusterMetadata.Partition {
    init(_ partition: MetadataResponse.MetadataResponsePartition) {
        index = partition.partitionIndex
        leader = partition.leaderId < 0 ? nil : BrokerID(partition.leaderId)
        leaderEpoch = partition.leaderEpoch
        replicas = partition.replicaNodes.map { BrokerID($0) }
        inSyncReplicas = partition.isrNodes.map { BrokerID($0) }
        offlineReplicas = partition.offlineReplicas.map { BrokerID($0) }
    }
}
