package import FlotillaModel
package import FlotillaRecords

// Reads: from memory where the entries are there, else from mapped segments, else after a load.

extension PartitionLog {
    /// Reads whole batches for a consumer.
    ///
    /// - Parameters:
    ///   - offset: where to begin; a batch that holds it is returned whole.
    ///   - endOffset: batches that end beyond it are left out: the high watermark or the last
    ///     stable offset.
    ///   - maxByteCount: the most bytes to return.
    ///   - allowOversizedFirst: whether the first batch may be larger than that.
    ///   - afterLoad: whether the load that an earlier call asked for has been done.
    /// - Returns: the batches; none when there are none below `endOffset`, or the first is too
    ///   large. A slice may end early: at the end of a segment, before damage, and before batches
    ///   that were there at the start and are not verified yet.
    /// - Throws: `.offsetOutOfRange`; `.damaged` when the batch at `offset` cannot be read.
    package func read(
        from offset: Offset,
        upTo endOffset: Offset,
        maxByteCount: Int,
        allowOversizedFirst: Bool,
        afterLoad: Bool = false
    ) throws(StorageError) -> LogRead<FetchSlice> {
        guard offset >= logStartOffset, offset <= logEndOffset else {
            throw .offsetOutOfRange(
                offset,
                logStartOffset: logStartOffset,
                logEndOffset: logEndOffset
            )
        }
        var slice = FetchSlice(firstOffset: offset, endOffset: offset)
        var limit = ReadLimit(
            endOffset: min(endOffset, logEndOffset),
            remainingByteCount: maxByteCount,
            allowOversizedFirst: allowOversizedFirst
        )
        while slice.endOffset < limit.endOffset {
            if let first = window.isEmpty ? nil : window[window.firstIndex].frame.baseOffset,
                slice.endOffset >= first
            {
                readWindow(into: &slice, limit)
                break
            }
            guard let segment = segment(withRecordsAfter: slice.endOffset) else { break }
            switch try readSegment(segment, into: &slice, limit, afterLoad: afterLoad) {
            case .end: return .ready(slice)
            case .more: break
            case .load(let load):
                return slice.isEmpty ? .load(load) : .ready(slice)
            }
            limit.remainingByteCount = maxByteCount - slice.byteCount
            limit.allowOversizedFirst = false
        }
        return .ready(slice)
    }

    private struct ReadLimit {
        var endOffset: Offset
        var remainingByteCount: Int
        var allowOversizedFirst: Bool
    }

    private enum SegmentStep {
        case more
        case end
        case load(SegmentLoad)
    }

    private func readSegment(
        _ segment: Segment,
        into slice: inout FetchSlice,
        _ limit: ReadLimit,
        afterLoad: Bool
    ) throws(StorageError) -> SegmentStep {
        let offset = slice.endOffset
        if !foundDamage.isEmpty || segment.name.baseOffset > offset,
            let known = damage.first(where: { $0.offsets?.contains(offset) ?? false })
        {
            if !slice.isEmpty { return .end }
            throw .damaged(known)
        }
        guard let reader = usableReader(of: segment, for: offset),
            afterLoad || reader.isTableResident
        else { return .load(load(segment, .offset(offset), byteCount: limit.remainingByteCount)) }
        do {
            return try readRows(of: segment, in: reader, into: &slice, limit, afterLoad)
        } catch {
            if !slice.isEmpty { return .end }
            throw .damaged(note(error, in: reader))
        }
    }

    private func readRows(
        of segment: Segment,
        in reader: SegmentReader,
        into slice: inout FetchSlice,
        _ limit: ReadLimit,
        _ afterLoad: Bool
    ) throws(RowFailure) -> SegmentStep {
        let offset = slice.endOffset
        let row = try reader.firstRow(holding: offset)
        let mayVerify = afterLoad && slice.isEmpty
        guard afterLoad || reader.isResident(from: row, byteCount: limit.remainingByteCount),
            let end = try verifiedEnd(from: row, of: segment, in: reader, mayVerify)
        else { return .load(load(segment, .offset(offset), byteCount: limit.remainingByteCount)) }
        let run = try reader.run(
            from: row,
            before: end,
            upTo: limit.endOffset,
            maxByteCount: limit.remainingByteCount,
            allowOversizedFirst: limit.allowOversizedFirst
        )
        guard let run else { return .end }
        // More would fit that is not verified yet: one wait now instead of two short answers.
        if run.nextRow == end, end < reader.rowCount, !afterLoad, slice.isEmpty,
            run.range.count + reader.logRange(from: end, byteCount: 0).count
                <= limit.remainingByteCount
        {
            return .load(load(segment, .offset(offset), byteCount: limit.remainingByteCount))
        }
        slice.add(.segment(reader, run.range), run)
        return run.nextRow == reader.extent.entryCount ? .more : .end
    }

    private func readWindow(into slice: inout FetchSlice, _ limit: ReadLimit) {
        var gatherer = PayloadGatherer()
        var index = window.firstIndex(endingAfter: slice.endOffset)
        while index < window.endIndex {
            let entry = window[index]
            index = index.next
            guard entry.frame.kind == .data else { continue }
            guard entry.frame.endOffset <= limit.endOffset else { break }
            let byteCount = gatherer.byteCount + entry.frame.payloadByteCount
            let isOversizedFirst =
                slice.isEmpty && gatherer.byteCount == 0 && limit.allowOversizedFirst
            guard byteCount <= limit.remainingByteCount || isOversizedFirst else { break }
            if slice.isEmpty, gatherer.byteCount == 0 { slice.firstOffset = entry.frame.baseOffset }
            gatherer.add(entry)
            slice.endOffset = entry.frame.endOffset
            if entry.frame.flags.contains(.compressedByBroker) {
                slice.containsBrokerCompressed = true
            }
        }
        slice.parts += gatherer.finish().map { .memory($0) }
        slice.byteCount += gatherer.byteCount
    }

    // MARK: Entries

    /// Reads entries, for followers and for state machines that replay.
    ///
    /// - Parameters:
    ///   - index: where to begin.
    ///   - maxByteCount: the most bytes to return; the first entry is returned whatever its size.
    ///   - maxCount: the most entries to return.
    ///   - afterLoad: whether the load that an earlier call asked for has been done.
    /// - Returns: none when `index` is one beyond the last entry.
    /// - Throws: `.indexOutOfRange`; `.damaged` when the entry at `index` cannot be read.
    package func entries(
        from index: LogIndex,
        maxByteCount: Int,
        maxCount: Int,
        afterLoad: Bool = false
    ) throws(StorageError) -> LogRead<[LogEntry]> {
        guard index >= firstIndex, index <= lastIndex.next else {
            // A start that no segment has any more is lost, not deleted.
            if let damage = knownDamage(at: index) { throw .damaged(damage) }
            throw .indexOutOfRange(index, first: firstIndex, last: lastIndex)
        }
        var entries: [LogEntry] = []
        var byteCount = 0
        var next = index
        while next <= lastIndex, entries.count < maxCount {
            let entry: LogEntry
            if window.contains(next) {
                entry = window[next].entry
            } else {
                switch try segmentEntry(
                    next,
                    isFirst: entries.isEmpty,
                    byteCount: maxByteCount,
                    afterLoad
                ) {
                case .ready(let found?): entry = found
                case .ready(nil): return .ready(entries)
                case .load(let load): return entries.isEmpty ? .load(load) : .ready(entries)
                }
            }
            byteCount += entry.byteCount
            guard entries.isEmpty || byteCount <= maxByteCount else { break }
            entries.append(entry)
            next = next.next
        }
        return .ready(entries)
    }

    private func segmentEntry(
        _ index: LogIndex,
        isFirst: Bool,
        byteCount: Int,
        _ afterLoad: Bool
    ) throws(StorageError) -> LogRead<LogEntry?> {
        guard let segment = segment(holding: index) else {
            guard isFirst else { return .ready(nil) }
            throw .damaged(lost(index))
        }
        let row = Int(index.rawValue - segment.name.firstIndex.rawValue)
        guard let reader = segment.reader, row < reader.extent.entryCount,
            afterLoad || !isFirst || reader.isResident(from: row, byteCount: byteCount)
        else { return .load(load(segment, .index(index), byteCount: byteCount)) }
        resources.segments.touch(segment)
        do {
            let mayVerify = afterLoad && isFirst
            guard try verifiedEnd(from: row, of: segment, in: reader, mayVerify) != nil else {
                return .load(load(segment, .index(index), byteCount: byteCount))
            }
            return .ready(try entry(row, in: reader))
        } catch {
            let damage = note(error, in: reader)
            guard isFirst else { return .ready(nil) }
            throw .damaged(damage)
        }
    }

    private func entry(_ row: Int, in reader: SegmentReader) throws(RowFailure) -> LogEntry {
        do {
            return try reader.entry(reader.row(row))
        } catch {
            throw RowFailure(row: row, problem: error)
        }
    }

    // MARK: Segments

    /// Where the rows from `row` on that may be served end.
    ///
    /// `mayVerify`: whether a load was done for the row. What it left unverified is damaged, or was
    /// not asked of it; looking here tells, and lets every read make progress.
    ///
    /// - Returns: nil when a load has to verify the row first.
    /// - Throws: what is wrong with the row.
    func verifiedEnd(
        from row: Int,
        of segment: Segment,
        in reader: SegmentReader,
        _ mayVerify: Bool
    ) throws(RowFailure) -> Int? {
        if let end = segment.verified.end(from: row) { return end }
        guard mayVerify else { return nil }
        do {
            try reader.verify(row)
        } catch {
            throw RowFailure(row: row, problem: error)
        }
        segment.verified.insert(row..<row + 1)
        return row + 1
    }

    /// The segment that has the first record at or after `offset`.
    func segment(withRecordsAfter offset: Offset) -> Segment? {
        var low = 0
        var high = segments.count
        while low < high {
            let middle = (low + high) / 2
            if segments[middle].endOffset > offset { high = middle } else { low = middle + 1 }
        }
        return low < segments.count ? segments[low] : nil
    }

    /// The view of a segment, if it is open and covers `offset`.
    func usableReader(of segment: Segment, for offset: Offset) -> SegmentReader? {
        guard let reader = segment.reader, reader.endOffset > offset else { return nil }
        resources.segments.touch(segment)
        return reader
    }

    /// What has to be done before a segment can be read without blocking.
    func load(_ segment: Segment, _ target: SegmentLoad.Target, byteCount: Int) -> SegmentLoad {
        SegmentLoad(
            disk: resources.disk,
            directory: directory,
            name: segment.name,
            generation: segment.generation,
            extent: segment.extent,
            endOffset: segment.endOffset,
            files: segment.files,
            reader: segment.reader,
            verified: segment.verified,
            target: target,
            byteCount: byteCount
        )
    }

    /// Takes a load's result in.
    ///
    /// - Throws: `.disk`: the segment could not be opened, mapped or read.
    package func finish(_ loaded: SegmentLoaded) throws(StorageError) {
        // A segment that retention took meanwhile is nobody's concern.
        guard let segment = segments.last(where: { $0.name == loaded.name }) else { return }
        // A repair replaced the files meanwhile: whoever waits asks again.
        guard loaded.generation == segment.generation else { return }
        let reader: SegmentReader
        do {
            reader = try loaded.result.get()
        } catch {
            throw .disk(error)
        }
        if (segment.reader?.extent.entryCount ?? -1) < reader.extent.entryCount {
            segment.reader = reader
        }
        resources.segments.touch(segment)
        loaded.stretch.rows.forEach { segment.verified.insert($0) }
        // Other kinds of damage were told by recovery, or are when somebody asks for the row.
        for failure in loaded.stretch.failures.prefix(Self.maximumDamageCount)
        where failure.problem == .payload {
            _ = note(failure, in: reader)
        }
    }

    /// What recovery said of an entry that no segment has.
    private func lost(_ index: LogIndex) -> Damage {
        knownDamage(at: index)
            ?? Damage(
                indexes: index...index,
                offsets: nil,
                file: directory,
                position: 0,
                reason: .missing
            )
    }

    /// Remembers a row that turned out to be damaged.
    func note(_ failure: RowFailure, in reader: SegmentReader) -> Damage {
        let found = reader.damage(at: failure.row, failure.problem, in: directory)
        let known = foundDamage.firstIndex {
            $0.indexes == found.indexes && $0.reason == found.reason
        }
        if let known {
            foundDamage[known].offsets = foundDamage[known].offsets ?? found.offsets
        } else if foundDamage.count < Self.maximumDamageCount {
            foundDamage.append(found)
        }
        return found
    }

    /// How many damaged places a log remembers; each is found again when it is read.
    static let maximumDamageCount = 1_024
}

extension FetchSlice {
    fileprivate mutating func add(_ part: FetchPart, _ run: SegmentRun) {
        if isEmpty { firstOffset = run.firstOffset }
        parts.append(part)
        byteCount += part.byteCount
        endOffset = run.endOffset
        containsBrokerCompressed = containsBrokerCompressed || run.containsBrokerCompressed
    }
}
