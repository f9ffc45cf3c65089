package import FlotillaModel

/// What a leader knows of one other member, and what it sends there next.
///
/// A follower is *probed* with one request at a time until the logs are known to agree somewhere,
/// then *replicated* to with many requests on their way, up to the window's bytes and count. One
/// whose next entry can no longer be read waits for a *snapshot*: files that the driver ships.
///
/// - Source: the three states are those of etcd's raft library; windows in bytes are ours.
package struct Progress: Hashable, Sendable {
    /// How entries reach the member.
    package enum State: Hashable, Sendable {
        case probe
        case replicate
        case snapshot
    }

    /// Who it is.
    package let member: GroupMember
    /// How entries reach the member at the moment.
    package internal(set) var state = State.probe
    /// The member's log durably equals the leader's up to here.
    package internal(set) var match = LogIndex.zero
    /// The next entry to send.
    package internal(set) var next: LogIndex
    /// Up to where the member says its log equals the leader's, durable or not.
    package internal(set) var verifiedIndex = LogIndex.zero
    /// The member's own commit index, as far as it was heard.
    package internal(set) var commitIndex = LogIndex.zero
    /// Up to where the member was last told that entries are committed, whether it heard that or not.
    package internal(set) var toldCommitIndex = LogIndex.zero
    /// Requests on their way.
    package internal(set) var window = SendWindow()
    /// Whether the member was heard since quorum was last checked.
    package internal(set) var isActive = true
    /// Whether the link to it is up, as far as the driver knows.
    package internal(set) var isReachable = true

    /// Whether a probe waits for its answer, or a request for a heartbeat's.
    var isPaused = false
    /// Whether the driver is reading entries for it.
    var isReading = false
    /// The number of the next append request.
    var nextSequence: UInt64 = 1
    /// The highest number of a request that the member answered with a match.
    var matchedSequence: UInt64 = 0
    /// Answers to requests with lower numbers come from a log that the member has lost since.
    var leastSequence: UInt64 = 1
    /// The last round of heartbeats that it answered.
    var answeredRound: UInt64 = 0
    /// Ticks since a request on its way made a difference.
    var stalledTicks = 0

    init(member: GroupMember, next: LogIndex) {
        self.member = member
        self.next = next
    }

    /// Starts over from `next`: what was on its way is taken as lost.
    mutating func probe(from next: LogIndex) {
        state = .probe
        self.next = next
        toldCommitIndex = .zero
        window.removeAll()
        isPaused = false
        stalledTicks = 0
    }

    /// The logs agree up to `match`: from there on the pipe is open.
    mutating func replicate() {
        state = .replicate
        next = max(next, match.next)
        window.removeAll()
        isPaused = false
        stalledTicks = 0
    }

    /// Entries cannot help; files are on their way.
    mutating func awaitSnapshot() {
        state = .snapshot
        window.removeAll()
        isPaused = false
        stalledTicks = 0
    }

    /// The member has, durably, everything up to `index`, as its answer to a request says.
    mutating func advance(to index: LogIndex, answering sequence: UInt64) {
        matchedSequence = max(matchedSequence, sequence)
        if index > match {
            match = index
            stalledTicks = 0
        }
        window.release(through: match)
        next = max(next, match.next)
    }

    /// The member lost what it had acknowledged: what it said before counts no longer.
    mutating func forgetMatch() {
        match = .zero
        leastSequence = nextSequence
    }

    /// Whether something sent has not been acknowledged.
    var awaitsAnswer: Bool {
        state == .replicate && match.next < next
    }

    /// What the member may commit by the last message that left for it.
    ///
    /// It commits no further than it has verified, so only what that message was sure of counts.
    mutating func noteTold(_ commitIndex: LogIndex, surelyHas index: LogIndex) {
        toldCommitIndex = max(toldCommitIndex, min(commitIndex, index))
    }

    /// Numbers an append request.
    mutating func takeSequence() -> UInt64 {
        defer { nextSequence += 1 }
        return nextSequence
    }
}
