import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaStorage

/// How a shard comes to heal its replicas: whoever finds damage reports it, and the scrubber goes to look for it.
extension Shard {
    /// The replicas that are open here, in order.
    var openGroups: [GroupID] {
        let groups = allPartitions.map(\.replica.group)
        return metadata.map { [$0.replica.group] + groups } ?? groups
    }

    /// Takes a message between replicas to whom it concerns.
    func take(_ message: ReplicaMessage, from broker: BrokerID) {
        switch message.kind {
        case RepairMessage.kinds: healer.take(message, from: broker)
        case ShippingMessage.kinds:
            if !shipping.take(message, from: broker) { counters.peerFramesRefused += 1 }
        default: counters.peerFramesRefused += 1
        }
    }

    /// A replica was opened: what recovery found is told and healed.
    func lookForDamage(in replica: Replica) {
        for damage in replica.log.damage where damage.indexes != nil || damage.offsets == nil {
            report(.damaged(damage), in: replica.group)
        }
    }

    /// What no replica has any more, in words; nil when there is nothing of that kind.
    var whatIsLost: String? {
        let lost = healer.lost
        guard settings.isClustered, let first = lost.first else { return nil }
        let others = lost.count == 1 ? "" : " and \(lost.count - 1) more"
        return "no replica has all of partition \(first.partition)\(others)"
    }
}
