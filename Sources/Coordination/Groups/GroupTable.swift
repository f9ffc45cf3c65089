package import FlotillaModel

/// What the log of one partition of `__consumer_offsets` says of its groups: applied on every replica, so that a new leader has nothing to
/// read.
package struct GroupTable: Sendable, Equatable {
    /// One group.
    package struct Entry: Sendable, Equatable {
        /// Its members; nil for a group that only has commits.
        package var classic: ClassicGroupState?
        /// Its commits, by topic and partition.
        package var offsets: [OffsetKey: CommittedOffset] = [:]

        /// Whether nothing is known of it.
        var isEmpty: Bool { classic == nil && offsets.isEmpty }
    }

    /// The groups, by name.
    package private(set) var groups: [String: Entry] = [:]
    /// Everything up to here is applied.
    package private(set) var appliedIndex: LogIndex = .zero

    /// Nothing yet.
    package init() {}

    init(groups: [String: Entry], appliedIndex: LogIndex) {
        self.groups = groups
        self.appliedIndex = appliedIndex
    }

    /// Takes in the records of an entry.
    package mutating func apply(_ records: [GroupRecord], at index: LogIndex) {
        advance(to: index)
        for record in records { apply(record) }
    }

    /// Takes note of an entry without records.
    package mutating func advance(to index: LogIndex) {
        precondition(index > appliedIndex, "entries are applied once and in order")
        appliedIndex = index
    }

    private mutating func apply(_ record: GroupRecord) {
        switch record {
        case .offset(let group, let key, let offset):
            groups[group, default: Entry()].offsets[key] = offset
            if groups[group]?.isEmpty == true { groups[group] = nil }
        case .classicGroup(let name, let state?):
            groups[name, default: Entry()].classic = state
        case .classicGroup(let name, nil):
            groups[name] = nil
        }
    }
}
