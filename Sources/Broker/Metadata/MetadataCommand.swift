package import FlotillaCoordination
package import FlotillaModel

/// A change of the cluster's metadata that some shard asks for.
package enum MetadataCommand: Sendable {
    case createTopics([TopicRequest], validateOnly: Bool)
    case deleteTopics([TopicReference])
    case createPartitions([PartitionsRequest], validateOnly: Bool)
    case incrementalAlterConfigs([ConfigAlteration], validateOnly: Bool)
    case alterConfigs([ConfigReplacement], validateOnly: Bool)
    /// The next producer ids for this broker.
    case allocateProducerIDs
    /// A replica of a deleted topic is gone from this broker's disk.
    case replicaRemoved(GroupID)
}

/// What became of a command; each case answers the command of the same name, after the change is committed.
package enum MetadataReply: Sendable {
    case topics([TopicOutcome])
    case deletions([TopicDeletionOutcome])
    case configs([ConfigOutcome])
    case producerIDs(ProducerIDBlock)
    case done
    /// The whole command failed.
    case refused(Refusal)
}
