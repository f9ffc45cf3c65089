package import FlotillaRaft
package import FlotillaRecords
import FlotillaStorage

extension EntryDescriptor {
    /// An entry as consensus sees it; nil for a membership that cannot be read.
    package init?(_ entry: LogEntry) {
        let kind: FlotillaRaft.EntryKind
        switch entry.frame.kind {
        case .data: kind = .data
        case .termStart: kind = .termStart
        case .membership:
            guard let membership = Membership(payload: entry.body) else { return nil }
            kind = .membership(membership)
        case .startOffset, .roll, .compaction, .snapshotMark: kind = .other
        }
        self.init(term: entry.frame.term, kind: kind, byteCount: entry.byteCount)
    }

    /// Whether the entry is the one that is described; sizes may differ, since a leader counts its own entries flat.
    func describes(_ entry: LogEntry) -> Bool {
        guard term == entry.frame.term, let other = EntryDescriptor(entry) else { return false }
        return kind == other.kind
    }
}
