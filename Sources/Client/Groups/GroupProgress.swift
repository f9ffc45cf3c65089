import FlotillaModel

/// How far the partitions of a member are read, and committed.
///
/// What was handed out counts as read when the application asks for more: until then it may still fail.
struct GroupProgress: Sendable {
    private struct Place {
        /// One past what was handed out.
        var delivered: Offset
        /// One past what the application is done with.
        var read: Offset
        /// What the coordinator has acknowledged.
        var committed: Offset?
        /// How often it has.
        var commitCount = 0
        /// Of which assignment.
        var ticket: Int
    }

    /// A moment in the life of a partition here.
    struct Moment: Hashable, Sendable {
        fileprivate var ticket: Int
        fileprivate var commitCount: Int
    }

    private var places: [NamedPartition: Place] = [:]

    /// Begins partitions; those in `committed` stand where the group has committed.
    mutating func begin(
        _ starts: [NamedPartition: Offset],
        committed: Set<NamedPartition>,
        ticket: Int
    ) {
        for (partition, start) in starts {
            places[partition] = Place(
                delivered: start,
                read: start,
                committed: committed.contains(partition) ? start : nil,
                ticket: ticket
            )
        }
    }

    /// Whether records were fetched under the assignment that holds now.
    func admits(_ records: ConsumedRecords) -> Bool {
        places[records.partition]?.ticket == records.ticket
    }

    /// Records were handed out.
    mutating func deliver(_ records: ConsumedRecords) {
        places[records.partition]?.delivered = records.nextOffset
    }

    /// Reading goes on elsewhere.
    mutating func move(_ partition: NamedPartition, to offset: Offset) {
        places[partition]?.delivered = offset
        places[partition]?.read = offset
    }

    /// The application is done with all it was handed.
    mutating func markRead() {
        for (partition, place) in places { places[partition]?.read = place.delivered }
    }

    /// The coordinator has acknowledged.
    mutating func noteCommitted(_ offsets: [NamedPartition: Offset]) {
        for (partition, offset) in offsets {
            places[partition]?.committed = offset
            places[partition]?.commitCount += 1
        }
    }

    /// Forgets partitions.
    mutating func forget(_ partitions: some Sequence<NamedPartition>) {
        for partition in partitions { places[partition] = nil }
    }

    /// Where reading goes on behind what was handed out.
    var delivered: [NamedPartition: Offset] {
        places.mapValues(\.delivered)
    }

    /// What was read and is not committed; also where reading began, so that the next owner begins there too.
    var uncommitted: [NamedPartition: Offset] {
        places.compactMapValues { $0.read == $0.committed ? nil : $0.read }
    }

    /// How the partitions stand now.
    func moments(of partitions: some Sequence<NamedPartition>) -> [NamedPartition: Moment] {
        var moments: [NamedPartition: Moment] = [:]
        for partition in partitions {
            moments[partition] = places[partition].map {
                Moment(ticket: $0.ticket, commitCount: $0.commitCount)
            }
        }
        return moments
    }

    /// Whether a partition was here all the time since a moment.
    func isKept(_ partition: NamedPartition, since moment: Moment?) -> Bool {
        places[partition]?.ticket == moment?.ticket
    }

    /// Whether a partition was committed since a moment: what was to be committed then must not take that back.
    func isCommitted(_ partition: NamedPartition, since moment: Moment?) -> Bool {
        places[partition]?.commitCount != moment?.commitCount
    }

    /// The part of these offsets that lies beyond what is committed: a late repetition must not take it back.
    func newer(_ offsets: [NamedPartition: Offset]) -> [NamedPartition: Offset] {
        offsets.filter { partition, offset in
            guard let place = places[partition] else { return false }
            return place.committed.map { offset > $0 } ?? true
        }
    }
}
