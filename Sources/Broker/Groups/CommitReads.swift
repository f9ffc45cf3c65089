/// Reads of commits, which share rounds of heartbeats: one is under way, and whoever comes meanwhile waits for the next.
struct CommitReads {
    private var current: [Read] = []
    private var next: [Read] = []

    /// Goes on with whether everything that was committed before the read is known here.
    typealias Read = (Bool) -> Void

    /// Whether a round is under way.
    var isUnderWay: Bool { !current.isEmpty }

    /// Has a read wait for a round that begins after it came.
    mutating func add(_ read: @escaping Read) { next.append(read) }

    /// Begins a round for all that wait.
    ///
    /// - Returns: whether anybody does.
    mutating func begin() -> Bool {
        precondition(current.isEmpty, "one round is under way at a time")
        swap(&current, &next)
        return !current.isEmpty
    }

    /// The round has ended; those whom it was for.
    mutating func end() -> [Read] {
        defer { current.removeAll() }
        return current
    }
}
