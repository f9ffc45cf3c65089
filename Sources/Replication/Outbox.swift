import DequeModule
import FlotillaEnvironment
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

    /// Requests of one member that have to wait, for their entries or for another lane; they leave in their order.
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
        /// Whether the host lets its entries be read though they have left memory.
        var isGranted = false
    }

    /// What a member was sent last, and on which of the connections to its broker.
    private struct Route {
        var target: GroupMember
        var lane: PeerLane
        var lastIndex: LogIndex
    }

    private var held: [Held] = []
    private var lanes: [Lane] = []
    private var routes: [Route] = []
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

    /// The members whose requests wait for something other than their entries.
    var heldTargets: [GroupMember] { lanes.filter { !$0.isLoading }.map(\.target) }

    // MARK: Routes

    /// Whether a request sends again what was sent before: then all of that is taken as lost.
    func isRepeat(_ request: AppendRequest, to target: GroupMember) -> Bool {
        let first = request.range.lowerBound
        if let last = self[target]?.waiting.last, first < last.request.range.upperBound {
            return true
        }
        return routes.contains { $0.target == target && first <= $0.lastIndex }
    }

    /// Whether entries for a member may leave on this lane.
    func mayTake(_ lane: PeerLane, to target: GroupMember, matchIndex: LogIndex) -> Bool {
        guard let route = routes.first(where: { $0.target == target }) else { return true }
        return route.lane == lane || matchIndex >= route.lastIndex
    }

    /// Entries up to an index left on this lane.
    mutating func noteSent(_ index: LogIndex, on lane: PeerLane, to target: GroupMember) {
        let route = Route(target: target, lane: lane, lastIndex: index)
        if let place = routes.firstIndex(where: { $0.target == target }) {
            routes[place] = route
        } else {
            routes.append(route)
        }
    }

    /// Forgets what a member was sent, and what waited behind that.
    mutating func forgetRoute(to target: GroupMember) {
        routes.removeAll { $0.target == target }
        // Who loads entries looks by itself what still stands.
        lanes.removeAll { $0.target == target && !$0.isLoading }
    }

    /// The same for all members: who leads no longer sends no entries.
    mutating func forgetRoutes() {
        routes.removeAll()
        lanes.removeAll { !$0.isLoading }
    }

    mutating func removeAll() {
        held.removeAll()
        lanes.removeAll()
        routes.removeAll()
    }
}
