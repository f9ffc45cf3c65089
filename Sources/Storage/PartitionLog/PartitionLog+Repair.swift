package import FlotillaModel
import FlotillaRaft
package import FlotillaRecords
package import struct NIOCore.ByteBuffer

// Damage is healed from what is left of the entries, and from peers that have them.

/// What a repair left.
package struct RepairReport: Hashable, Sendable {
    /// How many rows and headers were made again.
    package var healedCount: Int
    /// What is still damaged in the segment: entries of these indexes from a peer would heal it.
    package var remaining: [Damage]

    /// The entries that would heal it, as runs without a gap: a run is to be given whole where the
    /// rows do not name its entries any more.
    package var wanted: [ClosedRange<LogIndex>] {
        var runs: [ClosedRange<LogIndex>] = []
        for indexes in remaining.compactMap(\.indexes) {
            if let last = runs.last, last.upperBound.next == indexes.lowerBound {
                runs[runs.count - 1] = last.lowerBound...indexes.upperBound
            } else {
                runs.append(indexes)
            }
        }
        return runs
    }
}

extension PartitionLog {
    /// Begins to heal the segment that damage lies in; one at a time.
    ///
    /// Called without entries first: what can be made again from what is left needs no peer. For
    /// the rest, ask a peer for the entries of `RepairReport.wanted`, and call again. Entries
    /// for a part of the damage are fine where rows still name them; elsewhere they have to reach
    /// the next sound entry. A repair of the active segment holds writes and syncs up.
    ///
    /// - Parameters:
    ///   - damage: from `damage`, a read, a scrub or an earlier report.
    ///   - entries: committed ones in order, from a peer; those of sound rows are not looked at.
    /// - Returns: the job; nil when it has to wait for a write, a sync, a scrub or another repair,
    ///   and for damage that lies in no segment (a `.state`, or files that are gone altogether).
    package func nextRepair(of damage: Damage, with entries: [LogEntry] = []) -> SegmentRepair? {
        guard repairing == nil, !isScrubbing, !isRetired, let place = segmentPlace(of: damage)
        else {
            return nil
        }
        let segment = segments[place]
        let isActive = place == segments.count - 1
        guard !isActive || (!isWriting && !isSyncing) else { return nil }
        let next = isActive ? nil : segments[place + 1]
        let count = next.map { Int($0.name.firstIndex.rawValue - segment.name.firstIndex.rawValue) }
        let isPreviousNext = place > 0 && segments[place - 1].name < segment.name
        repairing = segment.name
        return SegmentRepair(
            disk: resources.disk,
            directory: directory,
            partition: group.partition,
            name: segment.name,
            end: (
                row: count ?? segment.extent.entryCount,
                offset: next?.name.baseOffset ?? segment.endOffset
            ),
            files: segment.files,
            previous: isPreviousNext ? segments[place - 1].name : nil,
            next: next?.name,
            lastMark: isActive && segment.lastMark.index == segment.endIndex - 1
                ? segment.lastMark : nil,
            offers: entries
        )
    }

    func segmentPlace(of damage: Damage) -> Int? {
        if let first = damage.indexes?.lowerBound {
            return segments.lastIndex { $0.name.firstIndex <= first }
        }
        guard let file = damage.segmentFile, file.kind != .state else { return nil }
        return segments.firstIndex { $0.name == file.name }
    }

    /// Takes a repair's result in: what was healed is read again, and verified again before it is
    /// served.
    ///
    /// - Returns: what is left to heal.
    /// - Throws: `.repairRefused`: the entries do not belong there, and nothing was changed.
    ///   `.volumeFull`, `.disk`: as before the repair, which may be asked for again. `.syncFailed`:
    ///   the process must stop.
    package func finish(_ result: SegmentRepairResult) throws(StorageError) -> RepairReport {
        precondition(repairing == result.repair.name, "a repair is finished once")
        repairing = nil
        let segment = segments.first { $0.name == result.repair.name }
        if let segment {
            // Even a repair that failed may have replaced a file: a write through an old handle
            // would be lost. All that was written is synced by then.
            segment.generation += 1
            segment.reader = nil
            segment.files = nil
        }
        let outcome = try result.outcome.get()
        let report = RepairReport(
            healedCount: outcome.healedCount,
            remaining: outcome.remaining
        )
        guard let segment else { return report }
        segment.files = outcome.files
        resources.segments.touch(segment)
        if outcome.remaining.isEmpty, let lastMark = outcome.lastMark {
            segment.extent = outcome.extent
            segment.lastMark = lastMark
            learnTerms(outcome.terms, of: segment.name.firstIndex..<segment.endIndex)
        }
        segment.verified = VerifiedRows(recoveredCount: segment.extent.entryCount)
        let healed = segment.name.firstIndex..<segment.endIndex
        forgetDamage(in: healed, of: segment.name)
        foundDamage += outcome.remaining.prefix(max(0, Self.maximumDamageCount - foundDamage.count))
        return report
    }

    private func learnTerms(_ found: TermTable, of whole: Range<LogIndex>) {
        guard uncertainTerms.contains(where: { $0.overlaps(whole) }) else { return }
        terms.replace(whole, with: found)
        uncertainTerms = uncertainTerms.flatMap { range in
            let before =
                range.lowerBound..<min(range.upperBound, max(range.lowerBound, whole.lowerBound))
            let behind =
                max(range.lowerBound, min(range.upperBound, whole.upperBound))..<range.upperBound
            return [before, behind].filter { !$0.isEmpty }
        }
    }

    /// Drops what is said of a segment's entries and files.
    private func forgetDamage(in indexes: Range<LogIndex>, of name: SegmentName) {
        foundDamage = foundDamage.flatMap { damage in
            guard damage.indexes == nil else { return damage.parts(outside: indexes) }
            let isElsewhere =
                damage.segmentFile.map { $0.name != name || $0.kind == .state } ?? true
            return isElsewhere ? [damage] : []
        }
    }

    /// Drops what is said of entries that were lost at the log's end and are written again.
    func forgetDamage(rewritten indexes: ClosedRange<LogIndex>) {
        guard !foundDamage.isEmpty else { return }
        let whole = indexes.lowerBound..<indexes.upperBound.next
        foundDamage = foundDamage.flatMap { $0.parts(outside: whole) }
    }

    // MARK: States

    /// Keeps the state machines' snapshot of a place whose `.state` is damaged, as the replay
    /// comes by.
    func noteReplayedState(before index: LogIndex, stateMachine: ByteBuffer) {
        guard !foundDamage.isEmpty, areTermsKnown,
            let place = segments.firstIndex(where: { $0.name.firstIndex == index }),
            isStateDamaged(segments[place].name), place > 0,
            segments[place - 1].lastMark.index.next == index, !isDamaged(index - 1),
            // Memberships below the first known one are forgotten.
            let membership = knownMemberships.last(where: { $0.index < index })
        else { return }
        let name = segments[place].name
        rebuiltStates.removeAll { $0.name == name }
        rebuiltStates.append(
            LogState(
                mark: segments[place - 1].lastMark,
                logStartOffset: logStartOffset,
                segment: name,
                extent: SegmentExtent(),
                membership: membership,
                terms: terms.prefix(below: index),
                stateMachine: stateMachine
            )
        )
    }

    private func isStateDamaged(_ name: SegmentName) -> Bool {
        foundDamage.contains { $0.reason == .state && $0.segmentFile?.name == name }
    }

    /// Writes a damaged `.state` anew that the replay after the start came by; nil when there is
    /// none.
    package func nextStateRepair() -> StateRepair? {
        guard !rebuiltStates.isEmpty, !isRetired else { return nil }
        let state = rebuiltStates.removeFirst()
        return StateRepair(
            write: StateWrite(
                disk: resources.disk,
                directory: directory,
                name: state.name,
                bytes: state.bytes(of: group.partition)
            ),
            partition: group.partition,
            expectation: nil
        )
    }

    /// Writes a damaged `.state` anew from the bytes of a peer's file of that name.
    ///
    /// Everything but the state machines' snapshot is compared with what this log knows.
    ///
    /// - Returns: nil for damage of another kind, and for a checkpoint, which the next one replaces.
    package func stateRepair(of damage: Damage, from bytes: ByteBuffer) -> StateRepair? {
        guard !isRetired, damage.reason == .state, let name = damage.segmentFile?.name,
            let place = segments.firstIndex(where: { $0.name == name })
        else { return nil }
        let before = place > 0 ? segments[place - 1].lastMark : nil
        let isKnown = before?.index.next == name.firstIndex && !isDamaged(name.firstIndex - 1)
        return StateRepair(
            write: StateWrite(
                disk: resources.disk,
                directory: directory,
                name: name,
                bytes: bytes
            ),
            partition: group.partition,
            expectation: StateRepair.Expectation(
                mark: isKnown ? before : nil,
                terms: terms.prefix(below: name.firstIndex),
                firstIndex: firstIndex
            )
        )
    }

    private func isDamaged(_ index: LogIndex) -> Bool {
        knownDamage(at: index) != nil
    }

    /// What is known of an entry that cannot be read.
    func knownDamage(at index: LogIndex) -> Damage? {
        foundDamage.first { $0.indexes?.contains(index) ?? false }
    }

    /// Takes the result in.
    ///
    /// - Throws: `.repairRefused`: the state does not belong there. `.volumeFull`, `.disk`: nothing
    ///   changed. `.syncFailed`: the process must stop.
    package func finish(_ result: StateRepairResult) throws(StorageError) {
        try result.outcome.get()
        forgetStateDamage(of: [result.repair.write.name])
    }

    /// Drops what is said of `.state` files that are whole again, or gone.
    func forgetStateDamage(of names: [SegmentName]) {
        guard !foundDamage.isEmpty else { return }
        foundDamage.removeAll { damage in
            guard damage.reason == .state, let file = damage.segmentFile else { return false }
            return names.contains(file.name)
        }
    }
}
