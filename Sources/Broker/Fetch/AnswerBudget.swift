import DequeModule

/// What the answers to fetches of one shard's clients may hold in memory, from the read until the socket has taken them.
///
/// A fetch gets at most half of what is left, so that a few clients that read large answers slowly leave room for the
/// others. Its first batch it gets whatever the size (KIP-74). Where nothing is left it waits. Ranges of files that go to
/// the socket by themselves are not in memory and do not count.
struct AnswerBudget {
    /// From this size on a fetch is given less than it asks for only where less is left.
    static let smallestGrant = 64 << 10

    private(set) var heldByteCount = 0
    private var waiters: [UInt64: () -> Void] = [:]
    /// The waiters' ids in the order in which they came, and some of waiters that are gone.
    private var order: Deque<UInt64> = []
    private var nextID: UInt64 = 0

    /// Reserves room for an answer that is about to be read.
    ///
    /// - Returns: how many bytes it may have, at most `wanted`; nil when no room is left.
    mutating func take(upTo wanted: Int, of limit: Int) -> Int? {
        let room = limit - heldByteCount
        guard room > 0 else { return nil }
        let granted = min(wanted, max(room / 2, min(room, Self.smallestGrant)))
        heldByteCount += granted
        return granted
    }

    /// Counts an answer that was made.
    mutating func hold(_ byteCount: Int) { heldByteCount += byteCount }

    /// Gives back what was taken or held.
    mutating func giveBack(_ byteCount: Int) {
        heldByteCount -= byteCount
        precondition(heldByteCount >= 0, "room is given back once")
    }

    /// Remembers whom to call when there is room; in the order in which they came.
    mutating func wait(_ wake: @escaping () -> Void) -> UInt64 {
        nextID += 1
        waiters[nextID] = wake
        order.append(nextID)
        return nextID
    }

    /// Forgets somebody who waits no longer.
    mutating func forget(_ id: UInt64) {
        waiters[id] = nil
        // Nobody may ever be called while a client holds all there is.
        if order.count > 2 * waiters.count + 16 { order.removeAll { waiters[$0] == nil } }
    }

    var hasWaiters: Bool { !waiters.isEmpty }

    /// The one who waits longest, if there is room again.
    mutating func takeWaiter(limit: Int) -> (() -> Void)? {
        while heldByteCount < limit, let id = order.popFirst() {
            if let wake = waiters.removeValue(forKey: id) { return wake }
        }
        return nil
    }
}

/// The room for answers, as connections and fetches of a shard share it.
extension Shard {
    /// Bytes in memory of answers to fetches that are read, made, or not yet taken by their clients.
    package var heldAnswerByteCount: Int { sessions.answers.heldByteCount }

    /// Reserves room for an answer; nil when there is none.
    func takeAnswerRoom(upTo wanted: Int) -> Int? {
        sessions.answers.take(upTo: wanted, of: settings.answerByteLimit)
    }

    /// Counts an answer that was made.
    func holdAnswer(_ byteCount: Int) { sessions.answers.hold(byteCount) }

    /// Gives room back; those who wait for it go on in a turn of their own.
    func giveBackAnswerRoom(_ byteCount: Int) {
        guard byteCount > 0 else { return }
        let hadRoom = heldAnswerByteCount < settings.answerByteLimit
        sessions.answers.giveBack(byteCount)
        let hasRoom = heldAnswerByteCount < settings.answerByteLimit
        guard !hadRoom, hasRoom, sessions.answers.hasWaiters else { return }
        schedule(after: .zero) { [unowned self] in
            while let wake = self.sessions.answers.takeWaiter(limit: self.settings.answerByteLimit)
            {
                wake()
            }
        }
    }
}
