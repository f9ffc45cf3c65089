package import FlotillaModel
import FlotillaRecords

// Searches by record time: the running maximum in each row makes a segment one sorted array.

extension PartitionLog {
    /// The first batch that has a record with this time or a later one.
    ///
    /// - Parameters:
    ///   - timestamp: record time, in milliseconds.
    ///   - offset: where the search begins; batches that end at or before it are left out.
    ///   - endOffset: batches that begin at or beyond it are left out.
    ///   - afterLoad: whether the load that an earlier call asked for has been done.
    /// - Returns: nil when there is none. The batch says which of its records it is.
    /// - Throws: `.damaged` when a row or batch that has to be looked at cannot be read.
    package func firstBatch(
        atOrAfter timestamp: Timestamp,
        from offset: Offset,
        upTo endOffset: Offset,
        afterLoad: Bool = false
    ) throws(StorageError) -> LogRead<BatchCandidate?> {
        for segment in segments
        where mayHold(segment, atOrAfter: timestamp, offset..<max(offset, endOffset)) {
            guard let reader = segment.reader,
                reader.extent.entryCount == segment.extent.entryCount,
                afterLoad || reader.isTableResident
            else { return .load(load(segment, .timestamp(timestamp, from: offset), byteCount: 0)) }
            resources.segments.touch(segment)
            let found: Int?
            do {
                found = try reader.firstRow(atOrAfter: timestamp, from: offset)
            } catch {
                throw .damaged(note(error, in: reader))
            }
            guard let found else { continue }
            guard afterLoad || reader.isResident(from: found, byteCount: 0) else {
                return .load(load(segment, .timestamp(timestamp, from: offset), byteCount: 0))
            }
            do {
                guard try verifiedEnd(from: found, of: segment, in: reader, afterLoad) != nil else {
                    return .load(load(segment, .timestamp(timestamp, from: offset), byteCount: 0))
                }
            } catch {
                throw .damaged(note(error, in: reader))
            }
            return .ready(try candidate(found, in: reader, below: endOffset))
        }
        return .ready(firstInWindow(offset, endOffset) { $0.maximumTimestamp >= timestamp })
    }

    /// The first of the batches that hold the largest record time.
    ///
    /// Parameters as in `firstBatch(atOrAfter:from:upTo:afterLoad:)`.
    package func maximumTimestampBatch(
        from offset: Offset,
        upTo endOffset: Offset,
        afterLoad: Bool = false
    ) throws(StorageError) -> LogRead<BatchCandidate?> {
        var maximum = Timestamp.none
        let range = offset..<max(offset, endOffset)
        for segment in segments where mayHold(segment, atOrAfter: maximum, range) {
            let isKnown = segment.extent.runningMaximum != RecoveredLog.unknownTimestamp
            if isKnown, segment.name.baseOffset >= offset, segment.endOffset <= endOffset {
                maximum = max(maximum, segment.extent.runningMaximum)
                continue
            }
            guard let reader = segment.reader,
                reader.extent.entryCount == segment.extent.entryCount,
                afterLoad || reader.isTableResident
            else {
                return .load(
                    load(
                        segment,
                        .timestamp(.none, from: offset),
                        byteCount: segment.extent.logByteCount
                    )
                )
            }
            resources.segments.touch(segment)
            do {
                maximum = max(maximum, try reader.maximumTimestamp(in: range))
            } catch {
                throw .damaged(note(error, in: reader))
            }
        }
        _ = firstInWindow(offset, endOffset) { entry in
            maximum = max(maximum, entry.maximumTimestamp)
            return false
        }
        return try firstBatch(
            atOrAfter: maximum,
            from: offset,
            upTo: endOffset,
            afterLoad: afterLoad
        )
    }

    /// The time of the first batch with records at or beyond an offset: the largest of its records' times.
    ///
    /// It is for people and metrics: nothing is loaded and verified that is not asked for again with `afterLoad`, and the batch's own
    /// checksum is not looked at.
    ///
    /// - Parameters:
    ///   - offset: where the search begins; the batch that holds it counts.
    ///   - endOffset: batches that begin at or beyond it are left out.
    ///   - afterLoad: whether the load that an earlier call asked for has been done.
    /// - Returns: nil when there is none.
    /// - Throws: `.damaged` when a row that has to be looked at cannot be read.
    package func firstBatchTime(
        from offset: Offset,
        upTo endOffset: Offset,
        afterLoad: Bool = false
    ) throws(StorageError) -> LogRead<Timestamp?> {
        let isInMemory = !window.isEmpty && offset >= window[window.firstIndex].frame.baseOffset
        guard !isInMemory, let segment = segment(withRecordsAfter: offset),
            segment.name.firstIndex < window.firstIndex
        else { return .ready(firstTimeInWindow(offset, endOffset)) }
        guard let reader = usableReader(of: segment, for: offset),
            afterLoad || reader.isTableResident
        else { return .load(load(segment, .offset(offset), byteCount: 0)) }
        var row = reader.partitioningRow { $0.endOffset > offset }
        for _ in 0..<Self.controlRowLimit where row < reader.rowCount {
            guard afterLoad || reader.isResident(from: row, byteCount: 0) else {
                return .load(load(segment, .offset(offset), byteCount: 0))
            }
            do {
                let found = try reader.beginning(of: row)
                guard found.baseOffset < endOffset else { return .ready(nil) }
                if let time = found.time { return .ready(time) }
                row += 1
            } catch {
                throw .damaged(note(error, in: reader))
            }
        }
        return .ready(nil)
    }

    /// How many entries without records are passed by in a row.
    private static let controlRowLimit = 64

    private func firstTimeInWindow(_ offset: Offset, _ endOffset: Offset) -> Timestamp? {
        var index = window.firstIndex(endingAfter: offset)
        while index < window.endIndex {
            let entry = window[index]
            guard entry.frame.baseOffset < endOffset else { return nil }
            if entry.frame.kind == .data { return entry.maximumTimestamp }
            index = index.next
        }
        return nil
    }

    /// Whether a segment has written batches in the range that memory does not have, and one that
    /// is late enough.
    private func mayHold(_ segment: Segment, atOrAfter timestamp: Timestamp, _ range: Range<Offset>)
        -> Bool
    {
        segment.extent.runningMaximum >= timestamp && segment.extent.logByteCount > 0
            && segment.endOffset > range.lowerBound && segment.name.baseOffset < range.upperBound
            && segment.name.firstIndex < window.firstIndex
    }

    private func candidate(
        _ row: Int,
        in reader: SegmentReader,
        below endOffset: Offset
    ) throws(StorageError) -> BatchCandidate? {
        do {
            let row = try reader.row(row)
            guard row.frame.baseOffset < endOffset else { return nil }
            return BatchCandidate(
                baseOffset: row.frame.baseOffset,
                endOffset: row.frame.endOffset,
                term: row.frame.term,
                bytes: reader.buffer(row.payloadRange)
            )
        } catch {
            throw .damaged(note(RowFailure(row: row, problem: error), in: reader))
        }
    }

    private func firstInWindow(
        _ offset: Offset,
        _ endOffset: Offset,
        where predicate: (TailEntry) -> Bool
    ) -> BatchCandidate? {
        var index = window.firstIndex(endingAfter: offset)
        while index < window.endIndex {
            let entry = window[index]
            guard entry.frame.baseOffset < endOffset else { return nil }
            if entry.frame.kind == .data, predicate(entry) {
                return BatchCandidate(
                    baseOffset: entry.frame.baseOffset,
                    endOffset: entry.frame.endOffset,
                    term: entry.frame.term,
                    bytes: entry.entry.payload
                )
            }
            index = index.next
        }
        return nil
    }
}
