import FlotillaModel

extension JournalSuffix {
    /// What the journal recovered of a group.
    package init(_ group: RecoveredGroup) {
        self.init(
            entries: group.entries,
            commitIndex: group.commitIndex,
            membership: group.membership,
            lastIndex: group.lastPosition?.index ?? .zero
        )
        mayLackEntries = group.mayLackEntries
    }
}
