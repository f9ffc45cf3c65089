/// The rows of a segment whose batches may be served as they lie.
///
/// What this process wrote was right when it went to the file. What was there at the start may have
/// changed while nobody looked, so it is compared with its checksum once before it is served.
package struct VerifiedRows: Hashable, Sendable {
    /// The rows from here on are all verified, or were written by this process.
    package private(set) var trustedStart: Int
    /// Verified rows below: in order, with a gap between any two and before `trustedStart`.
    private var runs: [Range<Int>] = []

    /// How many runs are remembered.
    ///
    /// Reads here and there and damage make the gaps, so there are few. Rows beyond are verified
    /// again when they are read again.
    package static let maximumRunCount = 1_024

    /// Nothing below `recoveredCount` is verified.
    package init(recoveredCount: Int) {
        trustedStart = recoveredCount
    }

    /// Where the verified rows from `row` on end; `Int.max` when all behind are; nil when `row` is
    /// not verified.
    package func end(from row: Int) -> Int? {
        if row >= trustedStart { return .max }
        let position = firstRun(endingAfter: row)
        guard position < runs.count, runs[position].lowerBound <= row else { return nil }
        return runs[position].upperBound
    }

    /// Notes rows that were verified.
    package mutating func insert(_ rows: Range<Int>) {
        let upper = min(rows.upperBound, trustedStart)
        guard rows.lowerBound < upper else { return }
        var merged = rows.lowerBound..<upper
        let first = firstRun(endingAfter: merged.lowerBound - 1)
        var last = first
        while last < runs.count, runs[last].lowerBound <= merged.upperBound {
            let lower = min(merged.lowerBound, runs[last].lowerBound)
            merged = lower..<max(merged.upperBound, runs[last].upperBound)
            last += 1
        }
        if merged.upperBound == trustedStart {
            runs.removeSubrange(first..<last)
            trustedStart = merged.lowerBound
        } else if last > first || runs.count < Self.maximumRunCount {
            runs.replaceSubrange(first..<last, with: [merged])
        }
    }

    private func firstRun(endingAfter row: Int) -> Int {
        var low = 0
        var high = runs.count
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].upperBound > row { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
