package import FlotillaEnvironment
package import FlotillaModel

/// Why a broker does not start as a part of any cluster; each sentence says what to do.
package enum FormationRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    /// Another broker has this broker's id.
    case idInUse(BrokerID, at: NetworkAddress)
    /// Another process runs over a copy of this broker's directory.
    case copiedDirectory(BrokerID, at: NetworkAddress)
    /// A seed was told another list.
    case listsDiffer(own: JoinList, other: JoinList, at: NetworkAddress)
    /// This directory belongs to one cluster or has met it, and a seed belongs to another.
    case otherCluster(own: String, other: String, at: NetworkAddress)
    /// This directory has founded a cluster, and a seed belongs to one that others founded.
    case otherFounders(other: String, at: NetworkAddress)
    /// A broker that was to found the cluster with this one agreed to another list with it.
    case foundersDisagree(BrokerID, at: NetworkAddress)
    /// So many founders were wiped that the rest is no majority.
    case foundersLost(remaining: Int, of: Int)
    /// The directory belongs to a cluster of several brokers, and no other broker can reach it.
    case noPeerListener

    /// The reason as a sentence.
    package var description: String {
        switch self {
        case .idInUse(let broker, let address):
            "broker \(broker) is already there: the broker at \(address) has the same id; "
                + "give each broker its own node.id"
        case .copiedDirectory(let broker, let address):
            "broker \(broker) runs twice: the broker at \(address) has a copy of this data directory; "
                + "stop one of them, and start a further broker with an empty directory"
        case .listsDiffer(let own, let other, let address):
            "cluster.join differs: here \(own), at \(address) \(other.isEmpty ? "none" : "\(other)"); "
                + "give all brokers the same list"
        case .otherCluster(let own, let other, let address):
            "this data directory is of cluster \(own), and the broker at \(address) of cluster \(other); "
                + "correct cluster.join, or use another data directory"
        case .otherFounders(let other, let address):
            "this broker founded another cluster than \(other), to which the broker at "
                + "\(address) belongs; set its data directory aside to join that one"
        case .foundersDisagree(let broker, let address):
            "broker \(broker) at \(address) agreed to found the cluster with others than this broker did, "
                + "since one was wiped meanwhile; nothing was stored here yet: empty this data "
                + "directory and start again"
        case .foundersLost(let remaining, let count):
            "only \(remaining) of the \(count) brokers that founded the cluster still have their data, "
                + "too few to go on; restore the others' directories, or give up what they held: "
                + "empty this one as well and start all again"
        case .noPeerListener:
            "this data belongs to a cluster of several brokers; set peer.listen, so that they can "
                + "reach this one"
        }
    }
}
