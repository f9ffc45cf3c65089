import FlotillaModel

/// The append requests that are on their way to one follower, oldest first.
package struct SendWindow: Hashable, Sendable {
    private struct Sent: Hashable, Sendable {
        var lastIndex: LogIndex
        var byteCount: Int
    }

    private var sent: [Sent] = []
    /// The bytes of their entries.
    package private(set) var byteCount = 0

    /// How many requests are unanswered.
    package var count: Int {
        sent.count
    }

    /// Whether everything sent was answered.
    package var isEmpty: Bool {
        sent.isEmpty
    }

    /// A request with entries up to `lastIndex` leaves.
    mutating func add(lastIndex: LogIndex, byteCount: Int) {
        sent.append(Sent(lastIndex: lastIndex, byteCount: byteCount))
        self.byteCount += byteCount
    }

    /// Everything up to `index` has arrived.
    mutating func release(through index: LogIndex) {
        var releasedCount = 0
        for request in sent {
            guard request.lastIndex <= index else {
                break
            }
            byteCount -= request.byteCount
            releasedCount += 1
        }
        sent.removeFirst(releasedCount)
    }

    /// Nothing is on its way any more.
    mutating func removeAll() {
        sent.removeAll(keepingCapacity: true)
        byteCount = 0
    }
}
