import FlotillaBroker
import FlotillaModel
import FlotillaReplication

/// What ARCHITECTURE's table of bounds says of memory and queues holds in shards and journals.
enum BoundsChecker {
    /// Looks at a shard now and then.
    static func look(at shard: Shard, of broker: SimulatedBroker, in world: World) {
        let settings = shard.settings
        for replica in shard.allReplicas {
            // The batch that reaches the bound is taken.
            let limit = settings.uncommittedHoldByteCount + largestBatchByteCount
            guard replica.uncommittedByteCount <= limit else {
                return world.violate(
                    "\(replica.member) holds \(replica.uncommittedByteCount) uncommitted bytes of \(replica.group.partition)"
                )
            }
        }
        let unanswered = shard.inFlightByteCount
        guard unanswered <= settings.inFlightByteLimit + largestBatchByteCount else {
            return world.violate("broker \(broker.id) holds \(unanswered) bytes of requests")
        }
        if let excess = broker.journalExcess {
            world.violate(
                "the journal of broker \(broker.id) holds \(excess) bytes more than it may"
            )
        }
    }

    private static let largestBatchByteCount = 1 << 20
}
