package import FlotillaModel

/// A batch that a producer's window remembers.
struct RetainedBatch: Hashable, Sendable {
    var baseSequence: Int32
    var lastSequence: Int32
    var baseOffset: Offset
    var timestamp: Timestamp
}

/// What is committed of one producer.
struct ProducerEntry: Hashable, Sendable {
    /// The epoch of its last batch.
    var epoch: Int16
    /// Its last batches in this epoch, oldest first, at most `ProducerState.windowCount`.
    var batches: [RetainedBatch]
    /// The entry of its last batch; decides who was idle longest.
    var lastIndex: LogIndex
    /// When that entry was appended, by its leader's clock.
    var lastAppendTime: Timestamp
    /// The epoch of the transaction coordinator that wrote the last marker; -1 before the first.
    ///
    /// Reserved for transactions.
    var coordinatorEpoch: Int32 = -1
    /// The first offset of its open transaction; nil without one.
    ///
    /// Reserved for transactions.
    var transactionStart: Offset?

    /// Follows a committed batch; a new epoch forgets the batches of the old one.
    mutating func append(
        _ batch: RetainedBatch,
        epoch: Int16,
        at index: LogIndex,
        appendTime: Timestamp
    ) {
        if self.epoch != epoch {
            self.epoch = epoch
            batches.removeAll(keepingCapacity: true)
        } else if batches.count == ProducerState.windowCount {
            batches.removeFirst()
        }
        batches.append(batch)
        lastIndex = index
        lastAppendTime = appendTime
    }
}

/// A batch that the leader appended and that is not committed yet.
struct InFlightBatch: Hashable, Sendable {
    var note: InFlightNote
    var epoch: Int16
    var baseSequence: Int32
    var lastSequence: Int32
    /// Its entry's, or a lower one, see `ProducerState.noteAppended(_:at:)`.
    var index: LogIndex
}

/// Names one batch in the leader's overlay; a batch that is sent and noted again has another note.
package struct InFlightNote: Hashable, Sendable {
    var producer: ProducerID
    var number: UInt64
}

/// What tools are told of a producer.
package struct ProducerDescription: Hashable, Sendable {
    /// The producer.
    package var producer: ProducerID
    /// The epoch of its last batch.
    package var epoch: Int16
    /// Its last record's sequence number; -1 when none is remembered.
    package var lastSequence: Int32
    /// Its last batch's timestamp.
    package var lastTimestamp: Timestamp
    /// The epoch of the transaction coordinator that wrote the last marker; -1 before the first.
    package var coordinatorEpoch: Int32
    /// The first offset of its open transaction; nil without one.
    package var transactionStart: Offset?
}

/// What a partition knows of its idempotent producers, so that a retry is answered and not appended again.
///
/// Two parts. The committed one is replicated: every replica applies every committed batch, so it is the same after a change of leader
/// and a restart, and it moves with nothing but the log; its clock is the entries' append time. The other is the leader's overlay: the
/// batches that it appended and that are not committed yet, since the next one of a pipeline arrives before the first is committed, and
/// since a retry of a batch in flight must wait for the original instead of being appended or refused.
///
/// The leader checks only after it has applied the start of its own term: before that, the log may hold batches it does not know.
///
/// - Source: SEMANTICS rules IDEM-1 to IDEM-7; research, section 9, bug 17 (a retry in flight became a duplicate).
package struct ProducerState: Sendable {
    /// How many of a producer's last batches are remembered: clients have at most five requests in flight.
    package static let windowCount = 5

    /// How much is remembered.
    package let limits: ProducerLimits
    /// The replicated clock: the latest append time that was applied.
    package private(set) var appendTime = Timestamp(Int64.min)
    /// The entry after which this is the state; 0 before the first.
    package private(set) var appliedIndex = LogIndex.zero

    /// The committed part.
    ///
    /// Entries that are expired may still lie here; every look passes through `entry(_:)`.
    private var committed: [ProducerID: ProducerEntry] = [:]
    /// The overlay, per producer, oldest first; no producer without a batch.
    private var inFlight: [ProducerID: [InFlightBatch]] = [:]
    private var nextNoteNumber: UInt64 = 0
    /// Batches in the leader's overlay.
    package private(set) var inFlightCount = 0

    /// A partition without producers.
    package init(limits: ProducerLimits = .standard) {
        self.limits = limits
    }

    init(
        limits: ProducerLimits,
        appliedIndex: LogIndex,
        appendTime: Timestamp,
        entries: [(ProducerID, ProducerEntry)]
    ) {
        self.limits = limits
        self.appliedIndex = appliedIndex
        self.appendTime = appendTime
        for (producer, entry) in entries {
            committed[producer] = entry
        }
    }

    /// What is known of each producer that is remembered, by ascending id.
    package var descriptions: [ProducerDescription] {
        committed.filter { !isExpired($0.value) }.sorted { $0.key < $1.key }.map {
            producer,
            entry in
            ProducerDescription(
                producer: producer,
                epoch: entry.epoch,
                lastSequence: entry.batches.last?.lastSequence ?? -1,
                lastTimestamp: entry.batches.last?.timestamp ?? .none,
                coordinatorEpoch: entry.coordinatorEpoch,
                transactionStart: entry.transactionStart
            )
        }
    }

    /// The producers that are remembered.
    package var producerCount: Int {
        committed.values.count { !isExpired($0) }
    }

    /// What the leader does with a batch that it is about to append.
    ///
    /// - Parameter batch: of a producer with an id; batches without one need no check.
    /// - Returns: what to do; the state does not change.
    package func check(_ batch: ProducerBatch) -> ProducerVerdict {
        let entry = entry(batch.producer)
        let waiting = inFlight[batch.producer] ?? []
        guard let epoch = waiting.last?.epoch ?? entry?.epoch else {
            // IDEM-5: of a producer that is not known, any sequence is the first.
            return .append
        }
        if batch.epoch < epoch {
            // IDEM-2
            return .refused(.invalidProducerEpoch)
        }
        if batch.epoch > epoch {
            // IDEM-3
            return batch.baseSequence == 0 ? .append : .refused(.outOfOrderSequenceNumber)
        }
        if let original = waiting.last(where: {
            $0.epoch == epoch && isSame($0.baseSequence, $0.lastSequence, batch)
        }) {
            return .inFlightDuplicate(of: original.index)
        }
        let retained = entry?.epoch == epoch ? entry?.batches ?? [] : []
        if let original = retained.last(where: { isSame($0.baseSequence, $0.lastSequence, batch) })
        {
            // IDEM-1
            return .duplicate(baseOffset: original.baseOffset, timestamp: original.timestamp)
        }
        // An epoch without a batch was begun by a transaction's marker; its first batch has sequence 0.
        let last = waiting.last?.lastSequence ?? retained.last?.lastSequence
        let expected = last.map { ProducerSequence.advance($0, by: 1) } ?? 0
        // IDEM-4
        return batch.baseSequence == expected ? .append : .refused(.outOfOrderSequenceNumber)
    }

    /// Whether a batch is certainly the one that its producer sends next, or one that is here already.
    ///
    /// - Parameters:
    ///   - batch: of a producer with an id.
    ///   - verdict: what `check(_:)` says of it.
    /// - Returns: false where a batch of the same producer may be missing before it.
    package func continues(_ batch: ProducerBatch, _ verdict: ProducerVerdict) -> Bool {
        switch verdict {
        case .append: inFlight[batch.producer] != nil || entry(batch.producer) != nil
        case .duplicate, .inFlightDuplicate: true
        case .refused(let error): error != .outOfOrderSequenceNumber
        }
    }

    /// Notes a batch that the leader has just appended, before the next one is checked.
    ///
    /// - Parameters:
    ///   - batch: what its header says.
    ///   - index: its entry, which retries wait for, or one before it: Raft may yet put an entry of its own in between. Above those of the
    ///     producer's earlier batches.
    /// - Returns: its name, for `withdraw(_:)`.
    @discardableResult
    package mutating func noteAppended(_ batch: ProducerBatch, at index: LogIndex) -> InFlightNote {
        let last = inFlight[batch.producer]?.last?.index ?? appliedIndex
        precondition(index > last, "a producer's batches are appended in order")
        let note = InFlightNote(producer: batch.producer, number: nextNoteNumber)
        nextNoteNumber += 1
        let waiting = InFlightBatch(
            note: note,
            epoch: batch.epoch,
            baseSequence: batch.baseSequence,
            lastSequence: batch.lastSequence,
            index: index
        )
        inFlight[batch.producer, default: []].append(waiting)
        inFlightCount += 1
        return note
    }

    /// Forgets one batch that was noted and then could not be appended; one that is forgotten already changes nothing.
    ///
    /// It names the batch and not its index: by the time that the refusal arrives, another batch may have been noted under that index.
    package mutating func withdraw(_ note: InFlightNote) {
        removeInFlight(of: note.producer) { $0.note == note }
    }

    /// Forgets what was appended from this entry on and is not committed: at step-down all of it.
    package mutating func dropUncommitted(from index: LogIndex = .zero) {
        // The order does not matter: each producer is looked at alone.
        for producer in Array(inFlight.keys) {
            removeInFlight(of: producer) { $0.index >= index }
        }
    }

    private mutating func removeInFlight(
        of producer: ProducerID,
        where isGone: (InFlightBatch) -> Bool
    ) {
        guard let waiting = inFlight[producer] else { return }
        let kept = waiting.filter { !isGone($0) }
        inFlightCount -= waiting.count - kept.count
        inFlight[producer] = kept.isEmpty ? nil : kept
    }

    /// Applies a committed batch; every replica does, for every batch of a producer with an id.
    ///
    /// It follows the log and refuses nothing: what is committed was checked by the leader that appended it.
    ///
    /// - Parameters:
    ///   - batch: what its header says.
    ///   - index: its entry.
    ///   - baseOffset: the offset of its first record.
    ///   - timestamp: what a duplicate is answered with: the batch's largest timestamp.
    ///   - appendTime: the time in its frame.
    package mutating func apply(
        _ batch: ProducerBatch,
        at index: LogIndex,
        baseOffset: Offset,
        timestamp: Timestamp,
        appendTime: Timestamp
    ) {
        advance(to: index, appendTime: appendTime)
        settle(batch, at: index)
        let retained = RetainedBatch(
            baseSequence: batch.baseSequence,
            lastSequence: batch.lastSequence,
            baseOffset: baseOffset,
            timestamp: timestamp
        )
        if entry(batch.producer) == nil {
            makeRoom(for: batch.producer)
            committed[batch.producer] = ProducerEntry(
                epoch: batch.epoch,
                batches: [],
                lastIndex: index,
                lastAppendTime: appendTime
            )
        }
        committed[batch.producer]?.append(
            retained,
            epoch: batch.epoch,
            at: index,
            appendTime: appendTime
        )
    }

    /// Notes a committed entry of another kind, or of no producer: the replicated clock moves.
    package mutating func advance(to index: LogIndex, appendTime: Timestamp) {
        precondition(index > appliedIndex, "entries are applied once and in order")
        appliedIndex = index
        self.appendTime = max(self.appendTime, appendTime)
    }

    /// Takes a committed batch off the overlay.
    ///
    /// What it is counts, not under which index it was noted: a batch must never be unknown
    /// between the overlay and the committed part, or its retry would be appended.
    private mutating func settle(_ batch: ProducerBatch, at index: LogIndex) {
        guard let waiting = inFlight[batch.producer],
            let place = waiting.firstIndex(where: {
                $0.epoch == batch.epoch && isSame($0.baseSequence, $0.lastSequence, batch)
            })
        else { return }
        assert(
            waiting[place].index <= index,
            "no batch comes before the index that it is noted under"
        )
        inFlightCount -= place + 1
        inFlight[batch.producer] = place + 1 == waiting.count ? nil : Array(waiting[(place + 1)...])
    }

    /// The producers that are remembered, by id.
    var entries: [(producer: ProducerID, entry: ProducerEntry)] {
        committed.filter { !isExpired($0.value) }
            .map { (producer: $0.key, entry: $0.value) }
            .sorted { $0.producer < $1.producer }
    }

    private func entry(_ producer: ProducerID) -> ProducerEntry? {
        committed[producer].flatMap { isExpired($0) ? nil : $0 }
    }

    /// Whether the producer was idle too long (IDEM-7).
    ///
    /// It depends on nothing but the log, so it does not matter when it is removed.
    private func isExpired(_ entry: ProducerEntry) -> Bool {
        guard entry.transactionStart == nil else { return false }
        let (idle, isTooLong) = appendTime.rawValue.subtractingReportingOverflow(
            entry.lastAppendTime.rawValue
        )
        return isTooLong || idle > limits.expirationMillis
    }

    /// Makes room for one more: first expired producers go, then an eighth of the rest, those idle longest.
    ///
    /// Which producers remain depends only on the log: the expired ones count for nothing, and the others are ordered by their last entry.
    private mutating func makeRoom(for producer: ProducerID) {
        committed[producer] = nil
        guard committed.count >= limits.maximumProducerCount else { return }
        committed = committed.filter { !isExpired($0.value) }
        guard committed.count >= limits.maximumProducerCount else { return }
        let evictable = committed.filter { $0.value.transactionStart == nil }
            .map { (producer: $0.key, lastIndex: $0.value.lastIndex) }
            .sorted { $0.lastIndex < $1.lastIndex }
        for victim in evictable.prefix(max(1, limits.maximumProducerCount / 8)) {
            committed[victim.producer] = nil
        }
    }

    private func isSame(_ baseSequence: Int32, _ lastSequence: Int32, _ batch: ProducerBatch)
        -> Bool
    {
        baseSequence == batch.baseSequence && lastSequence == batch.lastSequence
    }
}

extension ProducerState {
    /// States the rules that hold after every step; for tests and the simulator.
    package func checkInvariants() {
        let waiting = inFlight.values
        precondition(waiting.reduce(0) { $0 + $1.count } == inFlightCount, "the overlay is counted")
        precondition(
            waiting.allSatisfy { !$0.isEmpty },
            "no producer without a batch in the overlay"
        )
        for batches in waiting {
            precondition(
                zip(batches, batches.dropFirst()).allSatisfy { $0.index < $1.index },
                "the overlay is in order"
            )
        }
        precondition(committed.count <= limits.maximumProducerCount, "the producers are bounded")
        for entry in committed.values {
            precondition(entry.batches.count <= Self.windowCount, "the window is bounded")
            precondition(entry.lastIndex <= appliedIndex, "nothing is known that is not applied")
        }
    }
}
