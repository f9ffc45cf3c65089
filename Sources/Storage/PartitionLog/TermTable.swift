package import FlotillaModel

/// Where each term of a log begins: answers "which term has this index" and Kafka's "where does
/// this epoch end".
///
/// Terms grow along the log, so one row per term that has entries is the whole history, and no
/// entry has to be read.
package struct TermTable: Hashable, Sendable {
    /// A term and its first entry.
    package struct Row: Hashable, Sendable {
        /// The term.
        package var term: Term
        /// The Raft index of its first entry.
        package var firstIndex: LogIndex
        /// The Kafka offset of its first entry.
        package var firstOffset: Offset

        /// States where a term begins.
        package init(term: Term, firstIndex: LogIndex, firstOffset: Offset) {
            self.term = term
            self.firstIndex = firstIndex
            self.firstOffset = firstOffset
        }
    }

    /// The terms in the order of the log.
    package private(set) var rows: [Row]

    /// Takes over rows in the order of the log.
    package init(rows: [Row] = []) {
        self.rows = rows
    }

    /// Notes an entry at the log's end; only the first of a term adds a row.
    mutating func note(_ term: Term, at index: LogIndex, offset: Offset) {
        if let last = rows.last {
            precondition(last.term <= term, "terms never fall along a log")
            if last.term == term { return }
        }
        rows.append(Row(term: term, firstIndex: index, firstOffset: offset))
    }

    /// Puts the rows of a stretch right whose entries are all known now.
    mutating func replace(_ indexes: Range<LogIndex>, with found: TermTable) {
        let behind = rows.drop { $0.firstIndex < indexes.upperBound }
        truncate(from: indexes.lowerBound)
        for row in found.rows + behind where row.term > rows.last?.term ?? .zero {
            rows.append(row)
        }
    }

    /// Forgets the terms that begin at `index` or later.
    mutating func truncate(from index: LogIndex) {
        while let last = rows.last, last.firstIndex >= index {
            rows.removeLast()
        }
    }

    /// The term of the entry at `index`, which must not lie beyond the log's end; nil below what is
    /// known.
    package func term(at index: LogIndex) -> Term? {
        let position = partitioningIndex { $0.firstIndex > index }
        return position == 0 ? nil : rows[position - 1].term
    }

    /// The largest term up to `term`, and where it ends.
    ///
    /// - Parameters:
    ///   - term: the epoch that is asked for.
    ///   - logEndOffset: the end of the log's last term.
    /// - Returns: nil when the log knows no such term: all known are larger, or `term` is larger
    ///   than all.
    /// - Source: KIP-101 and KIP-279; Kafka's rules for OffsetForLeaderEpoch.
    package func endOffset(of term: Term, logEndOffset: Offset) -> (term: Term, endOffset: Offset)?
    {
        guard let last = rows.last, term <= last.term else { return nil }
        let position = partitioningIndex { $0.term > term }
        guard position > 0 else { return nil }
        return (
            rows[position - 1].term,
            position < rows.count ? rows[position].firstOffset : logEndOffset
        )
    }

    /// The terms that begin below `index`.
    func prefix(below index: LogIndex) -> TermTable {
        TermTable(rows: Array(rows.prefix(partitioningIndex { $0.firstIndex >= index })))
    }

    /// The newest rows, as many as a `.state` file holds; the same on every replica.
    var capped: TermTable {
        TermTable(rows: Array(rows.suffix(Self.maximumStoredRowCount)))
    }

    /// The number of terms that a `.state` file remembers: 1.3 MiB of leader changes.
    static let maximumStoredRowCount = 1 << 16

    private func partitioningIndex(where belongsInSecondPart: (Row) -> Bool) -> Int {
        var low = 0
        var high = rows.count
        while low < high {
            let middle = (low + high) / 2
            if belongsInSecondPart(rows[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
