import FlotillaBroker
import FlotillaModel
import FlotillaReplication

/// Some of what ARCHITECTURE's table of bounds says: uncommitted bytes, unanswered requests, the journal, fetch sessions, and commands
/// that wait for the metadata.
///
/// Producers of a partition, the windows and the reads of a group are invariants of their state machines.
enum BoundsChecker {
    /// Looks at a shard now and then.
    static func look(
        at shard: Shard,
        _ replicas: [Replica],
        of broker: SimulatedBroker,
        in world: World
    ) {
        let settings = shard.settings
        for replica in replicas {
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
        if let excess = shard.excess { world.violate("broker \(broker.id) holds \(excess)") }
        if let excess = broker.journalExcess {
            world.violate(
                "the journal of broker \(broker.id) holds \(excess) bytes more than it may"
            )
        }
    }

    private static let largestBatchByteCount = 1 << 20
}
