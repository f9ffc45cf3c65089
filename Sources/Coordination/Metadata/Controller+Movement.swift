package import FlotillaModel

/// A partition that is to lie on other brokers.
package struct ReassignmentRequest: Hashable, Sendable {
    /// The topic's name.
    package var topic: String
    /// The partition's number.
    package var partition: Int32
    /// The brokers, the preferred leader first; nil cancels the reassignment that is under way.
    package var brokers: [BrokerID]?

    /// Asks for a reassignment.
    package init(topic: String, partition: Int32, brokers: [BrokerID]?) {
        self.topic = topic
        self.partition = partition
        self.brokers = brokers
    }
}

/// The answer for one partition that was to lie on other brokers.
package struct ReassignmentOutcome: Hashable, Sendable {
    /// The topic's name, as asked.
    package var topic: String
    /// The partition's number, as asked.
    package var partition: Int32
    /// The partition as it will be, or why not.
    package var result: Result<PartitionImage, Refusal>

    /// States an outcome.
    package init(topic: String, partition: Int32, result: Result<PartitionImage, Refusal>) {
        self.topic = topic
        self.partition = partition
        self.result = result
    }
}

/// Commands about where partitions lie.
extension Controller {
    /// Begins, replaces or cancels reassignments; each succeeds or fails alone.
    ///
    /// - Parameters:
    ///   - requests: the partitions, in the order of the answers; one that comes twice is refused each time.
    ///   - allowsReplicationFactorChange: whether another number of replicas is allowed.
    /// - Returns: one outcome per request.
    /// - Throws: when this broker does not lead, or for a request that is too long.
    /// - Source: SEMANTICS rule ADM-2.
    package mutating func alterReassignments(
        _ requests: [ReassignmentRequest],
        allowsReplicationFactorChange: Bool = true
    ) throws(Refusal) -> Decision<ReassignmentOutcome> {
        try decide { draft throws(Refusal) in
            guard requests.count <= Self.maximumPartitionCountPerRequest else {
                throw Refusal(
                    .policyViolation,
                    "one request moves at most \(Self.maximumPartitionCountPerRequest) partitions"
                )
            }
            let named = Occurrences(requests.map { PartitionName($0.topic, $0.partition) })
            let faults = requests.map { request -> Refusal? in
                if named.isRepeated(PartitionName(request.topic, request.partition)) {
                    return Refusal(
                        .invalidRequest,
                        "\(request.topic)-\(request.partition) comes twice in the request"
                    )
                }
                return draft.image.fault(
                    in: request,
                    allowsReplicationFactorChange: allowsReplicationFactorChange
                )
            }
            draft.reassign(zip(requests, faults).compactMap { $1 == nil ? $0 : nil })
            return zip(requests, faults).map { request, fault in
                ReassignmentOutcome(
                    topic: request.topic,
                    partition: request.partition,
                    result: fault.map { .failure($0) }
                        ?? .success(draft.image.knownPlace(of: request))
                )
            }
        }
    }

    /// Notes that a partition's group has become what was wished for; what left it is then deleted.
    ///
    /// Only the group's leader says so, and only when the membership is committed. It names the wish by its revision: what it says of
    /// an older wish means nothing.
    ///
    /// - Returns: whether this ended a movement.
    package mutating func finishMovement(
        of partition: TopicPartition,
        revision: UInt64
    ) throws(Refusal) -> Decision<Bool> {
        try decide { draft throws(Refusal) in
            guard let place = draft.image.place(of: partition), place.isMoving,
                place.revision == revision
            else { return [false] }
            draft.add(.movementFinished(partition: partition, revision: revision))
            return [true]
        }
    }

    /// Puts a new member in the place of one whose promises are lost though its broker lives on, such as after damage to its journal.
    ///
    /// - Returns: the new member, which begins empty; nil when that member is not wanted any more.
    /// - Throws: when the other members are no quorum: nobody could ever take the new one in, and the old one's log may be all there is.
    /// - Source: DESIGN §5; architecture bugs 2 and 13.
    package mutating func renewReplica(
        _ member: GroupMember,
        of partition: TopicPartition
    ) throws(Refusal) -> Decision<GroupMember?> {
        try decide { draft throws(Refusal) in
            guard let place = draft.image.place(of: partition), place.members.contains(member),
                place.replica(on: member.broker) == member,
                let renewed = place.renewed(
                    on: member.broker,
                    epoch: draft.image.nextCreationEpoch,
                    keepsRemains: true
                )
            else { return [nil] }
            guard place.hasQuorum(where: { $0.broker != member.broker }) else {
                throw Refusal(
                    .policyViolation,
                    "the other members of the partition are no quorum; bring one of them back first"
                )
            }
            let change = PartitionChange(number: partition.partition, place: renewed)
            draft.add(.partitionsMoved(topic: partition.topic, changes: [change]))
            return [renewed.replica(on: member.broker)]
        }
    }

    /// Notes that a broker has deleted a replica that left its group; what is noted already is not proposed again.
    package mutating func confirmReplicaRemoval(
        _ replica: RemovedReplica
    ) throws(Refusal) -> Decision<RemovedReplica> {
        try decide { draft throws(Refusal) in
            if draft.image.removedReplicas[replica] != nil {
                draft.add(.replicaRemovalConfirmed(replica))
            }
            return [replica]
        }
    }
}

/// A partition as clients name it.
private struct PartitionName: Comparable {
    var topic: String
    var partition: Int32

    init(_ topic: String, _ partition: Int32) {
        self.topic = topic
        self.partition = partition
    }

    static func < (left: PartitionName, right: PartitionName) -> Bool {
        (left.topic, left.partition) < (right.topic, right.partition)
    }
}

extension MetadataImage {
    fileprivate func place(of request: ReassignmentRequest) -> (TopicPartition, PartitionImage)? {
        guard let topic = topic(named: request.topic),
            topic.partitions.indices.contains(Int(request.partition))
        else { return nil }
        return (
            TopicPartition(topic: topic.id, partition: request.partition),
            topic.partitions[Int(request.partition)]
        )
    }

    fileprivate func knownPlace(of request: ReassignmentRequest) -> PartitionImage {
        guard let (_, place) = place(of: request) else {
            preconditionFailure("a request without a fault names a partition")
        }
        return place
    }

    /// Why a reassignment cannot be; nil when it can.
    fileprivate func fault(
        in request: ReassignmentRequest,
        allowsReplicationFactorChange: Bool
    ) -> Refusal? {
        let name = "\(request.topic)-\(request.partition)"
        guard let (_, place) = place(of: request) else {
            return Refusal(.unknownTopicOrPartition, "there is no partition \(name)")
        }
        guard let brokers = request.brokers else {
            return place.isCancellable
                ? nil
                : Refusal(.noReassignmentInProgress, "no reassignment of \(name) is under way")
        }
        if let fault = fault(in: brokers, beside: place) {
            return Refusal(.invalidReplicaAssignment, "\(name): \(fault)")
        }
        let count = place.isCancellable ? place.previous.count : place.replicas.count
        guard allowsReplicationFactorChange || brokers.count == count else {
            return Refusal(
                .invalidReplicationFactor,
                "\(name) has \(count) replicas, and the request does not allow \(brokers.count)"
            )
        }
        return nil
    }

    private func fault(in brokers: [BrokerID], beside place: PartitionImage) -> String? {
        guard !brokers.isEmpty else { return "no broker is named" }
        guard Set(brokers).count == brokers.count else { return "a broker is named twice" }
        for broker in brokers {
            switch state(of: broker) {
            case nil: return "there is no broker \(broker)"
            case .draining? where !place.brokers.contains(broker):
                return "broker \(broker) is draining and takes no replica"
            case .active?, .draining?: break
            }
        }
        return nil
    }
}

extension Draft {
    /// Moves partitions whose requests have no fault, one record per topic.
    fileprivate mutating func reassign(_ requests: [ReassignmentRequest]) {
        let sorted = requests.sorted {
            PartitionName($0.topic, $0.partition) < PartitionName($1.topic, $1.partition)
        }
        for requests in sorted.chunked(by: { $0.topic == $1.topic }) {
            let epoch = image.nextCreationEpoch
            var changes: [PartitionChange] = []
            var topic = TopicID.zero
            for request in requests {
                guard let (partition, place) = image.place(of: request) else { continue }
                topic = partition.topic
                let next =
                    request.brokers.map { place.moved(to: $0, epoch: epoch) } ?? place.cancelled()
                // What is wished for already is no change, and the movement goes on as it is.
                guard next.replicas != place.replicas else { continue }
                changes.append(PartitionChange(number: request.partition, place: next))
            }
            if !changes.isEmpty {
                add(.partitionsMoved(topic: topic, changes: changes))
            }
        }
    }
}

extension Array {
    /// The elements in runs of those that belong together with their neighbour.
    fileprivate func chunked(by belongsTogether: (Element, Element) -> Bool) -> [ArraySlice<
        Element
    >] {
        var runs: [ArraySlice<Element>] = []
        var start = startIndex
        for place in indices.dropFirst() where !belongsTogether(self[place - 1], self[place]) {
            runs.append(self[start..<place])
            start = place
        }
        if start < endIndex { runs.append(self[start...]) }
        return runs
    }
}
