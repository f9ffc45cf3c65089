package import FlotillaModel

// When a segment begins and when it goes. The leader decides both, by entries that every replica
// obeys.

extension PartitionLog {
    /// Whether the leader's next entry should begin a segment (`firstOfSegment`); an idle log rolls
    /// by a zero-width entry.
    ///
    /// By size, by the number of entries, by age, or because all records of the segment have
    /// outlived retention and only whole sealed segments go.
    ///
    /// - Parameters:
    ///   - now: the leader's time; compared with append times.
    ///   - byteCount: the size of the batch about to be appended; 0 for an idle log.
    /// - Returns: false for a segment without records, unless it has too many entries.
    package func shouldRoll(now: Timestamp, appending byteCount: Int = 0) -> Bool {
        if openSegment.entryCount >= LogConfiguration.maximumSegmentEntryCount { return true }
        guard openSegment.logByteCount > 0 else { return false }
        if openSegment.logByteCount + byteCount > configuration.segmentByteCount { return true }
        if now.rawValue - openSegment.firstAppendTime.rawValue >= configuration.segmentMillis {
            return true
        }
        guard let millis = configuration.retention.millis else { return false }
        return now.rawValue - lastAppendTime.rawValue > millis
    }

    /// Where retention would move the log's start, whole sealed segments at a time; nil when
    /// nothing is to go.
    ///
    /// - Parameters:
    ///   - policy: what to keep.
    ///   - now: the leader's time; compared with append times, never with what producers claim.
    ///   - limit: the start does not pass it: the smallest offset that a state machine or reader of
    ///     the log still needs.
    /// - Returns: the end of the last segment that is to go.
    package func retentionStart(policy: RetentionPolicy, now: Timestamp, notPast limit: Offset)
        -> Offset?
    {
        let readable = segments.filter { $0.endOffset > logStartOffset }
        var byteCount = readable.reduce(Int64(0)) { $0 + Int64($1.extent.logByteCount) }
        var start = logStartOffset
        for segment in readable.dropLast() {
            let isExpired =
                policy.millis.map { now.rawValue - segment.lastMark.appendTime.rawValue > $0 }
                ?? false
            let size = Int64(segment.extent.logByteCount)
            let isExcess = policy.byteCount.map { byteCount - size >= $0 } ?? false
            guard isExpired || isExcess, segment.endOffset <= limit else { break }
            start = segment.endOffset
            byteCount -= size
        }
        return start > logStartOffset ? start : nil
    }

    /// Moves the first readable offset; called when an entry that says so is applied.
    package func advanceLogStart(to offset: Offset) {
        guard offset > logStartOffset else { return }
        precondition(offset <= logEndOffset, "a log starts at or before its end")
        logStartOffset = offset
        forgetDamage()
    }

    /// Drops what is said of records below the start: nobody may read them, and what recovery
    /// misses there, retention has taken.
    private func forgetDamage() {
        guard !foundDamage.isEmpty,
            let first = segments.first(where: { $0.endOffset > logStartOffset }) ?? segments.last
        else { return }
        foundDamage.removeAll { damage in
            if let offsets = damage.offsets, !offsets.isEmpty {
                return offsets.upperBound <= logStartOffset
            }
            if let indexes = damage.indexes { return indexes.upperBound < first.name.firstIndex }
            let fileName = damage.file.split(separator: "/").last.map(String.init) ?? ""
            return SegmentFileName(fileName).map { $0.name < first.name } ?? false
        }
    }

    /// The files of whole segments below the start, to be deleted; the log forgets them at once.
    ///
    /// What an interrupted removal left goes with them. Readers that hold a view of such a segment
    /// go on reading it. What is being shipped stays, see `expireShipments(now:)`.
    ///
    /// - Parameter index: entries from here on are kept, whatever the start.
    /// - Returns: the job; nil when nothing is to go.
    package func nextRemoval(keepingFrom index: LogIndex) -> SegmentRemoval? {
        guard !isRetired else { return nil }
        let shipped = leases.map(\.firstIndex).min() ?? index
        let healed = repairing?.firstIndex ?? index
        let floor = min(index, syncedIndex.next, shipped, healed)
        let count = segments.dropLast().prefix {
            $0.endOffset <= logStartOffset && $0.endIndex <= floor
        }.count
        let gone = segments.prefix(count)
        gone.forEach(resources.segments.drop)
        segments.removeFirst(count)
        let isBehindRemains = segments.first.map { $0.name.baseOffset <= logStartOffset } ?? false
        let others = isBehindRemains ? remains : []
        if isBehindRemains { remains = [] }
        guard count + others.count > 0 else { return nil }
        return SegmentRemoval(
            disk: resources.disk,
            directory: directory,
            names: gone.map(\.name),
            remains: others
        )
    }

    /// Gives up the log: closes what is open, and deletes the directory when the job is performed.
    package func remove() -> LogRemoval {
        segments.forEach(resources.segments.drop)
        return LogRemoval(disk: resources.disk, directory: directory)
    }

    /// Bytes of all `.log` files.
    package var segmentByteCount: Int64 {
        segments.reduce(0) { $0 + Int64($1.extent.logByteCount) }
    }

    /// How many segments the log has.
    package var segmentCount: Int {
        segments.count
    }
}
