package import FlotillaEnvironment
package import FlotillaModel

/// What a command decided: the records to append, and the answers for when these are committed.
package struct Decision<Outcome: Sendable>: Sendable {
    /// The records, to be proposed as one entry; empty when nothing changes.
    package var records: [MetadataRecord]
    /// One answer per element of the request, in its order.
    package var outcomes: [Outcome]
    /// Names the decision, for `proposalFailed(_:)`; never reused.
    package var number: UInt64
}

/// The cluster's metadata as a replicated state machine.
///
/// Every broker has one and applies the committed entries of the controller group to it. On the group's leader it also takes commands:
/// it checks them against the committed state plus the leader's own records that are not committed yet (the overlay), and answers with
/// records. The overlay holds a command's records from that moment on, so two commands of one turn cannot both create a topic. The
/// caller proposes each decision as one entry, in the order of the commands, and answers the client when the entry is applied.
///
/// - Source: DESIGN §4 (overlay, dropped at step-down) and §5; KIP-500 for the shape.
package struct Controller: Sendable {
    /// The most partitions that one request may create.
    package static let maximumPartitionCountPerRequest = 10_000
    /// The producer ids in one block.
    ///
    /// - Source: SEMANTICS rule PID-1.
    package static let producerIDBlockCount: Int32 = 1000

    /// The committed state.
    package private(set) var image: MetadataImage

    /// The committed state with the leader's own records that are not committed yet.
    private(set) var proposed: MetadataImage
    /// Those records, by decision, oldest first.
    private var uncommitted: [(number: UInt64, records: [MetadataRecord])] = []
    private var nextNumber: UInt64 = 0
    private var isLeader = false
    /// Chance for ids and placement; it belongs to the leader and is no part of the replicated state.
    var random: SeededRandom

    /// A controller that has applied nothing.
    package init(random: SeededRandom) {
        self.init(image: MetadataImage(), random: random)
    }

    init(image: MetadataImage, random: SeededRandom) {
        self.image = image
        proposed = image
        self.random = random
    }

    /// Whether commands are taken.
    package var isLeading: Bool {
        isLeader
    }

    /// Decisions of this leader that wait for their commit.
    package var uncommittedCount: Int {
        uncommitted.count
    }

    /// Applies a committed entry, all of its records or none.
    ///
    /// - Parameters:
    ///   - records: the entry's records.
    ///   - index: the entry's index; entries come in order, and those without records through `skip(to:)`.
    /// - Throws: `.contradiction`; the state is as before, and the replica must stop: skipping the entry would fork the metadata.
    package mutating func apply(_ records: [MetadataRecord], at index: LogIndex)
        throws(CoordinationError)
    {
        precondition(index > image.appliedIndex, "entries are applied once and in order")
        var next = image
        for record in records {
            do {
                try next.apply(record)
            } catch {
                throw .contradiction(index: index, record: record.name, reason: error.reason)
            }
        }
        next.appliedIndex = index
        image = next
        settle(records)
    }

    /// Notes a committed entry without records, such as the start of a term.
    package mutating func skip(to index: LogIndex) {
        precondition(index > image.appliedIndex, "entries are applied once and in order")
        image.appliedIndex = index
        settle([])
    }

    /// Begins to take commands; call it when the leader has applied the start of its own term, and only then: what an earlier term left
    /// in the log is not in the overlay.
    package mutating func becomeLeader() {
        isLeader = true
        uncommitted = []
        proposed = image
    }

    /// Stops taking commands and drops the overlay; what was proposed may still be committed, and is then applied like anything else.
    package mutating func stepDown() {
        isLeader = false
        uncommitted = []
        proposed = image
    }

    /// Takes a decision off the overlay whose records could not be proposed, and those after it.
    ///
    /// Those after it may rest on it. The ones before it stay, since they are on their way. A decision that is no longer there changes
    /// nothing.
    ///
    /// - Parameter number: the decision's; the caller fails those after it too, in any order.
    package mutating func proposalFailed(_ number: UInt64) {
        guard let place = uncommitted.firstIndex(where: { $0.number == number }) else { return }
        uncommitted.removeSubrange(place...)
        var rest = Draft(image: image, random: random)
        for decision in uncommitted {
            for record in decision.records {
                rest.add(record)
            }
        }
        proposed = rest.image
    }

    /// States the rules that hold after every step; for tests and the simulator.
    package func checkInvariants() {
        image.checkInvariants()
        proposed.checkInvariants()
        precondition(isLeader || uncommitted.isEmpty, "only a leader has records of its own")
        precondition(
            !uncommitted.isEmpty || proposed == image,
            "without own records the overlay adds nothing"
        )
    }

    /// Takes the committed records off the overlay.
    private mutating func settle(_ records: [MetadataRecord]) {
        if isLeader, !records.isEmpty {
            precondition(
                uncommitted.first?.records == records,
                "what commits under a leader is what it proposed, in that order"
            )
            uncommitted.removeFirst()
        }
        if uncommitted.isEmpty {
            proposed = image
        }
    }

    // MARK: Commands

    /// Runs a command against the overlay; its records stay there unless it only validates.
    ///
    /// - Throws: `NOT_CONTROLLER` when this broker does not lead the controller group.
    mutating func decide<Outcome>(
        validateOnly: Bool = false,
        _ command: (inout Draft) throws(Refusal) -> [Outcome]
    ) throws(Refusal) -> Decision<Outcome> {
        guard isLeader else {
            throw Refusal(
                .notController,
                "this broker does not lead the controller group now; ask again"
            )
        }
        var draft = Draft(image: proposed, random: random)
        let outcomes = try command(&draft)
        random = draft.random
        nextNumber += 1
        let decision = Decision(
            records: validateOnly ? [] : draft.records,
            outcomes: outcomes,
            number: nextNumber
        )
        if !decision.records.isEmpty {
            proposed = draft.image
            uncommitted.append((nextNumber, decision.records))
        }
        return decision
    }
}

/// A command at work: the overlay as the command changes it, and the records so far.
struct Draft {
    /// The overlay with the records so far.
    private(set) var image: MetadataImage
    /// The records so far.
    private(set) var records: [MetadataRecord] = []
    /// Chance for ids and placement.
    var random: SeededRandom

    init(image: MetadataImage, random: SeededRandom) {
        self.image = image
        self.random = random
    }

    /// Adds a record that the command has checked.
    mutating func add(_ record: MetadataRecord) {
        do {
            try image.apply(record)
        } catch {
            preconditionFailure(
                "a command proposes only what can be applied: \(record.name), \(error.reason)"
            )
        }
        records.append(record)
    }
}
