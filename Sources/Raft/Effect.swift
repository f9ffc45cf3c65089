package import FlotillaModel

/// What a driver has to do, in this order.
///
/// Writes (`persistHardState`, `append`, `appendReceived`, `installSnapshot`) go to the disk in the
/// order of their tickets; the driver answers with `Input.persisted`. A send with a ticket leaves
/// once that ticket is durable, a send without one leaves at once.
package enum Effect: Hashable, Sendable {
    /// Remember the term and the vote.
    case persistHardState(HardState, Ticket)
    /// Leader: write these new entries at these indexes.
    case append(Range<LogIndex>, term: Term, AppendContent, Ticket)
    /// Leader: the proposal was not taken; none of its entries is in the log.
    case rejectProposal(Rejection)
    /// Follower: drop every entry from this index on; an `appendReceived` from the same index
    /// follows.
    case truncate(from: LogIndex)
    /// Follower: write these entries of the `AppendRequest` just received.
    case appendReceived(Range<LogIndex>, Ticket)
    /// Follower: the received files replace the log, which then ends at this position.
    case installSnapshot(LogPosition, Membership, Ticket)

    /// Send a message, once the ticket is durable if there is one.
    case send(Message, to: GroupMember, after: Ticket?)
    /// Read entries from this index on, about `byteLimit` bytes and at least one entry, for
    /// `Input.entriesRead`.
    case readEntries(for: GroupMember, from: LogIndex, byteLimit: Int)
    /// Ship files to a member whose next entry, `neededIndex`, can no longer be read. The driver
    /// picks the position, sends a `SnapshotOffer` with this term and sequence, and ends with
    /// `Input.snapshotSent`.
    case sendSnapshot(to: GroupMember, term: Term, sequence: UInt64, neededIndex: LogIndex)
    /// Make room for files up to a position, which this leader is about to ship.
    case receiveSnapshot(LogPosition, from: GroupMember)

    /// Entries up to here, inclusive, are committed and may be applied; whether they are on this
    /// member's disk is another matter, see `Raft.durableCommitIndex`.
    case commitAdvanced(LogIndex)
    /// Leader: entries up to here may be acknowledged to producers that asked for all replicas.
    case acknowledgedAdvanced(LogIndex)
    /// The role, the term or the known leader changed.
    case roleChanged(Role, Term, leader: GroupMember?)
    /// Leader: its term start is committed; it may serve reads and take proposals.
    case leaderReady(Term)
    /// This membership holds from now on: appended, or back after a truncation. The index is its
    /// entry's.
    case membershipChanged(Membership, at: LogIndex)
    /// Leader: the wanted membership is committed and settled.
    case membershipChangeFinished(Membership)
    /// The wanted membership was refused, or leadership was lost before it settled.
    case membershipChangeFailed(Rejection)

    /// A read at this index, once applied up to it, is linearizable.
    case readReady(requestID: UInt64, LogIndex)
    /// No linearizable index can be given.
    case readFailed(requestID: UInt64, Rejection)
    /// A hand-over ended; when it succeeded this member follows, otherwise it leads on.
    case transferFinished(to: GroupMember, succeeded: Bool)
    /// A hand-over was refused.
    case transferRejected(Rejection)

    /// Whether the member now spends neither messages nor timeouts.
    case quietChanged(Bool)
    /// Whether the member may vote and lead; `true` after damage was made good by a leader.
    case electableChanged(Bool)
}

/// Where the entries of `Effect.append` come from.
package enum AppendContent: Hashable, Sendable {
    /// The entries of the proposal just made, in its order.
    case proposal
    /// One entry that begins the leader's term.
    case termStart
    /// One entry with this membership.
    case membership(Membership)
}

/// Why a member declined what was asked of it.
package enum Rejection: Error, Hashable, Sendable {
    /// It does not lead; the leader is named when it is known.
    case notLeader(GroupMember?)
    /// It leads, but its term start is not committed yet.
    case notReady
    /// It is handing leadership over.
    case transferring
    /// As much as is allowed is already waiting: uncommitted bytes, or pending reads.
    case overloaded
    /// A membership change is under way.
    case membershipChanging
    /// A new voter is not a learner that holds nearly the whole log.
    case notCaughtUp(GroupMember)
    /// The member is no voter, or nobody else could lead.
    case notEligible
    /// The wanted membership names no voter, or is the present one.
    case invalidMembership
}

extension Rejection: CustomStringConvertible {
    /// What happened, and what comes next.
    package var description: String {
        switch self {
        case .notLeader(let leader?): "this member does not lead; member \(leader) does"
        case .notLeader(nil): "no leader is known; an election decides"
        case .notReady:
            "the leader's term has just begun; it serves once its first entry is committed"
        case .transferring: "leadership is being handed over; the next leader takes it"
        case .overloaded: "too much is waiting for a quorum; try again when it has caught up"
        case .membershipChanging: "a membership change is under way; it has to settle first"
        case .notCaughtUp(let member):
            "member \(member) is no learner with nearly the whole log yet"
        case .notEligible: "no such voter could take over"
        case .invalidMembership: "the wanted membership names no voter, or is the present one"
        }
    }
}
