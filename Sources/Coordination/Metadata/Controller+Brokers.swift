package import FlotillaModel

/// What a broker is told when it is registered.
package struct RegistrationOutcome: Hashable, Sendable {
    /// The cluster's id.
    package var clusterID: String
    /// The broker's member of the metadata group; an older one on its disk is no member any more.
    package var metadataMember: GroupMember
    /// How many partitions got a new member in the place of one that went with the broker's disk.
    package var renewedPartitionCount: Int
    /// Those among them whose other members are no quorum, by name, at most ten: their data is lost unless the old disk comes back.
    package var lostPartitions: [String]

    /// States an outcome.
    package init(
        clusterID: String,
        metadataMember: GroupMember,
        renewedPartitionCount: Int = 0,
        lostPartitions: [String] = []
    ) {
        self.clusterID = clusterID
        self.metadataMember = metadataMember
        self.renewedPartitionCount = renewedPartitionCount
        self.lostPartitions = lostPartitions
    }
}

/// Commands about single brokers.
///
/// Which brokers are alive is soft state outside the log; commands that look at it are told by the caller, and nil means that nobody
/// knows.
extension Controller {
    /// How many partitions a message names.
    package static let namedPartitionLimit = 10

    /// Tells the cluster of a broker, of its new address or of its new incarnation; what is known already is not proposed again.
    ///
    /// Another incarnation of a known broker has lost what the former held. Every replica there becomes a new member of its group, which
    /// begins empty and without a vote: a member that forgot what it promised would be worse than none. What the former one left on the
    /// disk is deleted when the new one is whole.
    ///
    /// - Parameters:
    ///   - registration: the broker as it describes itself.
    ///   - isOtherAlive: whether another incarnation of this broker is connected now; then it is refused, since two machines were given
    ///     one id.
    /// - Returns: what the broker is told, as the only outcome.
    /// - Throws: when this broker does not lead, the cluster is not formed, or the registration cannot be.
    /// - Source: architecture bug 13 (wiped or re-added replica reuses its identity and forgets acks).
    package mutating func registerBroker(
        _ registration: BrokerRegistration,
        isOtherAlive: Bool = false
    ) throws(Refusal) -> Decision<RegistrationOutcome> {
        try decide { draft throws(Refusal) in
            try Self.requireCluster(draft.image)
            try Self.check(registration)
            let known = draft.image.brokers[registration.id]
            let isReborn = known.map { $0.incarnation != registration.incarnation } ?? false
            guard !(isReborn && isOtherAlive) else {
                throw Refusal(
                    .duplicateBrokerRegistration,
                    "broker \(registration.id) is running elsewhere with other data; give this one another id"
                )
            }
            if known != registration {
                draft.add(.brokerRegistered(registration))
            }
            var outcome = RegistrationOutcome(
                clusterID: draft.image.clusterID ?? "",
                metadataMember: draft.metadataMember(of: registration)
            )
            if isReborn {
                draft.renewReplicas(on: registration.id, keepsRemains: true, &outcome)
            }
            return [outcome]
        }
    }

    private static func check(_ registration: BrokerRegistration) throws(Refusal) {
        let texts =
            registration.endpoints.flatMap { [$0.listener, $0.host] } + [registration.rack ?? ""]
        guard registration.id.rawValue >= 0,
            texts.allSatisfy({ $0.utf8.count <= TextLimit.byteCount })
        else {
            throw Refusal(
                .invalidRegistration,
                "broker \(registration.id): a negative id or a text that is too long"
            )
        }
    }

    /// Has a broker give its replicas away, or take replicas again.
    ///
    /// Draining by itself moves nothing: from then on `BalancePlan` plans the movements, a few at a time.
    ///
    /// - Parameters:
    ///   - broker: which.
    ///   - state: what is wanted of it.
    ///   - liveBrokers: who is alive; nil when nobody knows.
    ///   - allowsPartial: drains what can be, though some partitions have no other place or no quorum to move with.
    /// - Returns: the state, as the only outcome.
    /// - Throws: when a partition could not leave the broker, naming it.
    package mutating func setBrokerState(
        _ broker: BrokerID,
        _ state: BrokerState,
        liveBrokers: Set<BrokerID>? = nil,
        allowsPartial: Bool = false
    ) throws(Refusal) -> Decision<BrokerState> {
        try decide { draft throws(Refusal) in
            guard let current = draft.image.state(of: broker) else {
                throw Refusal(.brokerIdNotRegistered, "broker \(broker) is not registered")
            }
            guard state != current else { return [state] }
            draft.add(.brokerStateChanged(broker: broker, state: state))
            if state == .draining {
                let stuck = draft.image.stuckPartitions(on: broker, liveBrokers: liveBrokers)
                guard stuck.count == 0 || allowsPartial else {
                    throw Refusal(
                        .policyViolation,
                        "broker \(broker) cannot be drained: no other broker can take, or no quorum can move, "
                            + Self.list(stuck)
                    )
                }
            }
            return [state]
        }
    }

    /// Removes a broker from the cluster for good.
    ///
    /// - Throws: while it holds replicas, naming the partitions, and where the metadata group would lose its quorum.
    /// - Source: SEMANTICS rule ADM-9; KIP-500 for the API.
    package mutating func unregisterBroker(
        _ broker: BrokerID,
        liveBrokers: Set<BrokerID>? = nil
    ) throws(Refusal) -> Decision<BrokerID> {
        try decide { draft throws(Refusal) in
            let image = draft.image
            guard image.brokers[broker] != nil else {
                throw Refusal(.brokerIdNotRegistered, "broker \(broker) is not registered")
            }
            let held = image.partitionNames(on: broker, limit: Self.namedPartitionLimit)
            guard held.count == 0 else {
                throw Refusal(
                    .policyViolation,
                    "broker \(broker) still holds replicas; drain it first: \(Self.list(held))"
                )
            }
            guard image.brokers.count > 1 else {
                throw Refusal(.policyViolation, "broker \(broker) is the last one of the cluster")
            }
            draft.add(.brokerUnregistered(broker))
            let voters = draft.image.metadataWish.voters
            let live = voters.count { liveBrokers?.contains($0.broker) ?? true }
            guard live > voters.count / 2 else {
                throw Refusal(
                    .policyViolation,
                    "without broker \(broker) the metadata group would have no quorum: "
                        + "\(live) of \(voters.count) voters are alive; bring one back first"
                )
            }
            return [broker]
        }
    }

    static func list(_ partitions: (names: [String], count: Int)) -> String {
        let rest = partitions.count - partitions.names.count
        return partitions.names.joined(separator: ", ") + (rest > 0 ? " and \(rest) more" : "")
    }
}

extension MetadataImage {
    /// Partitions of a broker that cannot leave it: no active broker without a replica is left, or their live members are no quorum.
    fileprivate func stuckPartitions(on broker: BrokerID, liveBrokers: Set<BrokerID>?) -> (
        names: [String], count: Int
    ) {
        let targets = activeBrokers.filter { $0 != broker && liveBrokers?.contains($0) ?? true }
        var stuck: (names: [String], count: Int) = ([], 0)
        for (name, topic) in topics {
            for (number, partition) in topic.partitions.enumerated()
            where partition.replicas.contains(where: { $0.broker == broker }) {
                let hasQuorum = partition.seemsMovable { liveBrokers?.contains($0.broker) ?? true }
                let hasPlace = targets.contains { !partition.brokers.contains($0) }
                guard !hasPlace || !hasQuorum else { continue }
                stuck.count += 1
                if stuck.names.count < Controller.namedPartitionLimit {
                    stuck.names.append("\(name)-\(number)")
                }
            }
        }
        return stuck
    }
}

extension Draft {
    /// The member of the metadata group that this life of the broker is; a new one where there is none yet.
    mutating func metadataMember(of registration: BrokerRegistration) -> GroupMember {
        let broker = registration.id
        if let known = image.metadataMembers[broker], known.incarnation == registration.incarnation
        {
            return GroupMember(broker: broker, epoch: known.epoch)
        }
        let member = GroupMember(broker: broker, epoch: image.nextCreationEpoch)
        add(.metadataMemberAdded(member))
        return member
    }

    /// Gives every partition on a broker that lost its data a new member there.
    ///
    /// `keepsRemains`: whether the broker may still hold the old members' files, and is to delete them when the new ones are whole. One
    /// whose disk is empty confirms that at once.
    mutating func renewReplicas(
        on broker: BrokerID,
        keepsRemains: Bool,
        _ outcome: inout RegistrationOutcome
    ) {
        for (name, topic) in image.topics {
            let epoch = image.nextCreationEpoch
            var changes: [PartitionChange] = []
            for (number, place) in topic.partitions.enumerated() {
                guard
                    let renewed = place.renewed(
                        on: broker,
                        epoch: epoch,
                        keepsRemains: keepsRemains
                    )
                else { continue }
                changes.append(PartitionChange(number: Int32(number), place: renewed))
                outcome.renewedPartitionCount += 1
                if !place.hasQuorum(where: { $0.broker != broker }),
                    outcome.lostPartitions.count < Controller.namedPartitionLimit
                {
                    outcome.lostPartitions.append("\(name)-\(number)")
                }
            }
            if !changes.isEmpty {
                add(.partitionsMoved(topic: topic.id, changes: changes))
            }
        }
    }
}
