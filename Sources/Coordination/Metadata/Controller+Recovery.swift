package import FlotillaModel

/// What becomes of a cluster of which one broker is left.
package struct RecoveryOutcome: Hashable, Sendable {
    /// The brokers whose former lives are given up, ascending.
    package var lostBrokers: [BrokerID] = []
    /// Partitions that the survivor has no member of, by name.
    package var lostPartitions: [String] = []
}

extension Controller {
    /// Has one broker go on alone, as a cluster of another id.
    ///
    /// Every other broker is taken for one whose disk is lost: it keeps its id and its place, and the replicas there are new members that
    /// begin empty, whenever an empty broker of that id comes. What their old ones remember counts nowhere any more, and the other
    /// cluster id keeps them out.
    ///
    /// - Parameters:
    ///   - survivor: the broker whose image this is; its members are those that it has.
    ///   - clusterID: the new id.
    ///   - incarnations: draws a life for a broker that nobody has seen yet.
    /// - Returns: what is given up, as the only outcome.
    /// - Throws: where the image does not know the survivor.
    /// - Source: docs/OPERATIONS.md, Lose a majority; etcd's `--force-new-cluster` for the shape.
    package mutating func recoverAlone(
        _ survivor: BrokerID,
        as clusterID: String,
        incarnations: () -> BrokerIncarnation
    ) throws(Refusal) -> Decision<RecoveryOutcome> {
        try decide { draft throws(Refusal) in
            try Self.requireCluster(draft.image)
            guard draft.image.brokers[survivor] != nil else {
                throw Refusal(.brokerIdNotRegistered, "broker \(survivor) is not registered")
            }
            // A recovery that was cut short behind its first durable round is done once more.
            if draft.image.clusterID != clusterID {
                draft.add(.clusterRecovered(clusterID: clusterID))
            }
            var outcome = RecoveryOutcome()
            draft.adoptReplicas(on: survivor, &outcome)
            for broker in draft.image.brokers.map(\.value) where broker.id != survivor {
                var awaited = broker
                awaited.incarnation = incarnations()
                draft.add(.brokerRegistered(awaited))
                _ = draft.metadataMember(of: awaited)
                var ignored = RegistrationOutcome(
                    clusterID: clusterID,
                    metadataMember: GroupMember(broker: broker.id, epoch: CreationEpoch(0))
                )
                // Whatever they have goes with their disks.
                draft.renewReplicas(on: broker.id, keepsRemains: false, &ignored)
                outcome.lostBrokers.append(broker.id)
            }
            return [outcome]
        }
    }
}

extension Draft {
    /// The survivor's members are all that is left of their groups, those that were on their way in as well.
    fileprivate mutating func adoptReplicas(
        on survivor: BrokerID,
        _ outcome: inout RecoveryOutcome
    ) {
        for (name, topic) in image.topics {
            var changes: [PartitionChange] = []
            for (number, place) in topic.partitions.enumerated() {
                guard let member = place.replica(on: survivor) else {
                    outcome.lostPartitions.append("\(name)-\(number)")
                    continue
                }
                guard let adopted = place.adopted(member) else { continue }
                changes.append(PartitionChange(number: Int32(number), place: adopted))
            }
            if !changes.isEmpty { add(.partitionsMoved(topic: topic.id, changes: changes)) }
        }
    }
}
