import FlotillaEnvironment
import HeapModule

/// Things to do at a time: request deadlines, retention, ticks.
///
/// The driver asks for the next deadline and wakes us.
///
/// A cancelled timer leaves its entry in the heap until its time comes; the action is gone at once.
struct TimerQueue {
    /// Names a timer, so that it can be cancelled.
    struct ID: Hashable, Comparable {
        fileprivate var sequence: UInt64

        static func < (left: ID, right: ID) -> Bool {
            left.sequence < right.sequence
        }
    }

    private struct Entry: Comparable {
        var deadline: Instant
        var id: ID

        static func < (left: Entry, right: Entry) -> Bool {
            (left.deadline, left.id) < (right.deadline, right.id)
        }
    }

    private var heap = Heap<Entry>()
    private var actions: [ID: () -> Void] = [:]
    private var nextSequence: UInt64 = 0

    /// Plans `action` for `deadline`; equal deadlines fire in the order of planning.
    mutating func schedule(at deadline: Instant, _ action: @escaping () -> Void) -> ID {
        let id = ID(sequence: nextSequence)
        nextSequence += 1
        actions[id] = action
        heap.insert(Entry(deadline: deadline, id: id))
        return id
    }

    /// Forgets a timer; one that has fired is fine.
    mutating func cancel(_ id: ID) {
        actions[id] = nil
    }

    /// When the next timer is due, if there is one.
    var nextDeadline: Instant? {
        mutating get {
            while let first = heap.min {
                if actions[first.id] != nil { return first.deadline }
                heap.removeMin()
            }
            return nil
        }
    }

    /// Takes one action that is due, the earliest first.
    mutating func takeDue(at now: Instant) -> (() -> Void)? {
        while let first = heap.min, first.deadline <= now {
            heap.removeMin()
            if let action = actions.removeValue(forKey: first.id) { return action }
        }
        return nil
    }
}
