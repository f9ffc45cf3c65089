package import FlotillaRecords
package import struct NIOCore.ByteBuffer

/// What a partition's committed entries mean: producers on data partitions, the cluster's metadata on the controller's.
///
/// Every replica applies every committed entry once and in order, so a new leader has nothing to replay.
package protocol ReplicatedStateMachine: AnyObject {
    /// Starts from what `snapshot()` returned on some replica; empty bytes mean the state before the first entry.
    func restore(_ snapshot: ByteBuffer) throws(ReplicationError)

    /// Takes in a committed entry of any kind.
    ///
    /// - Throws: `.unusableEntry`; the replica then stops, since skipping an entry would make replicas differ.
    func apply(_ entry: LogEntry) throws(ReplicationError)

    /// The state after the last applied entry, in a canonical form: equal states give equal bytes.
    func snapshot() -> ByteBuffer

    /// The own term start is applied: from now on proposals may be validated against this state.
    func leadershipBegan()

    /// Whatever was remembered of uncommitted entries is void.
    func leadershipEnded()
}
