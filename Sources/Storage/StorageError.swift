package import FlotillaEnvironment
package import FlotillaModel

/// Why a journal or a log could not be opened, read or written; each message says what to do or what happens next.
package enum StorageError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The disk refused something that is not final; what was asked for did not happen.
    case disk(DiskError)
    /// No room is left; nothing that was promised is lost, and the call may be made again.
    case volumeFull(directory: String, bytesNeeded: Int, bytesFree: Int)
    /// Making data durable failed: the process must stop, and the next start reads past the page cache.
    case syncFailed(DiskError)
    /// Writing to the journal failed for another reason than room: final as well.
    case journalWriteFailed(DiskError)
    /// An earlier write or sync of this journal failed, so it takes nothing more.
    case journalUnusable(directory: String)
    /// A file of a format that this version does not know; it is left as it is.
    case unsupportedVersion(file: String, found: Int, supported: Int)
    /// A record kind that a newer version wrote.
    case unsupportedRecordKind(file: String, kind: Int)
    /// The data directory belongs to a journal that is not there.
    case journalMissing(directory: String, expected: String)
    /// The journal belongs to another data directory.
    case journalForeign(directory: String, expected: String, found: String)
    /// A file that names a directory's identity cannot be read.
    case identityDamaged(file: String)
    /// A segment's file belongs to another partition than its directory says.
    case foreignFile(file: String)
    /// What was asked for lies in a damaged part of a log; the rest of the log is served.
    case damaged(Damage)
    /// The offset lies outside what a log holds.
    case offsetOutOfRange(Offset, logStartOffset: Offset, logEndOffset: Offset)
    /// The entry lies outside what a log holds.
    case indexOutOfRange(LogIndex, first: LogIndex, last: LogIndex)
    /// Files that were received are not a log; they are thrown away, and the old log stays.
    case shipmentRefused(directory: String, ShipmentProblem)
    /// Entries or a state from a peer do not belong where they were to heal; nothing was changed.
    case repairRefused(file: String, at: LogIndex)

    /// The error as a sentence.
    package var description: String {
        switch self {
        case .disk(let error):
            "\(error)"
        case .volumeFull(let directory, let needed, let free):
            "\(directory): \(needed) bytes needed, \(free) free; lower log.retention.bytes or add disk"
        case .syncFailed(let error):
            "\(error); what was written may be lost, so the broker stops and verifies the disk at its next start"
        case .journalWriteFailed(let error):
            "\(error); the journal cannot be trusted further, so the broker stops"
        case .journalUnusable(let directory):
            "\(directory): an earlier write or sync failed; restart the broker when the disk is well"
        case .unsupportedVersion(let file, let found, let supported):
            "\(file): format \(found) is not known, this version reads \(supported); start the version that wrote it"
        case .unsupportedRecordKind(let file, let kind):
            "\(file): record kind \(kind) is not known; start the version that wrote it"
        case .journalMissing(let directory, let expected):
            "\(directory): journal \(expected) of this data directory is missing"
        case .journalForeign(let directory, let expected, let found):
            "\(directory): the journal belongs to \(found), not to \(expected)"
        case .identityDamaged(let file):
            "\(file): the journal's identity cannot be read"
        case .foreignFile(let file):
            "\(file): belongs to another partition; put it back where it came from"
        case .damaged(let damage):
            "\(damage)"
        case .offsetOutOfRange(let offset, let start, let end):
            "offset \(offset) lies outside the log, which holds \(start) up to \(end)"
        case .indexOutOfRange(let index, let first, let last):
            "entry \(index) lies outside the log, which holds \(first) to \(last)"
        case .shipmentRefused(let directory, let problem):
            "\(directory): \(problem); what was received is thrown away and asked for again"
        case .repairRefused(let file, let index):
            "\(file): what a peer sent for entry \(index) does not fit its neighbours; another peer is asked"
        }
    }
}

/// Does something on a disk, and turns its refusal into storage's.
func onDisk<Value>(_ body: () throws(DiskError) -> Value) throws(StorageError) -> Value {
    do {
        return try body()
    } catch {
        throw .disk(error)
    }
}
