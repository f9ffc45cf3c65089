package import FlotillaEnvironment
package import FlotillaModel
package import FlotillaStorage

/// What a replica needs of the shard it lives on.
///
/// The host calls a replica back from a turn of its own, never from within one of these calls.
package protocol ReplicaHost: AnyObject {
    /// The wall clock, for the append time of entries.
    var wallTime: Timestamp { get }

    /// The monotonic clock, for the age of segments.
    var now: Instant { get }

    /// Where reads that would block are done.
    var workers: any Workers { get }

    /// Whether the journal and the disk have room for entries of a leader elsewhere; where they have not, the leader
    /// sends them again later.
    var takesEntries: Bool { get }

    /// Has `Replica.endTurn()` called once the inputs at hand are in.
    func needsTurnEnd(_ replica: Replica)

    /// Has `Replica.announceCommit()` called a moment later: what goes to members meanwhile says it without a message of its own.
    func needsAnnouncement(_ replica: Replica)

    /// Writes records to the journal with the shard's next submission; `Replica.persisted(ticket:)` answers.
    func journal(_ records: [JournalRecord], of replica: Replica, ticket: UInt64)

    /// Sends to another broker, at once; what must be durable first, the replica has waited for.
    ///
    /// It may be lost on the way, but what arrives should arrive in order: the reverse costs time.
    ///
    /// `lane`: `.bulk` for old entries, which must not delay anything else.
    func send(
        _ envelope: RaftEnvelope,
        to broker: BrokerID,
        on lane: PeerLane,
        from replica: Replica
    )

    /// Whether old entries, which have left memory, may be read for a member now; where not, Raft asks again with the
    /// next heartbeat's answer.
    func grantsOldEntries(_ byteCount: Int, to member: GroupMember, from replica: Replica) -> Bool

    /// The role, the term or the known leader changed, or the replica serves from now on or does not any longer.
    func leadershipChanged(_ replica: Replica)

    /// More is committed and applied than before.
    func committed(_ replica: Replica)

    /// Another membership is in effect, committed or not.
    func membershipChanged(_ replica: Replica)

    /// The group fell silent or woke up; a quiet one needs no ticks, but must hear of lost peers.
    func quietChanged(_ replica: Replica)

    /// A member lacks entries that this leader's log no longer has: files must go there.
    ///
    /// - Returns: whether the order is taken; then it ends when the member says that it has the files, or with
    ///   `Replica.filesSent(to:upTo:)`. Where it is not, the member goes without for now, and the next heartbeat's answer
    ///   asks again.
    func needsFiles(_ order: FileOrder, of replica: Replica) -> Bool

    /// The leader is about to ship files up to this entry.
    ///
    /// - Returns: whether they can be received; where they cannot, the offer is taken as abandoned. What was received ends
    ///   with `Replica.install(_:at:with:)` or with `Replica.filesAbandoned()`.
    func filesOffered(upTo position: LogPosition, by leader: GroupMember, to replica: Replica)
        -> Bool

    /// A part of the log that a follower or the state machine needs cannot be read; told again whenever it is needed.
    ///
    /// The replica goes on voting and acknowledging. If it cannot apply (`Replica.obstacle`), it hands leadership over
    /// and applies no further until `Replica.repaired()`.
    func damaged(_ replica: Replica, _ error: StorageError)

    /// The replica cannot go on.
    func failed(_ replica: Replica, _ error: ReplicationError)
}

/// A leader's order to ship the sealed segments to a member that entries can no longer reach.
package struct FileOrder: Hashable, Sendable {
    /// Who needs them.
    package var target: GroupMember
    /// The leader's term; the offer repeats it.
    package var term: Term
    /// The number of the order; the offer repeats it.
    package var sequence: UInt64
    /// The first entry that the member lacks.
    package var neededIndex: LogIndex
}
