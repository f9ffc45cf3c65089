package import FlotillaModel

/// Commands about the cluster as a whole.
extension Controller {
    /// Makes the cluster, with an id of 22 characters; one that exists keeps its id, and nothing is proposed.
    ///
    /// - Parameters:
    ///   - format: the version of the data formats that the cluster begins with.
    ///   - founders: the brokers that formed it, with their members of the metadata group; with none, the first broker that registers
    ///     is the founder, as member 0.
    /// - Returns: the cluster's id, as the only outcome.
    /// - Throws: when this broker does not lead.
    package mutating func initialiseCluster(
        format: UInt16,
        founders: [ClusterFounder] = []
    ) throws(Refusal) -> Decision<String> {
        try decide { draft throws(Refusal) in
            if let id = draft.image.clusterID {
                return [id]
            }
            let id = TopicID(high: draft.random.next(), low: draft.random.next()).description
            draft.add(.clusterInitialised(clusterID: id, format: format))
            if !founders.isEmpty {
                draft.add(.clusterFounded(founders))
            }
            return [id]
        }
    }

    /// Gives a broker the next thousand producer ids; none of them was or will be given to another.
    ///
    /// - Source: SEMANTICS rule PID-1.
    package mutating func allocateProducerIDs(
        for broker: BrokerID
    ) throws(Refusal) -> Decision<ProducerIDBlock> {
        try decide { draft throws(Refusal) in
            guard draft.image.brokers[broker] != nil else {
                throw Refusal(.brokerIdNotRegistered, "broker \(broker) is not registered")
            }
            let start = draft.image.nextProducerID
            guard start.rawValue <= Int64.max - Int64(Self.producerIDBlockCount) else {
                throw Refusal(.unknownServerError, "all producer ids are given away")
            }
            let block = ProducerIDBlock(start: start, count: Self.producerIDBlockCount)
            draft.add(.producerIDsAllocated(block, broker: broker))
            return [block]
        }
    }

    /// Lets formats up to this level be written; the level never falls.
    ///
    /// - Source: SEMANTICS rule ADM-7.
    package mutating func setFeatureLevel(
        _ level: Int16,
        validateOnly: Bool = false
    ) throws(Refusal) -> Decision<Int16> {
        try decide(validateOnly: validateOnly) { draft throws(Refusal) in
            try Self.requireCluster(draft.image)
            let current = draft.image.featureLevel
            guard current...MetadataImage.supportedFeatureLevel ~= level else {
                throw Refusal(
                    .invalidUpdateVersion,
                    "feature level \(level): it is \(current) and can be raised to "
                        + "\(MetadataImage.supportedFeatureLevel) at most"
                )
            }
            if level != current {
                draft.add(.featureLevelSet(level))
            }
            return [level]
        }
    }

    /// Notes that a broker has deleted its replicas of a deleted topic; what is noted already is not proposed again.
    package mutating func confirmReplicaDeletion(
        of topic: TopicID,
        on broker: BrokerID
    ) throws(Refusal) -> Decision<TopicID> {
        try decide { draft throws(Refusal) in
            if draft.image.deletedTopics[topic]?.unconfirmedBrokers.contains(broker) == true {
                draft.add(.replicaDeletionConfirmed(topic: topic, broker: broker))
            }
            return [topic]
        }
    }

    static func requireCluster(_ image: MetadataImage) throws(Refusal) {
        guard image.clusterID != nil else {
            throw Refusal(.coordinatorNotAvailable, "the cluster is still forming; try again")
        }
    }
}
