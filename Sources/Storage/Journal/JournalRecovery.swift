package import FlotillaModel
package import FlotillaRaft
package import FlotillaRecords

/// What a journal held when it was opened.
package struct JournalRecovery: Sendable {
    /// Every group that the journal knows, sorted.
    package var groups: [(group: GroupID, state: RecoveredGroup)] = []
    /// The unfinished last round, which was cut.
    ///
    /// Nothing in it had been acknowledged. Votes in it
    /// are kept.
    package var tornTail: JournalTornTail?
    /// Places that no longer hold what was once durable, in the order of the journal.
    package var damage: [JournalDamage] = []
    /// Whether the last round was that of `Journal.close()`.
    package var wasClean = false
    /// Whether damage may have swallowed all that was known of a group: one that is not in `groups`
    /// is suspect.
    package var areUnknownGroupsSuspect = false
    /// Whether damage may have swallowed the votes of such a group.
    package var areUnknownVotesLost = false
    /// Whether there was no round at all.
    package var isNew = false

    /// A journal that said nothing.
    package init() {}
}

/// What the journal knows of one group.
package struct RecoveredGroup: Sendable {
    /// The newest term and vote; nil when there never was one.
    package internal(set) var hardState: HardState?
    /// Damage may have swallowed a vote: the replica must come back as a learner with a new
    /// creation epoch.
    package internal(set) var isHardStateLost = false
    /// Entries up to here are committed; a hint.
    package internal(set) var commitIndex = LogIndex.zero
    /// The membership as of a committed entry; later changes lie in the entries.
    package internal(set) var membership: IndexedMembership?
    /// Entries by index, replaced ones left out; after damage some may be missing between them.
    package internal(set) var entries: [LogEntry] = []
    /// Damage may have swallowed entries at the log's end.
    package internal(set) var isSuspect = false
    /// Damage took entries before the last, or may have: those that segments lack need not have been committed.
    package internal(set) var mayLackEntries = false
    /// Where the log ended, as far as the journal knows; nil when it never had an entry.
    var tail: LogTail?

    /// The last entry's place as far as the journal knows; it may lie in segments only.
    package var lastPosition: LogPosition? {
        tail?.position
    }

    /// The part of the log that follows the segments.
    ///
    /// `end`: the last index that the segments hold. `checksum`: the CRC of the frame there, to
    /// check the chain; nil to leave that to the caller.
    package func continuation(after end: LogIndex, checksum: UInt32?) -> JournalContinuation {
        var continuation = JournalContinuation(entries: [], isSuspect: isSuspect)
        var next = end.next
        var link = checksum
        for entry in entries where entry.frame.index >= next {
            guard entry.frame.index == next, link == nil || link == entry.frame.previousChecksum
            else {
                continuation.isSuspect = true
                return continuation
            }
            continuation.entries.append(entry)
            link = entry.frame.checksum
            next = next.next
        }
        if let tail, tail.index >= next {
            continuation.isSuspect = true
        }
        return continuation
    }
}

/// What follows the segments of a group without a gap.
package struct JournalContinuation: Sendable {
    /// The entries, from the one after the segments' end.
    package var entries: [LogEntry]
    /// Whether acknowledged entries may be missing: the replica neither votes nor pre-votes until a
    /// leader matched it.
    package var isSuspect: Bool
}

/// A last round that was not whole: a write that a crash cut short.
package struct JournalTornTail: Hashable, Sendable, CustomStringConvertible {
    /// The file.
    package var file: String
    /// Where the round began.
    package var position: Int
    /// Its number.
    package var round: UInt64

    /// A line for the log.
    package var description: String {
        "\(file): round \(round) at byte \(position) is unfinished and was cut; nothing in it was acknowledged"
    }
}

/// A place in a sealed part of the journal that no longer holds what was durable.
package struct JournalDamage: Hashable, Sendable, CustomStringConvertible {
    /// What is bad there, and what that means.
    package enum Kind: Hashable, Sendable {
        /// One copy of a file's header; the other serves.
        case fileHeader
        /// A round's header; the next round's repeats what matters.
        case roundHeader
        /// A round's second copy of its votes and states; the first one serves.
        case echo
        /// Payloads; the entries are lost here and known by name.
        case payload(lost: [JournalLostEntry])
        /// A round's records: entries may be lost of any group that nothing later vouches for.
        case records(votesKept: Bool)
        /// Whole rounds, or a file.
        case rounds
    }

    /// The file, or the directory when a whole file is missing.
    package var file: String
    /// Where.
    package var position: Int
    /// What.
    package var kind: Kind

    /// Whether a second copy made good for it.
    package var isRepaired: Bool {
        switch kind {
        case .fileHeader, .roundHeader, .echo: true
        case .payload, .records, .rounds: false
        }
    }

    /// A line for the log.
    package var description: String {
        let place = "\(file): damage at byte \(position): "
        switch kind {
        case .fileHeader: return place + "one copy of the file's header; nothing is lost"
        case .roundHeader: return place + "a round's header; nothing is lost"
        case .echo: return place + "the second copy of a round's votes; nothing is lost"
        case .payload(let lost):
            let names = lost.map { "entry \($0.index) of \($0.group)" }.joined(separator: ", ")
            return place + "lost \(names)"
        case .records(let votesKept):
            return place + "a round's records" + (votesKept ? "; votes are kept" : " and votes")
        case .rounds: return place + "rounds are missing"
        }
    }
}

/// An entry whose payload was damaged.
package struct JournalLostEntry: Hashable, Sendable {
    /// Whose.
    package var group: GroupID
    /// Which.
    package var index: LogIndex
}
