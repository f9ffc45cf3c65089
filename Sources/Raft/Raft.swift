package import FlotillaModel
import FlotillaEnvironment

/// One member of one Raft group, as a pure state machine.
///
/// Inputs come in, effects come out, and nothing else happens: no clock, no disk, no network, no
/// bytes. Time arrives as ticks, chance as a seed, so equal inputs give equal effects. The driver
/// performs the effects in their order and reports what came of them.
///
/// What holds at all times, whatever is lost, delayed, repeated or reordered, and whoever crashes:
/// - No term has two leaders: a vote changes only with the term, and leaves when it is durable.
/// - Logs that agree on an entry agree on everything before it.
/// - A committed entry is in the log of every later leader, so it is never truncated.
/// - A follower commits only what it has verified against the leader of its term.
///
/// - Source: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014),
///   and Ongaro, "Consensus: Bridging Theory and Practice" (2014). Section numbers in these files
///   are the thesis's unless they begin with a 5, which is the paper's.
package struct Raft: Sendable {
    /// Who this is.
    package let member: GroupMember
    /// What the driver chose.
    package internal(set) var settings: Settings
    /// The term and the vote; durable once their ticket is.
    package internal(set) var hardState: HardState
    /// The log's extent, terms and memberships.
    package internal(set) var log: RaftLog
    /// Entries up to here, inclusive, are committed.
    package internal(set) var commitIndex: LogIndex
    /// Entries up to here, inclusive, are durable on this member.
    package internal(set) var flushedIndex: LogIndex

    /// The hard state that was last asked to be written.
    var writtenHardState: HardState
    var state: RoleState
    var writes = PendingWrites()
    var random: SeededRandom
    /// Ticks since this member last granted a vote, heard a leader, or campaigned.
    var electionElapsed = 0
    /// How many such ticks make it campaign; drawn anew each time.
    var electionTimeout = 0
    /// The leader that this member has just lost, until it is found again, a newer term begins or an election timeout has
    /// passed.
    var lostLeader: LostLeader?
    /// Whether the log may lack what this member once acknowledged.
    var isDamaged: Bool
    /// Whether the terms of all entries are known: a log compared by wrong ones passes for another.
    package internal(set) var areTermsKnown: Bool
    /// Durable up to here, the log is whole again: the end of a leader's log that was verified.
    var repairedIndex: LogIndex?

    /// Starts a member from what its disk says.
    ///
    /// - Parameters:
    ///   - member: this member; never a pair that another creation of it has used.
    ///   - restored: what recovery found, or `.new(_:)`.
    ///   - settings: limits and timeouts.
    ///   - seed: where this member's chance begins; different for each member.
    package init(
        self member: GroupMember,
        restored: RestoredState,
        settings: Settings = Settings(),
        seed: UInt64
    ) {
        precondition(
            restored.commitIndex >= restored.base.index
                && restored.commitIndex <= restored.lastIndex,
            "the commit index lies within the log"
        )
        self.member = member
        self.settings = settings
        hardState = restored.hardState
        writtenHardState = restored.hardState
        log = RaftLog(restored)
        commitIndex = restored.commitIndex
        flushedIndex = restored.lastIndex
        state = .follower(FollowerState(leader: nil, verifiedIndex: restored.commitIndex))
        random = SeededRandom(seed: seed)
        isDamaged = !restored.isElectable
        // Where nobody follows, no log is compared with this one.
        areTermsKnown = restored.areTermsKnown || log.membership.allMembers == [member]
        precondition(
            hardState.term >= log.lastPosition.term,
            "no entry is newer than the durable term"
        )
        log.forgetMemberships(before: commitIndex)
        resetElectionTimer()
    }

    /// Takes one input and returns what has to be done.
    package mutating func step(_ input: Input) -> [Effect] {
        var effects: [Effect] = []
        step(input, into: &effects)
        return effects
    }

    /// Takes one input and adds what has to be done to a buffer that the driver lends.
    package mutating func step(_ input: Input, into effects: inout [Effect]) {
        switch input {
        case .tick: tick(into: &effects)
        case .receive(let message, let sender, let target):
            if target == member {
                receive(message, from: sender, into: &effects)
            }
        case .persisted(let ticket): persisted(ticket, into: &effects)
        case .propose(let entries): propose(entries, into: &effects)
        case .announceCommit: announceCommit(into: &effects)
        case .readIndex(let requestID): readIndex(requestID, into: &effects)
        case .changeMembership(let voters, let learners):
            changeMembership(voters: voters, learners: learners, into: &effects)
        case .transferLeadership(let target): transferLeadership(to: target, into: &effects)
        case .campaign: campaignAtOnce(into: &effects)
        case .entriesRead(let follower, let first, let entries):
            entriesRead(for: follower, first: first, entries, into: &effects)
        case .snapshotSent(let follower, let position):
            snapshotSent(to: follower, position, into: &effects)
        case .snapshotReceived(let position, let membership):
            snapshotReceived(position, membership, into: &effects)
        case .snapshotAbandoned: abandonSnapshot()
        case .termsLearned(let runs): learnTerms(runs, into: &effects)
        case .logStartAdvanced(let firstIndex): advanceLogStart(to: firstIndex)
        case .unreachable(let other): setReachable(false, other, into: &effects)
        case .reachable(let other): setReachable(true, other, into: &effects)
        case .diskSlow: handOver(into: &effects)
        case .wake: wake(into: &effects)
        case .settings(let settings): apply(settings, into: &effects)
        }
    }
}

// MARK: - What a driver may ask

extension Raft {
    /// What this member is at the moment.
    package var role: Role {
        switch state {
        case .follower: .follower
        case .preCandidate: .preCandidate
        case .candidate: .candidate
        case .leader: .leader
        }
    }

    /// The term this member is in.
    package var term: Term {
        hardState.term
    }

    /// The leader of this term, if this member knows it.
    package var leader: GroupMember? {
        switch state {
        case .follower(let follower): follower.leader
        case .preCandidate, .candidate: nil
        case .leader: member
        }
    }

    /// Who belongs to the group, by the newest entry that says so.
    package var membership: Membership {
        log.membership
    }

    /// The last entry's index.
    package var lastIndex: LogIndex {
        log.lastIndex
    }

    /// The last entry.
    package var lastPosition: LogPosition {
        log.lastPosition
    }

    /// The entry before the first readable one.
    package var base: LogPosition {
        log.base
    }

    /// The term and the vote, once they are durable; nil while newer ones are on their way.
    package var durableHardState: HardState? {
        writes.hardStateTicket == nil ? writtenHardState : nil
    }

    /// Up to where entries are both committed and durable on this member.
    ///
    /// Only this far may they go to segments, and only this far may a commit index be remembered. A
    /// member may learn that an entry is committed before its own disk has it; if it then crashes, its
    /// disk may still hold another entry at that index.
    package var durableCommitIndex: LogIndex {
        min(commitIndex, flushedIndex)
    }

    /// Up to where a follower knows its log to be its leader's; the commit index for everyone else.
    package var verifiedIndex: LogIndex {
        if case .follower(let follower) = state { follower.verifiedIndex } else { commitIndex }
    }

    /// Whether this member leads and its term start is committed.
    package var isReady: Bool {
        if case .leader(let leader) = state { leader.isReady } else { false }
    }

    /// The bytes that a leader proposed and that are not committed yet.
    package var uncommittedByteCount: Int {
        if case .leader(let leader) = state { leader.uncommittedByteCount } else { 0 }
    }

    /// Up to where a leader has acknowledged; the commit index for everyone else.
    package var acknowledgedIndex: LogIndex {
        if case .leader(let leader) = state { leader.acknowledgedIndex } else { commitIndex }
    }

    /// Whether the member spends neither messages nor timeouts, trusting the brokers' beat.
    package var isQuiet: Bool {
        switch state {
        case .follower(let follower): follower.isQuiet
        case .leader(let leader): leader.isQuiet
        case .preCandidate, .candidate: false
        }
    }

    /// Whether the member may vote and campaign: its log is whole, and no files are on their way
    /// into it.
    package var isElectable: Bool {
        if isDamaged || !areTermsKnown {
            return false
        }
        if case .follower(let follower) = state, follower.offer != nil {
            return false
        }
        return true
    }

    /// What a leader knows of another member; `nil` for strangers, for itself, and when it does not
    /// lead.
    package func progress(of other: GroupMember) -> Progress? {
        guard case .leader(let leader) = state, let slot = leader.slot(of: other) else {
            return nil
        }
        return leader.progress[slot]
    }
}

// MARK: - Roles in place

extension Raft {
    /// The leader's state, changed where it lies; reading it is our mistake unless this member
    /// leads.
    var leading: LeaderState {
        get {
            guard case .leader(let leader) = state else {
                preconditionFailure("only a leader has a leader's state")
            }
            return leader
        }
        _modify {
            guard case .leader(var leader) = state else {
                preconditionFailure("only a leader has a leader's state")
            }
            // Leaves the payload with one owner, so that its arrays change in place.
            state = .follower(FollowerState(leader: nil, verifiedIndex: .zero))
            defer { state = .leader(leader) }
            yield &leader
        }
    }

    /// The follower's state, changed where it lies; reading it is our mistake unless this member
    /// follows.
    var following: FollowerState {
        get {
            guard case .follower(let follower) = state else {
                preconditionFailure("only a follower has a follower's state")
            }
            return follower
        }
        set {
            guard case .follower = state else {
                preconditionFailure("only a follower has a follower's state")
            }
            state = .follower(newValue)
        }
    }
}
