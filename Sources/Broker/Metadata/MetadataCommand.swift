package import FlotillaCoordination
package import FlotillaModel

/// A change of the cluster's metadata that some shard asks for, or a question to its leader.
package enum MetadataCommand: Hashable, Sendable {
    case createTopics([TopicRequest], validateOnly: Bool)
    case deleteTopics([TopicReference])
    case createPartitions([PartitionsRequest], validateOnly: Bool)
    case incrementalAlterConfigs([ConfigAlteration], validateOnly: Bool)
    case alterConfigs([ConfigReplacement], validateOnly: Bool)
    /// The next producer ids for the broker that asks.
    case allocateProducerIDs
    /// A replica of a deleted topic, or one that left its group, is gone from the disk of the broker that asks.
    case replicaRemoved(GroupID)
    /// A broker joins, moved or came back.
    case registerBroker(BrokerRegistration)
    /// Partitions are to lie on other brokers, or no longer.
    case alterReassignments([ReassignmentRequest], allowsReplicationFactorChange: Bool)
    /// A partition's group has become what was wished for; its leader says so.
    case finishMovement(TopicPartition, revision: UInt64)
    /// A member lost its promises, and its broker wants a new one in its place.
    case renewReplica(GroupMember, of: TopicPartition)
    /// A broker is to give its replicas away, or to take replicas again.
    case setBrokerState(BrokerID, BrokerState, allowsPartial: Bool)
    /// A broker is gone for good.
    case unregisterBroker(BrokerID)
    /// Formats up to this level may be written.
    case setFeatureLevel(Int16, validateOnly: Bool)
    /// Up to where the metadata is committed now: whoever has applied that much sees everything acknowledged before.
    case readIndex
    /// The metadata's group, as its leader knows it.
    case describeQuorum
    /// Which member of the metadata's group a broker is now; that one has applied the metadata up to an index.
    case findMember(BrokerID, appliedIndex: LogIndex)
}

/// What became of a command, after the change is committed.
package enum MetadataReply: Sendable {
    /// Answers `createTopics` and `createPartitions`.
    case topics([TopicOutcome])
    /// Answers `deleteTopics`.
    case deletions([TopicDeletionOutcome])
    /// Answers both alterations of configs.
    case configs([ConfigOutcome])
    /// Answers `allocateProducerIDs`.
    case producerIDs(ProducerIDBlock)
    /// Answers `registerBroker`.
    case registered(RegistrationOutcome)
    /// Answers `alterReassignments`.
    case reassignments([ReassignmentOutcome])
    /// Answers `renewReplica`, nil when the old member is not wanted any more, and `findMember`, nil when the broker is none.
    case member(GroupMember?)
    /// Answers `readIndex`.
    case index(LogIndex)
    /// Answers `describeQuorum`.
    case quorum(QuorumDescription)
    /// Answers all others.
    case done
    /// The whole command failed.
    case refused(Refusal)
}
