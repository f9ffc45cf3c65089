package import FlotillaModel

/// Everything that can happen to a member.
package enum Input: Hashable, Sendable {
    /// One unit of time has passed, by convention 100 ms.
    case tick
    /// A message arrived; one that names another target, or another creation of this one, is
    /// dropped.
    case receive(Message, from: GroupMember, to: GroupMember)
    /// The write with this ticket, and every write before it, is durable.
    case persisted(Ticket)

    /// The layer above wants entries in the log: all of them or none.
    case propose([ProposedEntry])
    /// What the driver had to say at once is said: members for whom nothing is on its way shall hear of new commits.
    case announceCommit
    /// Somebody needs an index at which a read is linearizable; `requestID` comes back with it.
    case readIndex(requestID: UInt64)
    /// The group shall consist of these voters and learners.
    case changeMembership(voters: [GroupMember], learners: [GroupMember])
    /// Another voter shall lead; `nil` lets the leader choose the one with the most of its log.
    case transferLeadership(to: GroupMember?)
    /// Campaign without waiting for the election timeout.
    case campaign

    /// The answer to `Effect.readEntries`: entries from `first` on, empty when they cannot be read
    /// now.
    case entriesRead(for: GroupMember, first: LogIndex, [EntryDescriptor])
    /// The answer to `Effect.sendSnapshot`: the files were installed up to a position, or `nil`:
    /// they were not.
    case snapshotSent(to: GroupMember, LogPosition?)
    /// Offered files are complete, verified and synced, but not yet part of the log.
    case snapshotReceived(LogPosition, Membership)
    /// Offered files will not be complete.
    case snapshotAbandoned
    /// Entries whose terms were not known are readable again: the terms of the whole log.
    case termsLearned([TermRun])
    /// Entries below this index can no longer be read: retained away, or compacted.
    case logStartAdvanced(to: LogIndex)

    /// The link to a member broke, or its broker's beat went unanswered.
    case unreachable(GroupMember)
    /// The link to a member is up; also after its broker came back as a new incarnation.
    case reachable(GroupMember)
    /// The journal's rounds take longer than half an election timeout.
    case diskSlow
    /// Ends quiet: the brokers' beat no longer vouches for the group.
    case wake
    /// New settings hold from now on.
    case settings(Settings)
}
