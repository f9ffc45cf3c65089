import FlotillaModel

/// The durable writes that a member has asked for and not yet heard of, in the order of their
/// tickets.
///
/// - Source: the ABA hazard is described at `newStorageAppendRespMsg` in etcd's `rawnode.go`; a
///   late completion that confirmed entries of a replaced suffix was rabbitmq/ra issue 516.
struct PendingWrites: Hashable, Sendable {
    private enum Content: Hashable, Sendable {
        case hardState
        case log(ClosedRange<LogIndex>, generation: UInt64)
    }

    private struct Write: Hashable, Sendable {
        var ticket: Ticket
        var content: Content
    }

    private var writes: [Write] = []
    private var lastNumber: UInt64 = 0
    /// How often the log has lost a suffix since the member started.
    private(set) var generation: UInt64 = 0

    /// Whether nothing is on its way to the disk.
    var isEmpty: Bool {
        writes.isEmpty
    }

    /// The ticket of the newest hard state that is not durable yet.
    var hardStateTicket: Ticket? {
        writes.last { $0.content == .hardState }?.ticket
    }

    mutating func addHardState(term: Term) -> Ticket {
        add(.hardState, term: term)
    }

    /// A write of entries, after which the log is durable up to the last of them.
    mutating func addLog(_ range: ClosedRange<LogIndex>, term: Term) -> Ticket {
        add(.log(range, generation: generation), term: term)
    }

    /// The first entry of this generation whose write is not complete.
    var firstPendingIndex: LogIndex? {
        for write in writes {
            if case .log(let range, generation) = write.content { return range.lowerBound }
        }
        return nil
    }

    private mutating func add(_ content: Content, term: Term) -> Ticket {
        lastNumber += 1
        let ticket = Ticket(number: lastNumber, term: term, generation: generation)
        writes.append(Write(ticket: ticket, content: content))
        return ticket
    }

    /// A suffix is replaced: completions of the writes so far say nothing about the log from now
    /// on.
    mutating func beginGeneration() {
        generation += 1
    }

    /// The first write of this generation that makes the log durable up to `index`.
    func ticket(covering index: LogIndex) -> Ticket? {
        for write in writes {
            if case .log(let range, generation) = write.content, range.upperBound >= index {
                return write.ticket
            }
        }
        return nil
    }

    /// Completes `ticket` and every write before it.
    ///
    /// - Returns: up to where the log is durable now by the writes of this generation, or `nil` if
    ///   none of them was among the completed.
    mutating func complete(_ ticket: Ticket) -> LogIndex? {
        precondition(ticket.number <= lastNumber, "only a write that was asked for completes")
        var durableIndex: LogIndex?
        var completedCount = 0
        for write in writes {
            guard write.ticket <= ticket else {
                break
            }
            if case .log(let range, generation) = write.content {
                durableIndex = range.upperBound
            }
            completedCount += 1
        }
        writes.removeFirst(completedCount)
        return durableIndex
    }
}
