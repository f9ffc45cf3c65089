package import FlotillaModel

/// Brokers as the metadata has them, and what the records about them do.
extension MetadataImage {
    /// What is wanted of a broker; nil for one that is not registered.
    package func state(of broker: BrokerID) -> BrokerState? {
        guard brokers[broker] != nil else { return nil }
        return drainingBrokers.contains(broker) ? .draining : .active
    }

    /// The brokers that take replicas, ascending.
    package var activeBrokers: [BrokerID] {
        brokers.map(\.key).filter { !drainingBrokers.contains($0) }
    }

    /// Partitions that have a member on a broker, wanted or on its way out, by topic name.
    ///
    /// - Returns: names such as `orders-3`, at most `limit`, and how many there are.
    package func partitionNames(on broker: BrokerID, limit: Int) -> (names: [String], count: Int) {
        var names: [String] = []
        var count = 0
        for (name, topic) in topics {
            for (number, partition) in topic.partitions.enumerated()
            where partition.replica(on: broker) != nil {
                count += 1
                if names.count < limit { names.append("\(name)-\(number)") }
            }
        }
        return (names, count)
    }

    /// Who is to belong to the metadata group: a few voters, all other brokers as learners.
    ///
    /// Up to four brokers have up to three voters, five or more have five: a cluster that can lose two brokers should not lose its
    /// controller with them. Brokers that drain come last, founders first, then whoever is longest there; so a broker that comes
    /// replaces nobody, and one that is unregistered is replaced.
    ///
    /// - Source: DESIGN §5 (3 or 5 voters, every other broker a learner).
    package var metadataWish: GroupWish {
        let ranked = metadataMembers.map { broker, member in
            (
                isDraining: drainingBrokers.contains(broker), isFounder: member.isFounder,
                member: GroupMember(broker: broker, epoch: member.epoch)
            )
        }.sorted { left, right in
            if left.isDraining != right.isDraining { return right.isDraining }
            if left.isFounder != right.isFounder { return left.isFounder }
            return (left.member.epoch, left.member.broker) < (
                right.member.epoch, right.member.broker
            )
        }.map(\.member)
        let voterCount = ranked.count < 5 ? min(ranked.count, 3) : 5
        return GroupWish(
            voters: ranked.prefix(voterCount).sorted(),
            learners: ranked.dropFirst(voterCount).sorted()
        )
    }

    /// The first broker of a cluster that names no founders is its founder, with the epoch 0: so were clusters of one broker made.
    mutating func register(_ registration: BrokerRegistration) {
        if metadataMembers.isEmpty, brokers.isEmpty {
            metadataMembers[registration.id] = MetadataMember(
                epoch: CreationEpoch(0),
                incarnation: registration.incarnation,
                isFounder: true
            )
        }
        brokers[registration.id] = registration
    }

    mutating func found(_ founders: [ClusterFounder]) throws(Contradiction) {
        guard metadataMembers.isEmpty, brokers.isEmpty else {
            throw Contradiction("the cluster has founders")
        }
        guard !founders.isEmpty else { throw Contradiction("a cluster has founders") }
        var next = nextCreationEpoch
        for founder in founders {
            guard metadataMembers[founder.member.broker] == nil,
                founder.member.epoch.rawValue < UInt64.max
            else { throw Contradiction("a founder is named once") }
            metadataMembers[founder.member.broker] = MetadataMember(
                epoch: founder.member.epoch,
                incarnation: founder.incarnation,
                isFounder: true
            )
            next = max(next, CreationEpoch(founder.member.epoch.rawValue + 1))
        }
        nextCreationEpoch = next
    }

    mutating func addMetadataMember(_ member: GroupMember) throws(Contradiction) {
        guard let registration = brokers[member.broker] else {
            throw Contradiction("broker \(member.broker) is not registered")
        }
        nextCreationEpoch = try after(member)
        metadataMembers[member.broker] = MetadataMember(
            epoch: member.epoch,
            incarnation: registration.incarnation,
            isFounder: metadataMembers[member.broker]?.isFounder ?? false
        )
    }

    mutating func setState(of broker: BrokerID, to state: BrokerState) throws(Contradiction) {
        guard let current = self.state(of: broker) else {
            throw Contradiction("broker \(broker) is not registered")
        }
        guard state != current else { throw Contradiction("broker \(broker) is \(state)") }
        switch state {
        case .active: drainingBrokers.removeAll { $0 == broker }
        case .draining: drainingBrokers = (drainingBrokers + [broker]).sorted()
        }
    }

    mutating func unregister(_ broker: BrokerID) throws(Contradiction) {
        guard brokers[broker] != nil else {
            throw Contradiction("broker \(broker) is not registered")
        }
        guard partitionNames(on: broker, limit: 1).count == 0 else {
            throw Contradiction("broker \(broker) holds replicas")
        }
        guard brokers.count > 1 else { throw Contradiction("a cluster has a broker") }
        brokers[broker] = nil
        drainingBrokers.removeAll { $0 == broker }
        metadataMembers[broker] = nil
        brokerConfigs[broker] = nil
        for replica in removedReplicas(on: broker) {
            removedReplicas[replica] = nil
        }
        for (id, _) in deletedTopics
        where deletedTopics[id]?.unconfirmedBrokers.contains(broker) == true {
            try confirmDeletion(of: id, on: broker)
        }
    }
}
