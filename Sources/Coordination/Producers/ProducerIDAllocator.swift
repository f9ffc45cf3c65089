package import FlotillaModel

/// Gives out a broker's producer ids from blocks that the controller allocated; none is given twice.
///
/// It lives as long as the broker runs: after a restart the rest of a block is lost and a new block is asked for. It asks early, when a
/// tenth is left, so that producers seldom wait.
///
/// - Source: SEMANTICS rule PID-1.
package struct ProducerIDAllocator: Sendable {
    private var current: Range<Int64> = 0..<0
    private var next: Range<Int64> = 0..<0
    private var isAsking = false

    /// An allocator without a block.
    package init() {}

    /// Ids that can be given out at once.
    package var remainingCount: Int {
        current.count + next.count
    }

    /// The next id; nil when the block is used up: ask for one and try again when it came.
    package mutating func take() -> ProducerID? {
        if current.isEmpty {
            current = next
            next = 0..<0
        }
        guard let id = current.first else { return nil }
        current = id + 1..<current.upperBound
        return ProducerID(id)
    }

    /// Whether the caller should ask the controller for a block now; true once per block.
    package mutating func shouldAsk() -> Bool {
        let isLow = remainingCount <= Int(Controller.producerIDBlockCount) / 10
        guard isLow, !isAsking, next.isEmpty else { return false }
        isAsking = true
        return true
    }

    /// Takes a block that is committed and belongs to this broker.
    package mutating func accept(_ block: ProducerIDBlock) {
        precondition(isAsking && next.isEmpty, "a block comes when it was asked for")
        isAsking = false
        next = block.start.rawValue..<block.end.rawValue
    }

    /// Notes that no block came; it is asked for again.
    ///
    /// A block that was committed all the same stays unused.
    package mutating func askFailed() {
        isAsking = false
    }
}
