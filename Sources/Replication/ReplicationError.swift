package import FlotillaModel
package import FlotillaRaft
package import FlotillaStorage

/// Why a replica did not do what was asked, or cannot go on.
package enum ReplicationError: Error, Sendable, CustomStringConvertible {
    /// The group did not take the proposal; nothing of it is in the log.
    case rejected(Rejection)
    /// Leadership was lost while the entry waited for its quorum; it may still be committed by the next leader.
    case leadershipLost
    /// The entry is committed, but fewer replicas than the group's settings ask for are there to have it.
    case tooFewReplicas
    /// The log could not be read or written.
    case storage(StorageError)
    /// An entry cannot be applied, or not even taken: it is damaged, newer than this version understands, or does not
    /// continue the log.
    case unusableEntry(index: LogIndex, description: String)

    /// The error as a sentence.
    package var description: String {
        switch self {
        case .rejected(let rejection): rejection.description
        case .leadershipLost:
            "leadership was lost while the entry waited; the next leader decides whether it stays"
        case .tooFewReplicas:
            "the records are committed, but fewer replicas than min.insync.replicas have them"
        case .storage(let error): error.description
        case .unusableEntry(let index, let description):
            "entry \(index) cannot be applied: \(description); the replica stops rather than skip it"
        }
    }
}
