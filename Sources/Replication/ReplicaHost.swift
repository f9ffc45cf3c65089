package import FlotillaEnvironment
package import FlotillaModel
package import FlotillaRaft
package import FlotillaStorage

/// What a replica needs of the shard it lives on.
package protocol ReplicaHost: AnyObject {
    /// The wall clock, for the append time of entries.
    var wallTime: Timestamp { get }

    /// The monotonic clock, for the age of segments.
    var now: Instant { get }

    /// Where reads that would block are done.
    var workers: any Workers { get }

    /// Has `Replica.endTurn()` called once the inputs at hand are in.
    func needsTurnEnd(_ replica: Replica)

    /// Writes records to the journal with the shard's next submission; `Replica.persisted(ticket:)` answers.
    func journal(_ records: [JournalRecord], of replica: Replica, ticket: UInt64)

    /// Sends a message to another member, once the journal has made `ticket` durable if there is one.
    func send(
        _ message: Message,
        to member: GroupMember,
        from replica: Replica,
        after ticket: UInt64?
    )

    /// The replica leads and serves from now on, or does not any longer.
    func leadershipChanged(_ replica: Replica)

    /// More is committed and applied than before.
    func committed(_ replica: Replica)

    /// The replica cannot go on.
    func failed(_ replica: Replica, _ error: ReplicationError)
}
