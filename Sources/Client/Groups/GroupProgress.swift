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
        /// Which of the calls that was; they are numbered in their order.
        var commitNumber = 0
        /// Of which assignment.
        var ticket: Int
    }

    private var places: [NamedPartition: Place] = [:]
    private var lastCommitNumber = 0

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

    /// The number of another call that commits.
    mutating func drawCommitNumber() -> Int {
        lastCommitNumber += 1
        return lastCommitNumber
    }

    /// The coordinator has acknowledged what a call commits.
    mutating func noteCommitted(_ offsets: [NamedPartition: Offset], by number: Int) {
        for (partition, offset) in offsets {
            places[partition]?.committed = offset
            places[partition]?.commitNumber = number
        }
    }

    /// Whether a later call has committed: to send an earlier one again would take that back.
    func isOvertaken(_ partition: NamedPartition, _ number: Int) -> Bool {
        places[partition].map { $0.commitNumber > number } ?? false
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

    /// The assignment under which each partition is here.
    func tickets(of partitions: some Sequence<NamedPartition>) -> [NamedPartition: Int] {
        var tickets: [NamedPartition: Int] = [:]
        for partition in partitions { tickets[partition] = places[partition]?.ticket }
        return tickets
    }

    /// The part of these offsets that lies beyond what is committed: a late repetition must not take it back.
    func newer(_ offsets: [NamedPartition: Offset]) -> [NamedPartition: Offset] {
        offsets.filter { partition, offset in
            guard let place = places[partition] else { return false }
            return place.committed.map { offset > $0 } ?? true
        }
    }
}
