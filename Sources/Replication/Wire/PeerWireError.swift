package import FlotillaModel
package import FlotillaRecords

/// Why bytes are no frame of a peer; the connection is closed, since nothing behind them can be
/// trusted, and the sender begins anew on another.
package enum PeerWireError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The frame ends within a field.
    case truncated(needed: Int, found: Int)
    /// Bytes follow the last field.
    case trailingBytes(Int)
    /// A kind of frame that this version does not have.
    case unknownFrameKind(UInt8)
    /// A kind of message between replicas that this version does not have.
    case unknownMessageKind(UInt8)
    /// A number that its field never has.
    case fieldOutOfRange(PeerWireField, UInt64)
    /// More entries are announced than the frame has bytes for.
    case entryCountTooLarge(announced: UInt32, byteCount: Int)
    /// An entry is no entry, or was damaged; `place` counts the message's entries from 0.
    case entryDamaged(place: Int, RecordsError)
    /// An entry does not follow the one before it.
    case entryOutOfPlace(expected: LogIndex, found: LogIndex)
    /// An entry's term is below the one before it, or above the leader's.
    case entryTermOutOfOrder(index: LogIndex, term: Term)
    /// An entry is sound, but names another predecessor than the one that was sent.
    case chainBroken(index: LogIndex, expected: UInt32, found: UInt32)
    /// The payload of a membership entry is no membership.
    case membershipUnreadable(index: LogIndex)

    /// The error as a sentence.
    package var description: String {
        switch self {
        case .truncated(let needed, let found):
            "the frame ends early: \(needed) bytes needed, \(found) there"
        case .trailingBytes(let count):
            "\(count) bytes follow the frame's last field"
        case .unknownFrameKind(let kind):
            "frame kind \(kind) is not known to this version"
        case .unknownMessageKind(let kind):
            "message kind \(kind) is not known to this version"
        case .fieldOutOfRange(let field, let value):
            "the \(field) is out of range: \(value)"
        case .entryCountTooLarge(let announced, let byteCount):
            "\(announced) entries announced, but \(byteCount) bytes left"
        case .entryDamaged(let place, let error):
            "the entry in place \(place) was refused: \(error)"
        case .entryOutOfPlace(let expected, let found):
            "entry \(expected) comes next, but entry \(found) was sent"
        case .entryTermOutOfOrder(let index, let term):
            "entry \(index) has term \(term), below the entry before it or above its leader's"
        case .chainBroken(let index, let expected, let found):
            "entry \(index) follows another entry than the one sent (checksum \(expected), not \(found))"
        case .membershipUnreadable(let index):
            "entry \(index) holds no membership"
        }
    }
}

/// A field of a peer frame, named in errors.
package enum PeerWireField: String, Hashable, Sendable, CustomStringConvertible {
    case partition
    case term
    case lastTerm = "last entry's term"
    case lastIndex = "last entry's index"
    case previousTerm = "previous entry's term"
    case previousIndex = "previous entry's index"
    case commitIndex = "commit index"
    case outcome
    case matchedIndex = "matched index"
    case rejectedIndex = "rejected index"
    case hintTerm = "hint's term"
    case hintIndex = "hint's index"
    case verifiedIndex = "verified index"
    case snapshotTerm = "snapshot's term"
    case snapshotIndex = "snapshot's index"
    case isGranted = "flag for a granted vote"
    case isTransfer = "flag for a transfer"
    case goesQuiet = "flag for silence"
    case firstIndex = "first index"
    case baseOffset = "base offset"
    case entryCount = "number of entries"
    case reason

    /// The field in words.
    package var description: String {
        rawValue
    }
}
