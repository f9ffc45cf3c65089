package import FlotillaEnvironment
package import FlotillaModel

/// A broker that founds a cluster, in the life that it has while it does.
package struct FoundingMember: Hashable, Sendable {
    /// The broker.
    package var broker: BrokerID
    /// Which life of its directories; with another one it is no founder any more.
    package var incarnation: BrokerIncarnation
    /// The named address at which all founders reach it; nil for one that founds alone.
    package var address: NetworkAddress?

    /// Names a founder.
    package init(
        broker: BrokerID,
        incarnation: BrokerIncarnation,
        address: NetworkAddress?
    ) {
        self.broker = broker
        self.incarnation = incarnation
        self.address = address
    }
}

/// Who founds a cluster: the first members of its metadata group.
package struct FoundingList: Hashable, Sendable {
    /// The founders, sorted by id, each id once; at least one.
    package let members: [FoundingMember]
    /// The creation of each founder's replica of the metadata log.
    package let epoch: CreationEpoch

    /// The creation of the metadata replicas of brokers that found a cluster together.
    package static let sharedEpoch = CreationEpoch(1)
    /// The creation of the metadata replica of a broker that is a cluster by itself.
    package static let loneEpoch = CreationEpoch(0)

    /// Takes founders in any order.
    package init(_ members: [FoundingMember], epoch: CreationEpoch = sharedEpoch) {
        self.members = members.sorted { $0.broker < $1.broker }
        self.epoch = epoch
        precondition(Self.isConsistent(self.members), "a cluster has founders, each id once")
    }

    /// A broker that founds a cluster of itself.
    package static func alone(
        _ broker: BrokerID,
        _ incarnation: BrokerIncarnation
    ) -> FoundingList {
        let member = FoundingMember(broker: broker, incarnation: incarnation, address: nil)
        return FoundingList([member], epoch: loneEpoch)
    }

    /// Whether sorted members can found a cluster.
    static func isConsistent(_ members: [FoundingMember]) -> Bool {
        !members.isEmpty
            && zip(members, members.dropFirst()).allSatisfy { $0.broker < $1.broker }
    }

    /// The founders as members of the metadata group, sorted.
    package var groupMembers: [GroupMember] {
        members.map { GroupMember(broker: $0.broker, epoch: epoch) }
    }

    /// The founders as the metadata log names them when it begins.
    package var clusterFounders: [ClusterFounder] {
        members.map { member in
            ClusterFounder(
                member: GroupMember(broker: member.broker, epoch: epoch),
                incarnation: member.incarnation
            )
        }
    }

    /// Where the founders are reached; empty for one that founds alone.
    package var addresses: [NetworkAddress] {
        members.compactMap(\.address)
    }

    /// How many founders are a majority.
    package var majority: Int {
        members.count / 2 + 1
    }

    /// Whether this broker, in this life, is a founder.
    package func contains(_ broker: BrokerID, _ incarnation: BrokerIncarnation) -> Bool {
        members.contains { $0.broker == broker && $0.incarnation == incarnation }
    }
}
