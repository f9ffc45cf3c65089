package import FlotillaModel

/// Commands about the cluster and its brokers.
extension Controller {
    /// Makes the cluster, with an id of 22 characters; one that exists keeps its id, and nothing is proposed.
    ///
    /// - Parameter format: the version of the data formats that the cluster begins with.
    /// - Returns: the cluster's id, as the only outcome.
    /// - Throws: when this broker does not lead.
    package mutating func initialiseCluster(format: UInt16) throws(Refusal) -> Decision<String> {
        try decide { draft throws(Refusal) in
            if let id = draft.image.clusterID {
                return [id]
            }
            let id = TopicID(high: draft.random.next(), low: draft.random.next()).description
            draft.add(.clusterInitialised(clusterID: id, format: format))
            return [id]
        }
    }

    /// Tells the cluster of a broker, of its new address or of its new incarnation; what is known already is not proposed again.
    package mutating func registerBroker(
        _ registration: BrokerRegistration
    ) throws(Refusal) -> Decision<BrokerRegistration> {
        try decide { draft throws(Refusal) in
            try Self.requireCluster(draft.image)
            let texts =
                registration.endpoints.flatMap { [$0.listener, $0.host] } + [
                    registration.rack ?? ""
                ]
            guard registration.id.rawValue >= 0,
                texts.allSatisfy({ $0.utf8.count <= TextLimit.byteCount })
            else {
                throw Refusal(
                    .invalidRegistration,
                    "broker \(registration.id): a negative id or a text that is too long"
                )
            }
            if draft.image.brokers[registration.id] != registration {
                draft.add(.brokerRegistered(registration))
            }
            return [registration]
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
    package mutating func setFeatureLevel(_ level: Int16) throws(Refusal) -> Decision<Int16> {
        try decide { draft throws(Refusal) in
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
