import FlotillaModel
import FlotillaRaft
import FlotillaRecords

/// An entry as a round names it; nil when its payload is damaged.
struct JournalFoundEntry {
    var frame: Frame
    var entry: LogEntry?
}

/// A record of a round with all that could be read of it.
struct JournalFoundRecord {
    enum Content {
        case entries([JournalFoundEntry])
        case record(JournalRecord)
        case groupState(JournalGroupState)
    }

    var group: GroupID
    var content: Content
}

/// Applies what rounds say, in their order, and keeps book of what damage leaves in doubt.
///
/// A round that cannot be read may have held anything of any group. What later rounds say takes the
/// doubt away again: entries that chain to those we have, a state or a match with a leader that
/// names our last entry, a newer vote.
struct JournalReplay {
    private struct Group {
        var state = JournalGroupState()
        var entries: [LogEntry] = []
        /// An unreadable round may have held entries after those we have.
        var isTailInDoubt = false
        /// An unreadable round may have held a vote.
        var isHardStateInDoubt = false
        /// Damage took entries, or may have, though later ones are there.
        var mayLackEntries = false
    }

    private(set) var ledger = JournalLedger()
    /// Whether a round was unreadable: groups that appear nowhere else are in doubt.
    private(set) var isAnythingInDoubt = false
    /// Whether votes were lost with it, of groups that appear nowhere else as well.
    private(set) var isAnyHardStateInDoubt = false
    private var groups: [GroupID: Group] = [:]

    /// A sealed round could not be read.
    mutating func noteUnreadableRound(votesKept: Bool) {
        isAnythingInDoubt = true
        for group in groups.keys.sorted() {
            groups[group]?.isTailInDoubt = true
            groups[group]?.mayLackEntries = true
        }
        if !votesKept {
            isAnyHardStateInDoubt = true
            for group in groups.keys.sorted() {
                groups[group]?.isHardStateInDoubt = true
            }
        }
    }

    /// Applies a record of a round in the file of `generation`.
    mutating func apply(_ found: JournalFoundRecord, generation: UInt64) {
        let name = found.group
        // Taken out, so that its entries are not copied for each that is added.
        var group = groups.removeValue(forKey: name) ?? newGroup()
        switch found.content {
        case .entries(let entries):
            append(entries, to: &group, name, generation)
        case .groupState(let state):
            adopt(state, in: &group, name)
        case .record(.remove):
            ledger.remove(name)
            return
        case .record(.reset(let position, let checksum)):
            ledger.remove(name)
            group.entries = []
            group.isTailInDoubt = false
            group.mayLackEntries = false
            group.state.apply(.reset(position, checksum: checksum))
        case .record(.trusted(let position, let checksum)):
            adopt(tail: LogTail(position: position, checksum: checksum), in: &group, name)
            group.state.apply(.trusted(position, checksum: checksum))
            group.isHardStateInDoubt = false
        case .record(.hardState(let state)):
            group.state.hardState = state
            group.isHardStateInDoubt = false
        case .record(let record):
            group.state.apply(record)
        }
        groups[name] = group
    }

    /// Applies the votes of a round that was not finished: keeping a promise that nobody heard is
    /// safe.
    mutating func applyVotes(_ records: [JournalFoundRecord]) {
        for found in records {
            guard case .record(.hardState(let state)) = found.content else {
                continue
            }
            var group = groups.removeValue(forKey: found.group) ?? newGroup()
            let current = group.state.hardState ?? .initial
            let isNewer =
                state.term > current.term || state.term == current.term && current.votedFor == nil
            if isNewer {
                group.state.hardState = state
            }
            groups[found.group] = group
        }
    }

    /// What all records together say.
    func finish() -> [(group: GroupID, state: RecoveredGroup)] {
        groups.keys.sorted().compactMap { name in
            groups[name].map { (name, Self.recovered($0)) }
        }
    }

    private static func recovered(_ group: Group) -> RecoveredGroup {
        RecoveredGroup(
            hardState: group.state.hardState,
            isHardStateLost: group.state.isHardStateLost || group.isHardStateInDoubt,
            commitIndex: group.state.commitIndex,
            membership: group.state.membership,
            entries: group.entries,
            isSuspect: group.state.isSuspect || group.isTailInDoubt,
            mayLackEntries: group.mayLackEntries,
            tail: group.state.tail
        )
    }

    private func newGroup() -> Group {
        var group = Group()
        group.isTailInDoubt = isAnythingInDoubt
        group.mayLackEntries = isAnythingInDoubt
        group.isHardStateInDoubt = isAnyHardStateInDoubt
        return group
    }

    private mutating func append(
        _ found: [JournalFoundEntry],
        to group: inout Group,
        _ name: GroupID,
        _ generation: UInt64
    ) {
        guard let first = found.first?.frame, let last = found.last?.frame else {
            return
        }
        cut(&group, from: first.index)
        if let before = checksum(before: first.index, in: group), before != first.previousChecksum {
            // What we have at that index was replaced in a round that we could not read, and nobody
            // can tell from where on: the replaced entry goes, and a leader must match the rest.
            cut(&group, from: first.index - 1)
            group.state.isSuspect = true
        }
        group.isTailInDoubt = false
        for entry in found {
            if let entry = entry.entry {
                group.entries.append(entry)
            } else {
                group.mayLackEntries = true
            }
        }
        group.state.tail = LogTail(position: last.position, checksum: last.checksum)
        ledger.append(
            name,
            from: first.index,
            through: last.index,
            byteCount: found.reduce(0) { $0 + $1.frame.entryByteCount },
            generation: generation
        )
    }

    private func adopt(_ state: JournalGroupState, in group: inout Group, _ name: GroupID) {
        let tail = group.state.tail
        group.state = state
        group.state.tail = tail
        group.isHardStateInDoubt = false
        guard let newTail = state.tail else {
            group.isTailInDoubt = false
            return
        }
        adopt(tail: newTail, in: &group, name)
    }

    /// Takes a later statement of where the log ends as evidence about what we have.
    private func adopt(tail: LogTail, in group: inout Group, _ name: GroupID) {
        group.isTailInDoubt = false
        if group.state.tail != tail {
            cut(&group, from: tail.index.next)
            if let last = group.entries.last?.frame, last.index == tail.index,
                last.checksum != tail.checksum
            {
                cut(&group, from: tail.index)
                group.state.isSuspect = true
            }
        }
        group.state.tail = tail
    }

    private func cut(_ group: inout Group, from index: LogIndex) {
        while let last = group.entries.last, last.frame.index >= index {
            group.entries.removeLast()
        }
    }

    /// The checksum of the frame before `index`, if that frame is known.
    private func checksum(before index: LogIndex, in group: Group) -> UInt32? {
        if let last = group.entries.last?.frame, last.index.next == index {
            return last.checksum
        }
        if let tail = group.state.tail, tail.index.next == index {
            return tail.checksum
        }
        return nil
    }
}
