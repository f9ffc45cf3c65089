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
    /// The epoch of the transaction coordinator that wrote the last marker; -1 before the first. Reserved for transactions.
    var coordinatorEpoch: Int32 = -1
    /// The first offset of its open transaction; nil without one. Reserved for transactions.
    var transactionStart: Offset?
}

/// A batch that the leader appended and that is not committed yet.
struct InFlightBatch: Hashable, Sendable {
    var epoch: Int16
    var baseSequence: Int32
    var lastSequence: Int32
    var index: LogIndex
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

    /// The committed part. Entries that are expired may still lie here; every look passes through `entry(_:)`.
    private var committed: [ProducerID: ProducerEntry] = [:]
    /// The overlay, per producer, oldest first.
    private var inFlight: [ProducerID: [InFlightBatch]] = [:]
    /// The overlay in the order of the log.
    private var inFlightOrder: [(index: LogIndex, producer: ProducerID)] = []
    private var inFlightStart = 0

    /// A partition without producers.
    package init(limits: ProducerLimits = .standard) {
        self.limits = limits
    }

    init(limits: ProducerLimits, appliedIndex: LogIndex, appendTime: Timestamp, entries: [(ProducerID, ProducerEntry)]) {
        self.limits = limits
        self.appliedIndex = appliedIndex
        self.appendTime = appendTime
        for (producer, entry) in entries {
            committed[producer] = entry
        }
    }

    /// What is known of each producer that is remembered, by ascending id.
    package var descriptions: [ProducerDescription] {
        committed.filter { !isExpired($0.value) }.sorted { $0.key < $1.key }.map { producer, entry in
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

    /// Batches in the leader's overlay.
    package var inFlightCount: Int {
        inFlightOrder.count - inFlightStart
    }

    /// What the leader does with a batch that it is about to append.
    ///
    /// - Parameter batch: of a producer with an id; batches without one need no check.
    package func check(_ batch: ProducerBatch) -> ProducerVerdict {
        let entry = entry(batch.producer)
        let waiting = inFlight[batch.producer] ?? []
        guard let epoch = waiting.last?.epoch ?? entry?.epoch else {
            return .append  // IDEM-5: of a producer that is not known, any sequence is the first.
        }
        if batch.epoch < epoch {
            return .refused(.invalidProducerEpoch)  // IDEM-2
        }
        if batch.epoch > epoch {
            return batch.baseSequence == 0 ? .append : .refused(.outOfOrderSequenceNumber)  // IDEM-3
        }
        if let original = waiting.last(where: { $0.epoch == epoch && isSame($0.baseSequence, $0.lastSequence, batch) }) {
            return .inFlightDuplicate(of: original.index)
        }
        let retained = entry?.epoch == epoch ? entry?.batches ?? [] : []
        if let original = retained.last(where: { isSame($0.baseSequence, $0.lastSequence, batch) }) {
            return .duplicate(baseOffset: original.baseOffset, timestamp: original.timestamp)  // IDEM-1
        }
        // An epoch without a batch was begun by a transaction's marker; its first batch has sequence 0.
        let last = waiting.last?.lastSequence ?? retained.last?.lastSequence
        let expected = last.map { ProducerSequence.advance($0, by: 1) } ?? 0
        return batch.baseSequence == expected ? .append : .refused(.outOfOrderSequenceNumber)  // IDEM-4
    }

    /// Notes a batch that the leader has just appended, before the next one is checked.
    ///
    /// - Parameter index: its entry; above all noted so far.
    package mutating func noteAppended(_ batch: ProducerBatch, at index: LogIndex) {
        precondition(index > (inFlightOrder.last?.index ?? appliedIndex), "entries are appended in order")
        let waiting = InFlightBatch(
            epoch: batch.epoch,
            baseSequence: batch.baseSequence,
            lastSequence: batch.lastSequence,
            index: index
        )
        inFlight[batch.producer, default: []].append(waiting)
        inFlightOrder.append((index, batch.producer))
    }

    /// Forgets what was appended from this entry on and is not committed: at step-down all of it.
    package mutating func dropUncommitted(from index: LogIndex = .zero) {
        while let last = inFlightOrder.last, inFlightCount > 0, last.index >= index {
            inFlightOrder.removeLast()
            inFlight[last.producer]?.removeLast()
            if inFlight[last.producer]?.isEmpty == true {
                inFlight[last.producer] = nil
            }
        }
        if inFlightCount == 0 {
            inFlightOrder.removeAll(keepingCapacity: true)
            inFlightStart = 0
        }
    }

    /// Applies a committed batch; every replica does, for every batch of a producer with an id.
    ///
    /// It follows the log and refuses nothing: what is committed was checked by the leader that appended it.
    ///
    /// - Parameter baseOffset: the offset of its first record.
    /// - Parameter timestamp: what a duplicate is answered with: the batch's largest timestamp.
    /// - Parameter appendTime: the time in its frame.
    package mutating func apply(
        _ batch: ProducerBatch,
        at index: LogIndex,
        baseOffset: Offset,
        timestamp: Timestamp,
        appendTime: Timestamp
    ) {
        advance(to: index, appendTime: appendTime)
        let retained = RetainedBatch(
            baseSequence: batch.baseSequence,
            lastSequence: batch.lastSequence,
            baseOffset: baseOffset,
            timestamp: timestamp
        )
        guard let known = entry(batch.producer) else {
            makeRoom(for: batch.producer)
            committed[batch.producer] = ProducerEntry(
                epoch: batch.epoch,
                batches: [retained],
                lastIndex: index,
                lastAppendTime: appendTime
            )
            return
        }
        if known.epoch != batch.epoch {
            committed[batch.producer]?.epoch = batch.epoch
            committed[batch.producer]?.batches.removeAll(keepingCapacity: true)
        } else if known.batches.count == Self.windowCount {
            committed[batch.producer]?.batches.removeFirst()
        }
        committed[batch.producer]?.batches.append(retained)
        committed[batch.producer]?.lastIndex = index
        committed[batch.producer]?.lastAppendTime = appendTime
    }

    /// Notes a committed entry of any kind: the replicated clock moves, and the overlay up to it is committed.
    package mutating func advance(to index: LogIndex, appendTime: Timestamp) {
        precondition(index > appliedIndex, "entries are applied once and in order")
        appliedIndex = index
        self.appendTime = max(self.appendTime, appendTime)
        while inFlightCount > 0, inFlightOrder[inFlightStart].index <= index {
            let producer = inFlightOrder[inFlightStart].producer
            inFlightStart += 1
            inFlight[producer]?.removeFirst()
            if inFlight[producer]?.isEmpty == true {
                inFlight[producer] = nil
            }
        }
        if inFlightStart > 1024, inFlightStart * 2 > inFlightOrder.count {
            inFlightOrder.removeFirst(inFlightStart)
            inFlightStart = 0
        }
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

    /// Whether the producer was idle too long (IDEM-7). It depends on nothing but the log, so it does not matter when it is removed.
    private func isExpired(_ entry: ProducerEntry) -> Bool {
        guard entry.transactionStart == nil else { return false }
        let (idle, isTooLong) = appendTime.rawValue.subtractingReportingOverflow(entry.lastAppendTime.rawValue)
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

    private func isSame(_ baseSequence: Int32, _ lastSequence: Int32, _ batch: ProducerBatch) -> Bool {
        baseSequence == batch.baseSequence && lastSequence == batch.lastSequence
    }
}

extension ProducerState {
    /// States the rules that hold after every step; for tests and the simulator.
    package func checkInvariants() {
        let waiting = inFlightOrder[inFlightStart...]
        precondition(zip(waiting, waiting.dropFirst()).allSatisfy { $0.index < $1.index }, "the overlay is in the log's order")
        precondition(waiting.allSatisfy { $0.index > appliedIndex }, "what is applied is not in flight")
        precondition(inFlight.values.reduce(0) { $0 + $1.count } == inFlightCount, "both views of the overlay agree")
        precondition(inFlight.values.allSatisfy { !$0.isEmpty }, "no producer without a batch in the overlay")
        precondition(committed.count <= limits.maximumProducerCount, "the producers are bounded")
        for entry in committed.values {
            precondition(entry.batches.count <= Self.windowCount, "the window is bounded")
            precondition(entry.lastIndex <= appliedIndex, "nothing is known that is not applied")
        }
    }
}
