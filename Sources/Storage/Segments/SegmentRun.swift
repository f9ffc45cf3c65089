import FlotillaModel
import FlotillaRecords

/// Whole batches of one segment that lie side by side in `.log`.
struct SegmentRun {
    /// The bytes in `.log`.
    var range: Range<Int>
    /// The first batch's base offset.
    var firstOffset: Offset
    /// The offset after the last batch.
    var endOffset: Offset
    /// Whether a batch was compressed by the broker.
    var containsBrokerCompressed: Bool
    /// The row after the last batch's.
    var nextRow: Int
}

extension SegmentReader {
    /// The row of the batch that holds `offset`, or of the next one; there is one, since `offset`
    /// lies below the view's end.
    ///
    /// - Throws: why the row that should hold it is not readable, with its number.
    func firstRow(holding offset: Offset) throws(RowFailure) -> Int {
        let found = partitioningRow { $0.endOffset > offset }
        do {
            let row = try row(found).frame
            if row.baseOffset <= offset, row.endOffset > offset { return found }
        } catch {
            _ = error  // The slow search says which row is to blame.
        }
        return try firstSoundRow(holding: offset)
    }

    /// The same by looking at every row, for a search that a damaged row may have led astray.
    private func firstSoundRow(holding offset: Offset) throws(RowFailure) -> Int {
        var failure: RowFailure?
        for number in 0..<rowCount {
            let frame: Frame
            do {
                frame = try row(number).frame
            } catch {
                failure = failure ?? RowFailure(row: number, problem: error)
                continue
            }
            if frame.endOffset <= offset {
                failure = nil
            } else if frame.baseOffset <= offset || failure == nil {
                return number
            } else {
                break
            }
        }
        throw failure ?? RowFailure(row: rowCount, problem: .missing)
    }

    /// The batches from a row on: whole ones below `endOffset`, up to `maxByteCount` bytes.
    ///
    /// - Parameters:
    ///   - first: the row to begin with.
    ///   - end: the row to end before; those up to it are verified.
    ///   - endOffset: batches that end beyond it are left out.
    ///   - maxByteCount: the most bytes.
    ///   - allowOversizedFirst: whether the first batch may be larger than that.
    /// - Returns: nil when no batch fits; the run ends before a damaged row.
    /// - Throws: when the first row is damaged.
    func run(
        from first: Int,
        before end: Int,
        upTo endOffset: Offset,
        maxByteCount: Int,
        allowOversizedFirst: Bool
    ) throws(RowFailure) -> SegmentRun? {
        var run: SegmentRun?
        var number = first
        while number < min(extent.entryCount, end) {
            let row: FrameRow
            do {
                row = try self.row(number)
            } catch {
                if run == nil { throw RowFailure(row: number, problem: error) }
                break
            }
            if row.frame.kind == .data {
                guard row.frame.endOffset <= endOffset else { break }
                let byteCount = (run?.range.count ?? 0) + row.frame.payloadByteCount
                guard byteCount <= maxByteCount || (run == nil && allowOversizedFirst) else {
                    break
                }
                guard run.map({ $0.range.upperBound == row.payloadRange.lowerBound }) ?? true else {
                    break
                }
                run.extend(by: row)
            }
            number += 1
            run?.nextRow = number
        }
        return run
    }
}

extension SegmentRun? {
    fileprivate mutating func extend(by row: FrameRow) {
        let isCompressed = row.frame.flags.contains(.compressedByBroker)
        self = SegmentRun(
            range: (self?.range.lowerBound ?? row.payloadRange.lowerBound)..<row.payloadRange
                .upperBound,
            firstOffset: self?.firstOffset ?? row.frame.baseOffset,
            endOffset: row.frame.endOffset,
            containsBrokerCompressed: isCompressed || self?.containsBrokerCompressed ?? false,
            nextRow: 0
        )
    }
}

/// A row that is not readable.
struct RowFailure: Error {
    var row: Int
    var problem: RowProblem
}
