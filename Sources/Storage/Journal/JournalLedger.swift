import FlotillaModel

/// Which file holds entries of which group that are not yet in synced segments.
///
/// Per group a list of spans, ascending in file and in index and without overlap; per file the set
/// of groups that have a span there. A file without debtors can be recycled when those before it
/// are.
struct JournalLedger {
    /// Entries of one group in one file.
    struct Span: Hashable {
        var generation: UInt64
        var firstIndex: LogIndex
        var lastIndex: LogIndex
        /// Bytes of the entries; an estimate once part of them was released or replaced.
        var byteCount: Int
    }

    private var spans: [GroupID: [Span]] = [:]
    private var debtors: [UInt64: Set<GroupID>] = [:]

    /// Notes an append: it voids what the group had at `firstIndex` and above, in whatever file.
    mutating func append(
        _ group: GroupID,
        from firstIndex: LogIndex,
        through lastIndex: LogIndex,
        byteCount: Int,
        generation: UInt64
    ) {
        drop(group, from: firstIndex)
        var list = spans[group, default: []]
        if let last = list.last, last.generation == generation {
            list[list.count - 1].lastIndex = lastIndex
            list[list.count - 1].byteCount += byteCount
        } else {
            precondition(
                list.last.map { $0.generation < generation } ?? true,
                "files are written in order"
            )
            let span = Span(
                generation: generation,
                firstIndex: firstIndex,
                lastIndex: lastIndex,
                byteCount: byteCount
            )
            list.append(span)
            debtors[generation, default: []].insert(group)
        }
        spans[group] = list
    }

    /// Forgets a group's entries up to `index`.
    mutating func release(_ group: GroupID, upTo index: LogIndex) {
        guard var list = spans[group] else {
            return
        }
        let paid = list.prefix { $0.lastIndex <= index }
        for span in paid {
            forget(group, in: span.generation)
        }
        list.removeFirst(paid.count)
        if let first = list.first, first.firstIndex <= index {
            list[0] = Self.shortened(first, to: index.next...first.lastIndex)
        }
        spans[group] = list.isEmpty ? nil : list
    }

    /// Forgets a group's entries from `index` on.
    mutating func drop(_ group: GroupID, from index: LogIndex) {
        guard var list = spans[group], let last = list.last, last.lastIndex >= index else {
            return
        }
        while let last = list.last, last.firstIndex >= index {
            forget(group, in: last.generation)
            list.removeLast()
        }
        if let last = list.last, last.lastIndex >= index {
            list[list.count - 1] = Self.shortened(last, to: last.firstIndex...index - 1)
        }
        spans[group] = list.isEmpty ? nil : list
    }

    /// Forgets all of a group.
    mutating func remove(_ group: GroupID) {
        drop(group, from: .zero)
    }

    /// Whether no group has anything in the file.
    func isSettled(_ generation: UInt64) -> Bool {
        debtors[generation]?.isEmpty ?? true
    }

    /// The groups that have something in the file, sorted, with the last index of each there.
    func debts(in generation: UInt64) -> [(group: GroupID, upTo: LogIndex)] {
        (debtors[generation] ?? []).sorted().compactMap { group in
            spans[group]?.first { $0.generation == generation }.map { (group, $0.lastIndex) }
        }
    }

    /// The bytes that a group has in all files.
    func pendingByteCount(of group: GroupID) -> Int {
        (spans[group] ?? []).reduce(0) { $0 + $1.byteCount }
    }

    private mutating func forget(_ group: GroupID, in generation: UInt64) {
        debtors[generation]?.remove(group)
        if debtors[generation]?.isEmpty == true {
            debtors[generation] = nil
        }
    }

    private static func shortened(_ span: Span, to range: ClosedRange<LogIndex>) -> Span {
        var span = span
        let old = span.lastIndex.rawValue - span.firstIndex.rawValue + 1
        let new = range.upperBound.rawValue - range.lowerBound.rawValue + 1
        span.byteCount = Int(Double(span.byteCount) * Double(new) / Double(old))
        span.firstIndex = range.lowerBound
        span.lastIndex = range.upperBound
        return span
    }
}
