import FlotillaModel
import FlotillaRecords

/// Brings the entries of one damaged range together from the peers that have them; it decides, and asks nobody itself.
///
/// One peer is asked at a time, from the front of the range on, and the next one where it has no more. An entry that
/// nobody has is passed over, so that what lies behind it is healed all the same. What continues the entry before by its
/// chain may come from another peer: the two may be damaged in different places.
struct EntryGathering {
    /// What is to be done next.
    enum Step {
        /// Ask this peer for entries of this range.
        case ask(GroupMember, ClosedRange<LogIndex>)
        /// Heal with these, then `given(_:)`.
        case give([LogEntry])
        /// Nothing more can be had.
        case finished
    }

    /// The entries that are wanted.
    let range: ClosedRange<LogIndex>
    /// The ranges that no peer has.
    private(set) var missing: [ClosedRange<LogIndex>] = []
    /// Whether a peer did not answer: what is missing may be there.
    private(set) var hasSilentPeer = false
    /// Whether entries of a peer did not fit in their place.
    private(set) var wasRefused = false

    private let byteLimit: Int
    private var peers: [GroupMember]
    private var place = 0
    /// How many peers in a row have declined the next entry.
    private var declinedCount = 0
    /// The smallest index that one of them may have.
    private var resumption: LogIndex
    private var next: LogIndex
    private var entries: [LogEntry] = []
    private var byteCount = 0
    private var contributors: Set<GroupMember> = []

    /// Begins to gather.
    ///
    /// - Parameters:
    ///   - range: the entries that are wanted.
    ///   - peers: whom to ask, in this order.
    ///   - byteLimit: what is held in memory at most before it is given, whole or not.
    init(_ range: ClosedRange<LogIndex>, from peers: [GroupMember], byteLimit: Int) {
        self.range = range
        self.peers = peers
        self.byteLimit = byteLimit
        next = range.lowerBound
        resumption = range.upperBound.next
    }

    private var end: LogIndex { range.upperBound.next }

    private var hasAskedAll: Bool { declinedCount >= peers.count }

    /// Decides; asked again after each answer.
    mutating func step() -> Step {
        while true {
            let mustGive = next == end || byteCount >= byteLimit || hasAskedAll
            if mustGive, !entries.isEmpty { return .give(entries) }
            if next == end { return .finished }
            guard hasAskedAll else { return .ask(peers[place], next...range.upperBound) }
            let resumed = min(max(resumption, next.next), end)
            missing.append(next...(resumed - 1))
            next = resumed
            declinedCount = 0
            resumption = end
        }
    }

    /// The peer that was asked sent entries.
    ///
    /// - Returns: false for entries that were not asked for, or do not continue those before them: the peer then counts
    ///   as one that has none.
    mutating func take(_ found: [LogEntry]) -> Bool {
        guard let first = found.first?.frame, let last = found.last?.frame, first.index == next,
            last.index < end,
            entries.last.map({ $0.frame.checksum == first.previousChecksum }) ?? true
        else {
            decline(next: end)
            return false
        }
        entries += found
        byteCount += found.reduce(0) { $0 + $1.byteCount }
        contributors.insert(peers[place])
        next = last.index.next
        declinedCount = 0
        resumption = end
        return true
    }

    /// The peer that was asked does not have the next entry, but perhaps one behind it.
    mutating func decline(next index: LogIndex) {
        resumption = min(resumption, max(index, next.next))
        declinedCount += 1
        place = (place + 1) % peers.count
    }

    /// The peer that was asked did not answer.
    mutating func timeOut() {
        hasSilentPeer = true
        decline(next: end)
    }

    /// What was given is dealt with.
    ///
    /// - Parameter isRefused: whether it did not belong there: whoever sent a part of it is not asked again.
    mutating func given(isRefused: Bool) {
        if isRefused, let first = entries.first?.frame.index {
            wasRefused = true
            peers.removeAll { contributors.contains($0) }
            place = 0
            declinedCount = 0
            resumption = end
            next = first
        }
        entries.removeAll()
        byteCount = 0
        contributors.removeAll()
    }
}
