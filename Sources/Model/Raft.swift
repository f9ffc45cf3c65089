/// The position of an entry in a Raft log; the first entry has index 1, and 0 means "before the log".
@frozen
public struct LogIndex: Scalar {
    /// The index as frames carry it.
    public var rawValue: UInt64

    /// Wraps an index.
    @inlinable
    public init(_ rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// The position before the first entry.
    public static let zero = LogIndex(0)

    /// The index `count` entries further on.
    @inlinable
    public static func + (index: LogIndex, count: UInt64) -> LogIndex {
        LogIndex(index.rawValue + count)
    }

    /// The index `count` entries earlier.
    @inlinable
    public static func - (index: LogIndex, count: UInt64) -> LogIndex {
        LogIndex(index.rawValue - count)
    }

    /// The next entry's index.
    @inlinable
    public var next: LogIndex {
        LogIndex(rawValue + 1)
    }
}

/// A Raft term; on the Kafka wire it is the leader epoch.
///
/// 0 means "no term yet".
@frozen
public struct Term: Scalar {
    /// The term as frames carry it; it never exceeds `Int32.max`, since Kafka's leader epoch is signed.
    public var rawValue: UInt32

    /// Wraps a term.
    @inlinable
    public init(_ rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// Before the first election.
    public static let zero = Term(0)

    /// The term of the next election.
    @inlinable
    public var next: Term {
        Term(rawValue + 1)
    }

    /// The term as Kafka's leader epoch.
    @inlinable
    public var leaderEpoch: Int32 {
        Int32(bitPattern: rawValue)
    }
}

/// What a log ends with: Raft compares terms first, then indexes.
///
/// - Source: Ongaro and Ousterhout (2014), §5.4.1.
@frozen
public struct LogPosition: Hashable, Comparable, Sendable {
    /// The entry's term.
    public var term: Term
    /// The entry's index.
    public var index: LogIndex

    /// A position in a log.
    @inlinable
    public init(term: Term, index: LogIndex) {
        self.term = term
        self.index = index
    }

    /// Before the first entry of any log.
    public static let zero = LogPosition(term: .zero, index: .zero)

    /// A later term wins; within one term the longer log wins.
    @inlinable
    public static func < (left: LogPosition, right: LogPosition) -> Bool {
        (left.term, left.index) < (right.term, right.index)
    }
}
