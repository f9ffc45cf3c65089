import FlotillaModel

/// A commit that somebody wants.
struct CommitWish: Hashable, Sendable {
    var offset: Offset
    /// Which call wants it: those that commit and those that seek are numbered in their order.
    var number: Int
    /// The assignment under which the partition was here: to another owner's progress it means nothing.
    var ticket: Int
    /// Up to here it speaks for what was read, as the application has named the offset; nil for a commit of what was read.
    var covers: Offset?
}

/// How far the partitions of a member are read, and committed.
///
/// What was handed out counts as read when the application asks for more: until then it may still fail.
///
/// The last word counts. What is read beyond a commit replaces it, and so does a seek, in either direction; an offset that
/// the application names is not replaced by what was read before, not even while it is on its way.
struct GroupProgress: Sendable {
    private struct Place {
        /// One past what was handed out.
        var delivered: Offset
        /// One past what the application is done with.
        var read: Offset
        /// What the coordinator has acknowledged last, of the calls in their order.
        var committed: CommitWish?
        /// What is on its way to the coordinator, in the order of the calls.
        var sent: [CommitWish] = []
        /// The number of the last call that went on elsewhere.
        var moveNumber = 0
        /// Of which assignment.
        var ticket: Int

        /// What was read, where it is to be committed by itself; `queued` will be sent.
        func due(besides queued: CommitWish?) -> Offset? {
            let underway = sent + (queued.map { [$0] } ?? [])
            let named = (underway + (committed.map { [$0] } ?? []))
                .filter { $0.covers != nil && $0.number > moveNumber }
                .max { $0.number < $1.number }
            if let covers = named?.covers { return read > covers ? read : nil }
            // What is on its way may fail, so it settles nothing.
            let isSettled =
                committed?.offset == read && underway.allSatisfy { $0.offset == read }
            return isSettled ? nil : read
        }
    }

    private var places: [NamedPartition: Place] = [:]
    private var lastNumber = 0

    /// Begins partitions; those in `committed` stand where the group has committed.
    mutating func begin(
        _ starts: [NamedPartition: Offset],
        committed: Set<NamedPartition>,
        ticket: Int
    ) {
        for (partition, start) in starts {
            let isCommitted = committed.contains(partition)
            places[partition] = Place(
                delivered: start,
                read: start,
                committed: isCommitted ? CommitWish(offset: start, number: 0, ticket: ticket) : nil,
                ticket: ticket
            )
        }
    }

    /// Forgets partitions.
    mutating func forget(_ partitions: some Sequence<NamedPartition>) {
        for partition in partitions { places[partition] = nil }
    }

    // MARK: Reading

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
        lastNumber += 1
        places[partition]?.delivered = offset
        places[partition]?.read = offset
        places[partition]?.moveNumber = lastNumber
    }

    /// The application is done with all it was handed.
    mutating func markRead() {
        for (partition, place) in places { places[partition]?.read = place.delivered }
    }

    /// Where reading goes on behind what was handed out.
    var delivered: [NamedPartition: Offset] {
        places.mapValues(\.delivered)
    }

    /// The assignment under which a partition is here; nil where it is not.
    func ticket(of partition: NamedPartition) -> Int? {
        places[partition]?.ticket
    }

    // MARK: Committing

    /// Wants offsets committed that the application has named; partitions that are not here are left out.
    mutating func want(_ offsets: [NamedPartition: Offset]) -> [NamedPartition: CommitWish] {
        lastNumber += 1
        var wishes: [NamedPartition: CommitWish] = [:]
        for (partition, offset) in offsets {
            guard let place = places[partition] else { continue }
            wishes[partition] = CommitWish(
                offset: offset,
                number: lastNumber,
                ticket: place.ticket,
                covers: Swift.max(offset, place.read)
            )
        }
        return wishes
    }

    /// Wants committed what was read; also where reading began, so that the next owner begins there too.
    ///
    /// `queued`: what the application has named, and is not sent yet.
    mutating func wantRead(
        besides queued: [NamedPartition: CommitWish] = [:]
    ) -> [NamedPartition: CommitWish] {
        lastNumber += 1
        var wishes: [NamedPartition: CommitWish] = [:]
        for (partition, place) in places {
            guard let offset = place.due(besides: queued[partition]) else { continue }
            wishes[partition] = CommitWish(offset: offset, number: lastNumber, ticket: place.ticket)
        }
        return wishes
    }

    /// Wishes are on their way, until they are acknowledged or given up.
    mutating func send(_ wishes: [NamedPartition: CommitWish]) {
        for (partition, wish) in wishes where isHere(partition, wish) {
            places[partition]?.sent.removeAll { $0.number == wish.number }
            places[partition]?.sent.append(wish)
            places[partition]?.sent.sort { $0.number < $1.number }
        }
    }

    /// Nobody sends these wishes again.
    mutating func giveUp(_ wishes: [NamedPartition: CommitWish]) {
        for (partition, wish) in wishes where isHere(partition, wish) {
            places[partition]?.sent.removeAll { $0.number == wish.number }
        }
    }

    /// The coordinator has taken a wish.
    mutating func noteCommitted(_ partition: NamedPartition, _ wish: CommitWish) {
        guard isHere(partition, wish), !isOvertaken(partition, wish) else { return }
        places[partition]?.committed = wish
        places[partition]?.sent.removeAll { $0.number <= wish.number }
    }

    /// Whether the partition is still here under the assignment of which the wish is.
    func isHere(_ partition: NamedPartition, _ wish: CommitWish) -> Bool {
        places[partition]?.ticket == wish.ticket
    }

    /// Whether to send a wish again would take something back: a later call has committed, or what was read is read anew.
    func isOvertaken(_ partition: NamedPartition, _ wish: CommitWish) -> Bool {
        guard let place = places[partition] else { return false }
        if wish.covers == nil, wish.number < place.moveNumber { return true }
        return place.committed.map { $0.number > wish.number } ?? false
    }

    /// Whether a later call is on its way: until it is decided, to send an earlier one again could take it back.
    func isContested(_ partition: NamedPartition, _ wish: CommitWish) -> Bool {
        places[partition]?.sent.contains { $0.number > wish.number } ?? false
    }
}
