package import FlotillaModel

/// What members of a group say to each other.
///
/// Entries' bytes travel beside an `AppendRequest`; the driver attaches them by its index range.
/// Sender and target are named outside the message, each with its creation epoch.
package enum Message: Hashable, Sendable {
    case preVoteRequest(PreVoteRequest)
    case preVoteResponse(PreVoteResponse)
    case voteRequest(VoteRequest)
    case voteResponse(VoteResponse)
    case appendRequest(AppendRequest)
    case appendResponse(AppendResponse)
    case heartbeatRequest(HeartbeatRequest)
    case heartbeatResponse(HeartbeatResponse)
    case snapshotOffer(SnapshotOffer)
    case timeoutNow(TimeoutNow)

    /// The term the message speaks of: the sender's own, or in a pre-vote the one it would start.
    package var term: Term {
        switch self {
        case .preVoteRequest(let request): request.term
        case .preVoteResponse(let response): response.term
        case .voteRequest(let request): request.term
        case .voteResponse(let response): response.term
        case .appendRequest(let request): request.term
        case .appendResponse(let response): response.term
        case .heartbeatRequest(let request): request.term
        case .heartbeatResponse(let response): response.term
        case .snapshotOffer(let offer): offer.term
        case .timeoutNow(let order): order.term
        }
    }
}

/// "Would you vote for me?": asked before a campaign, so that a member that cannot win disturbs
/// nobody.
///
/// - Source: Ongaro (2014), §9.6.
package struct PreVoteRequest: Hashable, Sendable {
    /// The term the sender would start; nobody adopts it.
    package var term: Term
    /// The last entry of the sender's log.
    package var lastEntry: LogPosition

    package init(term: Term, lastEntry: LogPosition) {
        self.term = term
        self.lastEntry = lastEntry
    }
}

/// The answer to a `PreVoteRequest`; it promises nothing.
package struct PreVoteResponse: Hashable, Sendable {
    /// The request's term when granted, the voter's own when refused.
    package var term: Term
    /// Whether the voter would vote for the asker.
    package var isGranted: Bool

    package init(term: Term, isGranted: Bool) {
        self.term = term
        self.isGranted = isGranted
    }
}

/// "Vote for me": a candidate's call.
///
/// - Source: Ongaro and Ousterhout (2014), §5.2 and §5.4.1.
package struct VoteRequest: Hashable, Sendable {
    /// The candidate's term.
    package var term: Term
    /// The last entry of the candidate's log.
    package var lastEntry: LogPosition
    /// Whether the leader itself asked for this campaign; then a live leader is no reason to
    /// refuse.
    package var isTransfer: Bool

    package init(term: Term, lastEntry: LogPosition, isTransfer: Bool) {
        self.term = term
        self.lastEntry = lastEntry
        self.isTransfer = isTransfer
    }
}

/// The answer to a `VoteRequest`; a granted one leaves only when it is remembered durably.
package struct VoteResponse: Hashable, Sendable {
    /// The voter's term.
    package var term: Term
    /// Whether the candidate has the voter's vote in `term`.
    package var isGranted: Bool

    package init(term: Term, isGranted: Bool) {
        self.term = term
        self.isGranted = isGranted
    }
}

/// Entries for a follower's log, or none: a probe.
package struct AppendRequest: Hashable, Sendable {
    /// The leader's term.
    package var term: Term
    /// Numbers the leader's requests to this follower within its term; the answer repeats it.
    package var sequence: UInt64
    /// The entry right before `entries`; the follower must have the same.
    package var previous: LogPosition
    /// The entries from `previous.index + 1` on, without their bytes.
    package var entries: [EntryDescriptor]
    /// Up to where the leader knows the log to be committed.
    package var commitIndex: LogIndex
    /// The end of the leader's log; a follower in doubt about its own log trusts it again from
    /// there.
    package var lastIndex: LogIndex

    package init(
        term: Term,
        sequence: UInt64,
        previous: LogPosition,
        entries: [EntryDescriptor],
        commitIndex: LogIndex,
        lastIndex: LogIndex
    ) {
        self.term = term
        self.sequence = sequence
        self.previous = previous
        self.entries = entries
        self.commitIndex = commitIndex
        self.lastIndex = lastIndex
    }

    /// The indexes of `entries`, half-open; empty for a probe.
    package var range: Range<LogIndex> {
        previous.index.next..<(previous.index.next + UInt64(entries.count))
    }
}

/// The answer to an `AppendRequest` or to an installed snapshot.
package struct AppendResponse: Hashable, Sendable {
    /// What became of the request.
    package enum Outcome: Hashable, Sendable {
        /// The follower's log equals the leader's up to here, durably.
        case matched(LogIndex)
        /// The follower has no such previous entry.
        ///
        /// - Parameters:
        ///   - previous: the previous index of the request.
        ///   - hint: the follower's last entry whose index and term are not above the request's:
        ///     the two logs cannot agree beyond it.
        case rejected(previous: LogIndex, hint: LogPosition)
    }

    /// The follower's term.
    package var term: Term
    /// The request's number.
    package var sequence: UInt64
    /// What became of the request.
    package var outcome: Outcome

    package init(term: Term, sequence: UInt64, outcome: Outcome) {
        self.term = term
        self.sequence = sequence
        self.outcome = outcome
    }
}

/// "I still lead": carries the commit index, never changes a log.
package struct HeartbeatRequest: Hashable, Sendable {
    /// The leader's term.
    package var term: Term
    /// Numbers the rounds of heartbeats within the term; an answered round proves leadership.
    package var round: UInt64
    /// The leader's commit index, at most what it knows this follower to hold.
    package var commitIndex: LogIndex
    /// Whether the leader falls silent after this one, trusting the brokers' own beat.
    package var goesQuiet: Bool

    package init(term: Term, round: UInt64, commitIndex: LogIndex, goesQuiet: Bool) {
        self.term = term
        self.round = round
        self.commitIndex = commitIndex
        self.goesQuiet = goesQuiet
    }
}

/// The answer to a `HeartbeatRequest`, and to any message of an outdated leader.
package struct HeartbeatResponse: Hashable, Sendable {
    /// The follower's term.
    package var term: Term
    /// The round that is answered; 0 when only the term matters.
    package var round: UInt64
    /// Up to where the follower has verified its log against this leader's, durable or not.
    package var verifiedIndex: LogIndex
    /// The follower's commit index.
    package var commitIndex: LogIndex

    package init(term: Term, round: UInt64, verifiedIndex: LogIndex, commitIndex: LogIndex) {
        self.term = term
        self.round = round
        self.verifiedIndex = verifiedIndex
        self.commitIndex = commitIndex
    }
}

/// "Files up to this position are on their way": sent by the leader's driver ahead of them.
package struct SnapshotOffer: Hashable, Sendable {
    /// The leader's term, from the order to send.
    package var term: Term
    /// The number from the order to send; the answer after installation repeats it.
    package var sequence: UInt64
    /// The last entry that the files contain; it is committed.
    package var position: LogPosition

    package init(term: Term, sequence: UInt64, position: LogPosition) {
        self.term = term
        self.sequence = sequence
        self.position = position
    }
}

/// "Campaign now": hands leadership to a follower that has the whole log.
///
/// - Source: Ongaro (2014), §3.10.
package struct TimeoutNow: Hashable, Sendable {
    /// The leader's term.
    package var term: Term

    package init(term: Term) {
        self.term = term
    }
}
