package import FlotillaModel

/// How far a broker's directory has come on its way into a cluster.
///
/// A state is durable before anybody is told of it. The ways are `empty` → `agreed` → `founded` →
/// `member`, and `empty` or `agreed` → `joining` → `member`; none leads back, whoever else is wiped.
package enum FormationState: Hashable, Sendable {
    /// Nothing yet: it may found a cluster or join one.
    case empty
    /// It gave its word to found a cluster with these, once and for good.
    case agreed(FoundingList)
    /// It may have begun the metadata group of these.
    case founded(FoundingList)
    /// It has met this cluster, and will be in no other.
    case joining(clusterID: String)
    /// It belongs to a cluster.
    case member(ClusterMembership)

    /// The most bytes of a cluster id.
    package static let clusterIDByteLimit = 64

    /// The founders that the directory knows of.
    package var founders: FoundingList? {
        switch self {
        case .empty, .joining: nil
        case .agreed(let list), .founded(let list): list
        case .member(let membership): membership.founders
        }
    }

    /// The cluster that the directory belongs to or has met.
    package var clusterID: String? {
        switch self {
        case .empty, .agreed, .founded: nil
        case .joining(let clusterID): clusterID
        case .member(let membership): membership.clusterID
        }
    }
}

/// A broker's place in its cluster.
package struct ClusterMembership: Hashable, Sendable {
    /// The cluster.
    package var clusterID: String
    /// The creation of this broker's replica of the metadata log.
    package var epoch: CreationEpoch
    /// Who founded the cluster.
    package var founders: FoundingList

    /// States a broker's place.
    package init(clusterID: String, epoch: CreationEpoch, founders: FoundingList) {
        self.clusterID = clusterID
        self.epoch = epoch
        self.founders = founders
    }
}
