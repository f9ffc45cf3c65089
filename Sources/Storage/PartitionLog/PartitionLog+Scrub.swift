package import FlotillaModel

/// How far a look at every byte of a log's segments has come; a value that its owner keeps.
///
/// It reads from the medium, past the page cache, and takes nobody's word for what was verified
/// before. One walk covers what was durable when it began; how often a step is made, and how large
/// it is, is the owner's business.
package struct ScrubWalk: Sendable {
    /// The next entry to look at.
    package fileprivate(set) var nextIndex: LogIndex
    /// The walk ends with this entry.
    package let lastIndex: LogIndex
    /// The first entry that it looked at.
    package let firstIndex: LogIndex
    /// How many bytes were read.
    package fileprivate(set) var byteCount = 0
    /// How many damaged places were found that nobody knew of.
    package fileprivate(set) var damageCount = 0
    fileprivate var segment: SegmentName?
    fileprivate var inspection: SegmentInspection

    /// Whether all was looked at.
    package var isFinished: Bool {
        nextIndex > lastIndex
    }

    /// The part of the entries that was looked at, from 0 to 1.
    package var progress: Double {
        guard lastIndex >= firstIndex else { return 1 }
        let all = lastIndex.rawValue - firstIndex.rawValue + 1
        return Double(nextIndex.rawValue - firstIndex.rawValue) / Double(all)
    }
}

extension PartitionLog {
    /// Begins a look at every byte that is durable in segments.
    package func beginScrub() -> ScrubWalk {
        ScrubWalk(
            nextIndex: firstIndex,
            lastIndex: syncedIndex,
            firstIndex: firstIndex,
            inspection: SegmentInspection(after: nil)
        )
    }

    /// The next step of a walk; one per log at a time.
    ///
    /// - Parameters:
    ///   - walk: where it stands; retention may move it on.
    ///   - maxByteCount: where the step ends, after the entry that reaches it.
    /// - Returns: nil when the walk is finished, and while a repair or another step is under way.
    package func nextScrubStep(_ walk: inout ScrubWalk, maxByteCount: Int) -> ScrubStep? {
        precondition(maxByteCount > 0, "a step looks at something")
        guard !walk.isFinished, !isScrubbing, repairing == nil, !isRetired else { return nil }
        walk.nextIndex = max(walk.nextIndex, firstIndex)
        guard let segment = segments.first(where: { $0.endIndex > walk.nextIndex }) else {
            walk.nextIndex = walk.lastIndex.next
            return nil
        }
        // Entries that no segment has are damage that recovery told.
        walk.nextIndex = max(walk.nextIndex, segment.name.firstIndex)
        guard !walk.isFinished else { return nil }
        if walk.segment != segment.name {
            walk.segment = segment.name
            let mark = walk.inspection.mark
            let isNext = mark?.index.next == segment.name.firstIndex
            let isFirst = segment.name.firstIndex == LogIndex(1)
            walk.inspection = SegmentInspection(after: isNext ? mark : isFirst ? .start : nil)
        }
        isScrubbing = true
        let last = min(segment.endIndex - 1, walk.lastIndex)
        return ScrubStep(
            disk: resources.disk,
            directory: directory,
            partition: group.partition,
            name: segment.name,
            endRow: Int(last.rawValue - segment.name.firstIndex.rawValue) + 1,
            end: (segment.extent.entryCount, segment.endOffset),
            inspection: walk.inspection,
            maxByteCount: maxByteCount,
            checkpointNames: last == walk.lastIndex ? checkpointNames : []
        )
    }

    /// Takes a step's result in: rows that are damaged are not served any more.
    ///
    /// - Returns: damage that nobody knew of.
    /// - Throws: `.disk`: the files could not be read; the walk stays where it was.
    package func finish(_ result: ScrubStepResult, _ walk: inout ScrubWalk) throws(StorageError)
        -> [Damage]
    {
        precondition(isScrubbing, "a step is finished once")
        isScrubbing = false
        let outcome: ScrubOutcome
        do {
            outcome = try result.outcome.get()
        } catch {
            throw .disk(error)
        }
        let name = result.step.name
        walk.byteCount += outcome.byteCount
        walk.inspection = outcome.inspection
        walk.nextIndex = max(walk.nextIndex, name.firstIndex + UInt64(outcome.inspection.row))
        // A segment that retention took meanwhile is nobody's concern.
        guard let segment = segments.first(where: { $0.name == name }) else { return [] }
        let new = outcome.damage.filter { !isKnown($0) }
        guard !new.isEmpty else { return [] }
        segment.verified = VerifiedRows(recoveredCount: segment.extent.entryCount)
        foundDamage += new.prefix(max(0, Self.maximumDamageCount - foundDamage.count))
        walk.damageCount += new.count
        return new
    }

    private func isKnown(_ damage: Damage) -> Bool {
        foundDamage.contains { known in
            guard let found = damage.indexes else {
                return known.file == damage.file && known.reason == damage.reason
            }
            return known.indexes.map {
                found.lowerBound >= $0.lowerBound && found.upperBound <= $0.upperBound
            }
                ?? false
        }
    }
}
