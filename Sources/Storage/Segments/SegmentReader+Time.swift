import FlotillaModel
import FlotillaRecords

extension SegmentReader {
    /// The row of the first batch, from the one that holds `offset` on, that has a record at or
    /// after `timestamp`.
    ///
    /// Where the range begins within the segment, rows before it may have raised the running
    /// maximum already; then batch headers tell.
    func firstRow(atOrAfter timestamp: Timestamp, from offset: Offset) throws(RowFailure) -> Int? {
        let first = offset <= name.baseOffset ? 0 : try firstRow(holding: offset)
        if try runningMaximum(before: first) < timestamp {
            let found = partitioningRow(from: first) { $0.runningMaximum >= timestamp }
            if found == rowCount, rowCount == extent.entryCount { return nil }
            if try isJump(to: timestamp, at: found) { return found }
        }
        for number in first..<extent.entryCount where try largestTimestamp(of: number) >= timestamp
        {
            return number
        }
        return nil
    }

    /// The largest record time of the batches that lie in `range`, wholly or in part.
    func maximumTimestamp(in range: Range<Offset>) throws(RowFailure) -> Timestamp {
        var maximum = Timestamp.none
        let first =
            range.lowerBound <= name.baseOffset ? 0 : try firstRow(holding: range.lowerBound)
        for number in first..<extent.entryCount {
            guard try soundRow(number).frame.baseOffset < range.upperBound else { break }
            maximum = max(maximum, try largestTimestamp(of: number))
        }
        return maximum
    }

    /// Where an entry begins, and the largest time of its records; nil for one without records.
    func beginning(
        of number: Int
    ) throws(RowFailure) -> (baseOffset: Offset, time: Timestamp?) {
        let frame = try soundRow(number).frame
        return (
            frame.baseOffset, frame.kind == .data ? try largestTimestamp(of: number) : nil
        )
    }

    private func runningMaximum(before number: Int) throws(RowFailure) -> Timestamp {
        number == 0 ? .none : try soundRow(number - 1).runningMaximum
    }

    /// Whether the running maximum passes `timestamp` at this row: then its own records did it.
    private func isJump(to timestamp: Timestamp, at number: Int) throws(RowFailure) -> Bool {
        guard try runningMaximum(before: number) < timestamp else { return false }
        return try soundRow(number).runningMaximum >= timestamp
    }

    /// The largest record time of one batch; `.none` for other kinds.
    private func largestTimestamp(of number: Int) throws(RowFailure) -> Timestamp {
        let row = try soundRow(number)
        guard row.frame.kind == .data else { return .none }
        let start = row.payloadRange.lowerBound
        return withPayload(true, start..<start + RecordBatchHeader.byteCount) { bytes in
            Timestamp(bytes.bigEndian(Int64.self, at: 35))
        }
    }

    private func soundRow(_ number: Int) throws(RowFailure) -> FrameRow {
        do {
            return try row(number)
        } catch {
            throw RowFailure(row: number, problem: error)
        }
    }
}
