import FlotillaModel
import FlotillaReplication

/// Where a replica is: its group, on a broker.
///
/// A replica that is opened again, and one that takes its place, is there too.
struct ReplicaPlace: Hashable {
    var group: GroupID
    var broker: BrokerID

    init(_ replica: Replica) {
        group = replica.group
        broker = replica.member.broker
    }
}
