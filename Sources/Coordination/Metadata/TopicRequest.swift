package import FlotillaModel

/// What a topic gets that asks for no numbers.
package struct TopicDefaults: Hashable, Sendable {
    /// The number of partitions.
    package var partitionCount: Int32
    /// The replicas per partition; the number of brokers where these are fewer.
    ///
    /// 0 and -1 leave it to the cluster, which takes 3.
    package var replicationFactor: Int16

    /// States the defaults.
    package init(partitionCount: Int32, replicationFactor: Int16) {
        self.partitionCount = partitionCount
        self.replicationFactor = replicationFactor
    }

    /// The replicas per partition where there are enough brokers.
    var wantedReplicationFactor: Int {
        replicationFactor > 0 ? Int(replicationFactor) : 3
    }
}

/// A topic to be created.
package struct TopicRequest: Hashable, Sendable {
    /// A partition whose brokers the client names.
    package struct Assignment: Hashable, Sendable {
        /// The partition's number.
        package var partition: Int32
        /// Its brokers, the preferred leader first.
        package var brokers: [BrokerID]

        /// Names the brokers of a partition.
        package init(partition: Int32, brokers: [BrokerID]) {
            self.partition = partition
            self.brokers = brokers
        }
    }

    /// The topic's name.
    package var name: String
    /// The number of partitions; -1 is the default.
    package var partitionCount: Int32
    /// The replicas per partition; -1 is the default.
    package var replicationFactor: Int16
    /// The brokers per partition; empty leaves them to the cluster.
    package var assignments: [Assignment]
    /// Settings; nil values are refused.
    package var configs: [ConfigChange]

    /// Asks for a topic.
    package init(
        name: String,
        partitionCount: Int32 = -1,
        replicationFactor: Int16 = -1,
        assignments: [Assignment] = [],
        configs: [ConfigChange] = []
    ) {
        self.name = name
        self.partitionCount = partitionCount
        self.replicationFactor = replicationFactor
        self.assignments = assignments
        self.configs = configs
    }
}

/// More partitions for a topic.
package struct PartitionsRequest: Hashable, Sendable {
    /// The topic's name.
    package var name: String
    /// How many partitions it is to have.
    package var partitionCount: Int32
    /// The brokers of each new partition; nil leaves them to the cluster.
    package var assignments: [[BrokerID]]?

    /// Asks for partitions.
    package init(name: String, partitionCount: Int32, assignments: [[BrokerID]]? = nil) {
        self.name = name
        self.partitionCount = partitionCount
        self.assignments = assignments
    }
}

/// A topic by its name or by its id.
package enum TopicReference: Hashable, Sendable {
    /// By name.
    case name(String)
    /// By id.
    case id(TopicID)
}

/// The answer for one topic that was to be created or to grow.
package struct TopicOutcome: Sendable {
    /// The topic's name, as asked.
    package var name: String
    /// The topic as it will be, or why not.
    package var result: Result<TopicImage, Refusal>

    /// States an outcome.
    package init(name: String, result: Result<TopicImage, Refusal>) {
        self.name = name
        self.result = result
    }
}

/// The answer for one topic that was to be deleted.
package struct TopicDeletionOutcome: Sendable {
    /// The topic, as asked.
    package var reference: TopicReference
    /// The topic as it was, or why not.
    package var result: Result<TopicImage, Refusal>

    /// States an outcome.
    package init(reference: TopicReference, result: Result<TopicImage, Refusal>) {
        self.reference = reference
        self.result = result
    }
}
