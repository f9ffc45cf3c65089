package import FlotillaModel

/// What kind of entry it is, as far as consensus cares.
package enum EntryKind: Hashable, Sendable {
    /// Clients' records.
    case data
    /// The first entry of a leader's term; until it is committed the leader serves nothing.
    case termStart
    /// A membership, in effect from the moment that it is in the log.
    case membership(Membership)
    /// Any other entry of the layers above: start offset, roll, compaction, snapshot mark.
    case other
}

/// An entry that the layer above wants in the log; its bytes stay with the driver.
package struct ProposedEntry: Hashable, Sendable {
    /// `.data` or `.other`: a leader writes the other kinds itself.
    package var kind: EntryKind
    /// The size that counts against the windows: frame and payload.
    package var byteCount: Int

    /// What the entries that Raft writes itself count against the windows: a frame and a little.
    package static let ownByteCount = 64

    /// Describes an entry to propose.
    package init(kind: EntryKind, byteCount: Int) {
        self.kind = kind
        self.byteCount = byteCount
    }
}

/// An entry of a log as consensus sees it: everything but its bytes.
package struct EntryDescriptor: Hashable, Sendable {
    /// The term of the leader that first wrote the entry.
    package var term: Term
    /// The kind; a membership comes with its value.
    package var kind: EntryKind
    /// The size that counts against the windows: frame and payload.
    package var byteCount: Int

    /// Describes an entry.
    package init(term: Term, kind: EntryKind, byteCount: Int) {
        self.term = term
        self.kind = kind
        self.byteCount = byteCount
    }
}
