import FlotillaModel

/// Descriptors of a leader's newest entries, so that sending them asks nobody.
///
/// Bounded by `Settings.recentEntryLimit`: what falls out at the front is asked of the driver.
struct RecentEntries: Hashable, Sendable {
    /// The index of the first descriptor that is kept; one past the log's end when none is.
    private(set) var firstIndex: LogIndex
    private var entries: [EntryDescriptor] = []
    /// How many at the front of `entries` are dropped already; they leave in bulk.
    private var droppedCount = 0

    init(firstIndex: LogIndex) {
        self.firstIndex = firstIndex
    }

    /// One past the last descriptor's index.
    var endIndex: LogIndex {
        firstIndex + UInt64(entries.count - droppedCount)
    }

    mutating func append(_ entry: EntryDescriptor) {
        entries.append(entry)
    }

    /// Forgets the descriptors below `index`.
    mutating func drop(below index: LogIndex) {
        guard index > firstIndex else {
            return
        }
        let end = min(index, endIndex)
        droppedCount += Int(end.rawValue - firstIndex.rawValue)
        firstIndex = end
        if droppedCount * 2 >= entries.count {
            entries.removeFirst(droppedCount)
            droppedCount = 0
        }
    }

    /// Forgets the oldest beyond `limit`.
    mutating func drop(beyond limit: Int) {
        let excess = entries.count - droppedCount - limit
        if excess > 0 {
            drop(below: firstIndex + UInt64(excess))
        }
    }

    /// The descriptors from `index` on that fit the limits; if it `mayExceed` them, a first entry
    /// larger than `byteLimit` is taken all the same.
    func prefix(
        from index: LogIndex,
        entryLimit: Int,
        byteLimit: Int,
        mayExceed: Bool
    ) -> (entries: ArraySlice<EntryDescriptor>, byteCount: Int) {
        let start = droppedCount + Int(index.rawValue - firstIndex.rawValue)
        var end = start
        var byteCount = 0
        while end < entries.count, end - start < entryLimit {
            let size = entries[end].byteCount
            guard byteCount + size <= byteLimit || (end == start && mayExceed) else {
                break
            }
            byteCount += size
            end += 1
        }
        return (entries[start..<end], byteCount)
    }
}
