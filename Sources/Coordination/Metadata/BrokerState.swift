package import FlotillaModel

/// What the cluster wants of a registered broker; whether it is alive is no part of the metadata.
package enum BrokerState: UInt8, Hashable, Sendable, CustomStringConvertible {
    /// It takes replicas.
    case active = 0
    /// It gets no new replica, and those it has move away.
    case draining = 1

    /// The state as a word.
    package var description: String {
        switch self {
        case .active: "active"
        case .draining: "draining"
        }
    }
}

/// One of the brokers that formed the cluster, with the member of the metadata group that it began as.
package struct ClusterFounder: Hashable, Sendable {
    /// The member of the metadata group.
    package var member: GroupMember
    /// The life of the broker's directories that founded the cluster.
    package var incarnation: BrokerIncarnation

    /// Names a founder.
    package init(member: GroupMember, incarnation: BrokerIncarnation) {
        self.member = member
        self.incarnation = incarnation
    }
}

/// A broker's replica of the metadata log.
package struct MetadataMember: Hashable, Sendable {
    /// Which creation of it.
    package var epoch: CreationEpoch
    /// The life of the broker's directories that it lies in.
    package var incarnation: BrokerIncarnation
    /// Whether the broker was a seed when the cluster was formed.
    package var isFounder: Bool
}

/// A replica that left its group and must be deleted by its broker, which then confirms.
///
/// Ordered by broker, then by partition.
package struct RemovedReplica: Hashable, Comparable, Sendable {
    /// The member that it was.
    package var member: GroupMember
    /// The partition.
    package var partition: TopicPartition

    /// Names a removed replica.
    package init(member: GroupMember, partition: TopicPartition) {
        self.member = member
        self.partition = partition
    }

    /// The replica as its broker names it.
    package var group: GroupID {
        GroupID(partition: partition, epoch: member.epoch)
    }

    /// Orders by broker, then by partition, then by creation.
    package static func < (left: RemovedReplica, right: RemovedReplica) -> Bool {
        (left.member.broker, left.group) < (right.member.broker, right.group)
    }
}
