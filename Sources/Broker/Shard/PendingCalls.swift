/// Questions to other shards whose answers are still out.
struct PendingCalls {
    private var completions: [UInt64: (ShardReply) -> Void] = [:]
    private var nextID: UInt64 = 0

    /// Remembers whom to tell; the id names the question.
    mutating func open(_ completion: @escaping (ShardReply) -> Void) -> UInt64 {
        nextID += 1
        completions[nextID] = completion
        return nextID
    }

    /// Takes whom to tell; nil where nobody waits any longer.
    mutating func close(_ id: UInt64) -> ((ShardReply) -> Void)? {
        completions.removeValue(forKey: id)
    }
}

/// A question that may be given up.
struct CallHandle {
    /// The shard that was asked.
    var shard: Int
    /// The question's number on the asking shard.
    var id: UInt64
}
