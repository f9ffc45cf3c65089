/// A sorted table whose copies share what did not change, so that an image for all shards costs little per change.
///
/// Two levels: chunks of at most 64 entries. A change copies one chunk and the array of chunks; with 10,000 topics that is 64 entries
/// and about 300 references. Lookups are two binary searches. The order is the keys', so nothing depends on hashing.
package struct SortedTable<Key: Comparable & Sendable, Value: Sendable>: Sendable {
    /// An entry.
    package typealias Element = (key: Key, value: Value)

    private static var maximumChunkCount: Int { 64 }

    /// No chunk is empty; keys ascend within and across chunks.
    private var chunks: [[Element]] = []

    /// The number of entries.
    package private(set) var count = 0

    /// An empty table.
    package init() {}

    /// Whether there is no entry.
    package var isEmpty: Bool {
        count == 0
    }

    /// The value for a key; setting nil removes it.
    package subscript(key: Key) -> Value? {
        get {
            let (chunk, place, isFound) = find(key)
            return isFound ? chunks[chunk][place].value : nil
        }
        set {
            let (chunk, place, isFound) = find(key)
            switch (newValue, isFound) {
            case (let value?, true): chunks[chunk][place].value = value
            case (let value?, false): insert((key, value), chunk: chunk, place: place)
            case (nil, true): remove(chunk: chunk, place: place)
            case (nil, false): break
            }
        }
    }

    /// The entries from the first key that is not below `start` on, or all.
    package func entries(from start: Key? = nil) -> Entries {
        guard let start else { return Entries(chunks: chunks, chunk: 0, place: 0) }
        let (chunk, place, _) = find(start)
        return Entries(chunks: chunks, chunk: chunk, place: place)
    }

    /// Where the key is or would be inserted.
    private func find(_ key: Key) -> (chunk: Int, place: Int, isFound: Bool) {
        guard !chunks.isEmpty else { return (0, 0, false) }
        // The last chunk whose first key is not above the key, or the first chunk.
        let after = Self.partitioningIndex(of: chunks) { chunk in chunk[0].key > key }
        let chunk = Swift.max(after - 1, 0)
        let place = Self.partitioningIndex(of: chunks[chunk]) { entry in entry.key >= key }
        let isFound = place < chunks[chunk].count && chunks[chunk][place].key == key
        return (chunk, place, isFound)
    }

    private mutating func insert(_ entry: Element, chunk: Int, place: Int) {
        count += 1
        guard !chunks.isEmpty else {
            chunks = [[entry]]
            return
        }
        chunks[chunk].insert(entry, at: place)
        if chunks[chunk].count > Self.maximumChunkCount {
            let upper = Array(chunks[chunk][(Self.maximumChunkCount / 2)...])
            chunks[chunk].removeSubrange((Self.maximumChunkCount / 2)...)
            chunks.insert(upper, at: chunk + 1)
        }
    }

    private mutating func remove(chunk: Int, place: Int) {
        count -= 1
        chunks[chunk].remove(at: place)
        if chunks[chunk].isEmpty {
            chunks.remove(at: chunk)
        }
    }

    /// The first index whose element answers true, when all false ones come before all true ones.
    private static func partitioningIndex<Item>(of items: [Item], where isAfter: (Item) -> Bool)
        -> Int
    {
        var low = 0
        var high = items.count
        while low < high {
            let middle = (low + high) / 2
            if isAfter(items[middle]) {
                high = middle
            } else {
                low = middle + 1
            }
        }
        return low
    }
}

extension SortedTable: Sequence {
    /// Walks all entries in the order of their keys.
    package func makeIterator() -> Entries {
        entries()
    }

    /// A walk over a table, in the order of the keys; it sees the table as it was when the walk began.
    package struct Entries: Sequence, IteratorProtocol {
        fileprivate let chunks: [[Element]]
        fileprivate var chunk: Int
        fileprivate var place: Int

        /// The next entry.
        package mutating func next() -> Element? {
            while chunk < chunks.count {
                if place < chunks[chunk].count {
                    defer { place += 1 }
                    return chunks[chunk][place]
                }
                chunk += 1
                place = 0
            }
            return nil
        }
    }
}

extension SortedTable: Equatable where Value: Equatable {
    /// Equal when they hold the same entries; how these lie in chunks does not matter.
    package static func == (left: SortedTable, right: SortedTable) -> Bool {
        left.count == right.count
            && left.elementsEqual(right) { $0.key == $1.key && $0.value == $1.value }
    }
}

extension SortedTable {
    /// States the table's own rules; for tests and the simulator.
    package func checkInvariants() {
        precondition(
            chunks.allSatisfy { !$0.isEmpty && $0.count <= Self.maximumChunkCount },
            "no chunk is empty or too big"
        )
        precondition(
            chunks.reduce(0) { $0 + $1.count } == count,
            "the count is that of the entries"
        )
        precondition(zip(self, dropFirst()).allSatisfy { $0.key < $1.key }, "keys ascend")
    }
}
