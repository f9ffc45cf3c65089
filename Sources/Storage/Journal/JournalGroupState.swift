import FlotillaModel
import FlotillaRaft
import FlotillaRecords

/// The last entry of a log, by what identifies it.
struct LogTail: Hashable, Sendable {
    var position: LogPosition
    var checksum: UInt32

    var index: LogIndex {
        position.index
    }
}

/// What the journal knows of a group besides its entries; each file begins with that of every
/// group.
struct JournalGroupState: Hashable, Sendable {
    /// The newest term and vote; nil before the first.
    var hardState: HardState?
    /// Up to where the log is known to be committed.
    var commitIndex = LogIndex.zero
    /// The membership as of a committed entry.
    var membership: IndexedMembership?
    /// Where the log ends; nil before the first entry.
    var tail: LogTail?
    /// Damage may have swallowed entries that were acknowledged, and no leader has matched the log
    /// since.
    var isSuspect = false
    /// Damage may have swallowed a vote.
    var isHardStateLost = false

    /// Takes over what a record says; a removal is the caller's.
    mutating func apply(_ record: JournalRecord) {
        switch record {
        case .entries(let entries):
            if let last = entries.last?.frame {
                tail = LogTail(position: last.position, checksum: last.checksum)
            }
        case .hardState(let newer):
            hardState = newer
        case .commit(let index):
            commitIndex = max(commitIndex, index)
        case .membership(let newer):
            membership = newer
        case .reset(let position, let checksum):
            tail = LogTail(position: position, checksum: checksum)
            commitIndex = max(commitIndex, position.index)
        case .trusted(let position, let checksum):
            tail = LogTail(position: position, checksum: checksum)
            // No leader's log ends before what is committed; who goes on alone may give up what damage took.
            commitIndex = min(commitIndex, position.index)
            if let known = membership, known.index > position.index { membership = nil }
            isSuspect = false
            isHardStateLost = false
        case .remove:
            break
        }
    }
}

extension JournalRecord {
    /// Where a log that ended at `tail` ends after this record.
    ///
    /// Entries that leave a gap, or that do not chain to the log's last entry, would fork it: they
    /// are our own mistake and stop us before a byte of them is written.
    func tail(after tail: LogTail?) -> LogTail? {
        switch self {
        case .entries(let entries):
            guard let first = entries.first?.frame, let last = entries.last?.frame else {
                preconditionFailure("a record of entries has an entry")
            }
            if let tail {
                precondition(first.index <= tail.index.next, "a group's entries leave no gap")
                let isNext = first.index == tail.index.next
                precondition(
                    !isNext || first.previousChecksum == tail.checksum,
                    "entries chain to the last one"
                )
            }
            return LogTail(position: last.position, checksum: last.checksum)
        case .reset(let position, let checksum), .trusted(let position, let checksum):
            return LogTail(position: position, checksum: checksum)
        case .remove:
            return nil
        case .hardState, .commit, .membership:
            return tail
        }
    }
}
