import DequeModule
import FlotillaModel
import FlotillaRaft
import FlotillaRecords

/// What a replica has to say and cannot send yet.
struct Outbox {
    /// A message that rests on a write.
    struct Held {
        var ticket: Ticket
        var message: Message
        var target: GroupMember
    }

    /// Requests of one member whose entries have to be read first; they leave in their order.
    struct Lane {
        var target: GroupMember
        var waiting = Deque<Waiting>()
        /// Whether the entries of the first one are being loaded.
        var isLoading = false
    }

    /// A request, and those of its entries that are in memory.
    struct Waiting {
        var request: AppendRequest
        var entries: [LogEntry] = []
    }

    private var held: [Held] = []
    private var lanes: [Lane] = []
    /// Writes up to this number are durable.
    private var durableNumber: UInt64 = 0

    /// Whether a message that rests on `ticket` may leave.
    func isDurable(_ ticket: Ticket?) -> Bool {
        ticket.map { $0.number <= durableNumber } ?? true
    }

    mutating func hold(_ message: Message, to target: GroupMember, until ticket: Ticket) {
        held.append(Held(ticket: ticket, message: message, target: target))
    }

    /// The messages that may leave now that `ticket` is durable, in the order in which they came.
    mutating func release(through ticket: Ticket) -> [Held] {
        durableNumber = max(durableNumber, ticket.number)
        guard held.contains(where: { $0.ticket.number <= durableNumber }) else { return [] }
        let released = held.filter { $0.ticket.number <= durableNumber }
        held.removeAll { $0.ticket.number <= durableNumber }
        return released
    }

    /// Requests of one member that wait for their entries; nil when none does.
    subscript(target: GroupMember) -> Lane? {
        get { lanes.first { $0.target == target } }
        set {
            let place = lanes.firstIndex { $0.target == target }
            switch (place, newValue) {
            case (let place?, let lane?): lanes[place] = lane
            case (let place?, nil): lanes.remove(at: place)
            case (nil, let lane?): lanes.append(lane)
            case (nil, nil): break
            }
        }
    }

    mutating func removeAll() {
        held.removeAll()
        lanes.removeAll()
    }
}
