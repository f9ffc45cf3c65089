package import FlotillaEnvironment
package import FlotillaModel

/// What happened to a group, the latest of it, as its coordinator saw it: in memory, and gone with the coordinator.
///
/// An event that repeats the one before is counted instead of kept again, so that a client which asks the same thing for ever does not
/// push out what led to it.
package struct GroupHistory: Hashable, Sendable {
    /// A moment, for people and for measuring.
    package struct Moment: Hashable, Sendable {
        /// What the clock on the wall says.
        package var wallTime: Timestamp
        /// What the stop watch says.
        package var instant: Instant

        /// States a moment.
        package init(wallTime: Timestamp, instant: Instant) {
            self.wallTime = wallTime
            self.instant = instant
        }
    }

    /// Something that happened, and how often in a row.
    package struct Event: Hashable, Sendable {
        /// When it happened first.
        package var time: Timestamp
        /// When it happened last.
        package var lastTime: Timestamp
        /// How often.
        package var count = 1
        /// What happened.
        package var kind: GroupEvent

        /// Once.
        init(_ kind: GroupEvent, at time: Timestamp) {
            self.kind = kind
            self.time = time
            lastTime = time
        }
    }

    /// The most events that are kept of a group.
    package static let eventLimit = 200
    /// About the most bytes that are kept of a group.
    package static let byteLimit = 64 << 10

    /// What is kept, the oldest first.
    package private(set) var events: [Event] = []
    /// How many older events were dropped.
    package private(set) var droppedCount = 0
    /// About how many bytes it takes.
    package private(set) var byteCount = 0
    /// When the rebalance began that is under way.
    private var rebalanceStart: Instant?

    /// Nothing yet.
    package init() {}

    /// Whether partitions are being shared out.
    package var isRebalancing: Bool { rebalanceStart != nil }

    /// Takes in what happened in one go.
    ///
    /// A rebalance that ends takes as long as it is since the first one that began and did not end. One that leaves nobody in the group is
    /// none: that the group is empty says it all.
    package mutating func note(_ kinds: [GroupEvent], at moment: Moment) {
        let isEmptied = kinds.contains { if case .emptied = $0 { true } else { false } }
        for kind in kinds {
            switch kind {
            case .rebalanceBegan:
                guard !isEmptied else { continue }
                if rebalanceStart == nil { rebalanceStart = moment.instant }
                append(kind, at: moment.wallTime)
            case .rebalanceEnded(var rebalance):
                rebalance.duration = rebalanceStart.map { moment.instant - $0 }
                rebalanceStart = nil
                append(.rebalanceEnded(rebalance), at: moment.wallTime)
            case .emptied:
                rebalanceStart = nil
                append(kind, at: moment.wallTime)
            case .coordinated, .resumed, .present, .morePresent, .joined, .gone, .replaced, .away,
                .returned,
                .fenced, .unwritten, .commitsForgotten, .deleted:
                append(kind, at: moment.wallTime)
            }
        }
    }

    private mutating func append(_ kind: GroupEvent, at time: Timestamp) {
        if let last = events.last, last.kind == kind {
            events[events.count - 1].count += 1
            events[events.count - 1].lastTime = time
            return
        }
        events.append(Event(kind, at: time))
        byteCount += kind.approximateByteCount
        while events.count > Self.eventLimit || byteCount > Self.byteLimit, events.count > 1 {
            byteCount -= events.removeFirst().kind.approximateByteCount
            droppedCount += 1
        }
    }
}

/// The histories of a coordinator's groups; those that nothing was added to for the longest time make room.
package struct GroupHistories: Sendable {
    private struct Kept {
        var history: GroupHistory
        /// Grows with every addition to any group.
        var age: UInt64
    }

    /// The most groups.
    package static let groupLimit = 500
    /// About the most bytes of all groups together.
    package static let byteLimit = 1 << 20

    private var kept: [String: Kept] = [:]
    private var byteCount = 0
    private var lastAge: UInt64 = 0
    /// How many groups made room for others.
    package private(set) var droppedCount = 0

    /// None yet.
    package init() {}

    /// What is kept of a group.
    package subscript(name: String) -> GroupHistory? { kept[name]?.history }

    /// How many groups something is kept of.
    package var count: Int { kept.count }

    /// Takes in what happened to a group.
    package mutating func note(
        _ kinds: [GroupEvent],
        of name: String,
        at moment: GroupHistory.Moment
    ) {
        lastAge += 1
        // Taken out, since what the dictionary holds as well would be copied by the change.
        var changed = kept.removeValue(forKey: name) ?? Kept(history: GroupHistory(), age: lastAge)
        byteCount -= changed.history.byteCount
        changed.age = lastAge
        changed.history.note(kinds, at: moment)
        byteCount += changed.history.byteCount
        kept[name] = changed
        while kept.count > Self.groupLimit || byteCount > Self.byteLimit { dropOldest() }
    }

    private mutating func dropOldest() {
        guard let oldest = kept.min(by: { $0.value.age < $1.value.age }) else { return }
        byteCount -= oldest.value.history.byteCount
        kept[oldest.key] = nil
        droppedCount += 1
    }
}
