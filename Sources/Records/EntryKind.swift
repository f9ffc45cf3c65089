/// What an entry of the log is; byte 20 of its frame.
///
/// Only `data` is seen by clients and takes offsets. The others are zero-width: they carry the next
/// offset and take none.
package enum EntryKind: UInt8, Hashable, Sendable, CaseIterable {
    /// A Kafka record batch, exactly as clients read it (control batches of transactions included).
    case data = 0
    /// The first entry of a leader's term; nothing is committed by counting before it.
    case termStart = 1
    /// A change of the group's members.
    case membership = 2
    /// Records below an offset are gone.
    case startOffset = 3
    /// A segment ends, though no record came.
    case roll = 4
    /// A compaction with its range, time and codec.
    case compaction = 5
    /// A place from which a state machine's snapshot may be taken.
    case snapshotMark = 6
}

/// Flags of an entry; bytes 21 to 23 of its frame, the first one lowest.
package struct FrameFlags: OptionSet, Hashable, Sendable {
    /// The 24 bits.
    package var rawValue: UInt32

    /// Wraps the bits.
    package init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// The entry is the first one of a new segment: the leader decides, replicas obey.
    package static let firstOfSegment = FrameFlags(rawValue: 1)

    /// The leader compressed a batch that arrived plain, so a client that cannot read lz4 gets it
    /// plain again.
    package static let compressedByBroker = FrameFlags(rawValue: 2)

    /// Every flag that an entry of this kind may carry; the other bits are zero.
    package static func known(for kind: EntryKind) -> FrameFlags {
        kind == .data ? [.firstOfSegment, .compressedByBroker] : [.firstOfSegment]
    }
}
