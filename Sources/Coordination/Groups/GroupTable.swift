package import FlotillaModel

/// What the log of one partition of `__consumer_offsets` says of its groups: applied on every replica, so that a new leader has nothing to
/// read.
package struct GroupTable: Sendable, Equatable {
    /// One group.
    package struct Entry: Sendable, Equatable {
        /// Its members, where it uses the classic protocol; nil for a group that only has commits.
        package var classic: ClassicGroupState?
        /// Its members, where it uses the consumer protocol.
        package var consumer: ConsumerGroupState?
        /// Its commits, by topic and partition.
        package var offsets: [OffsetKey: CommittedOffset] = [:]

        mutating func apply(_ record: ConsumerGroupRecord) {
            classic = nil
            if consumer == nil { consumer = ConsumerGroupState() }
            consumer?.apply(record)
        }

        /// Whether nothing is known of it.
        var isEmpty: Bool { classic == nil && consumer == nil && offsets.isEmpty }
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
    ///
    /// `appendTime`: the entry's, which never goes back; what the records say of time is the clock of one broker.
    package mutating func apply(
        _ records: [GroupRecord],
        at index: LogIndex,
        appendTime: Timestamp
    ) {
        advance(to: index)
        for record in records { apply(record, appendTime) }
    }

    /// Takes note of an entry without records.
    package mutating func advance(to index: LogIndex) {
        precondition(index > appliedIndex, "entries are applied once and in order")
        appliedIndex = index
    }

    private mutating func apply(_ record: GroupRecord, _ appendTime: Timestamp) {
        switch record {
        case .offset(let group, let key, var offset):
            offset?.raiseTime(to: appendTime)
            groups[group, default: Entry()].offsets[key] = offset
            if groups[group]?.isEmpty == true { groups[group] = nil }
        case .classicGroup(let name, var state?):
            state.time = max(state.time, appendTime)
            // A group uses one protocol at a time, and keeps its commits when that changes.
            groups[name, default: Entry()].classic = state
            groups[name]?.consumer = nil
        case .consumerGroup(let name, let record?):
            groups[name, default: Entry()].apply(record)
        case .classicGroup(let name, nil), .consumerGroup(let name, nil):
            groups[name] = nil
        }
    }
}
