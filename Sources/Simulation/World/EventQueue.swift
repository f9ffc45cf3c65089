import FlotillaEnvironment
import HeapModule

/// A broker's shard in one of the broker's lives; what was meant for an earlier life is dropped.
struct ShardPlace: Hashable {
    var broker: Int
    var shard: Int
    var life: Int
}

extension ShardPlace: CustomStringConvertible {
    /// Brokers by their ids, which count from 1; shards from 0, as in a broker's own log.
    var description: String { "broker \(broker + 1), shard \(shard) in life \(life)" }
}

/// What is going to happen in the simulated world.
enum Event {
    /// The next message of one sender's mailbox lane reaches a shard.
    case mail(ShardPlace, lane: Int)
    /// The inputs at hand are in.
    case turnEnd(ShardPlace)
    /// A shard wanted to be woken.
    case timer(ShardPlace, deadline: Instant)
    /// A job for another thread is done.
    case work(ShardPlace, number: Int)
    /// The journal's round is durable.
    case round(broker: Int, life: Int)
    /// The next frame of a connection between brokers arrives.
    case frame(link: Int, generation: Int)
    /// A connection between brokers is tried.
    case dial(link: Int, count: Int)
    /// The far end of a connection between brokers learns that it ended.
    case hangUp(link: Int, generation: Int)
    /// The next request of a client arrives.
    case request(connection: Int)
    /// The next bytes for a client arrive.
    case answer(connection: Int)
    /// Something else: a fault, a step of a workload, a check.
    case action(Action)
}

/// A planned step that has a name in the trace.
final class Action {
    let name: String
    let body: () -> Void

    init(_ name: String, _ body: @escaping () -> Void) {
        self.name = name
        self.body = body
    }
}

/// Events by time; those of one instant in the order in which they were planned.
struct EventQueue {
    private struct Entry: Comparable {
        var time: Instant
        var number: UInt64
        var event: Event

        static func < (left: Entry, right: Entry) -> Bool {
            left.time == right.time ? left.number < right.number : left.time < right.time
        }

        static func == (left: Entry, right: Entry) -> Bool { left.number == right.number }
    }

    private var heap = Heap<Entry>()
    private var nextNumber: UInt64 = 0

    /// When the next event is due.
    var nextTime: Instant? { heap.min?.time }

    mutating func add(_ event: Event, at time: Instant) {
        heap.insert(Entry(time: time, number: nextNumber, event: event))
        nextNumber += 1
    }

    mutating func popFirst() -> (time: Instant, event: Event)? {
        heap.popMin().map { ($0.time, $0.event) }
    }
}
