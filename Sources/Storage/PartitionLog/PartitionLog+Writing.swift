import FlotillaEnvironment
package import FlotillaModel
import FlotillaRaft
import FlotillaRecords
package import struct NIOCore.ByteBuffer

// Committed entries become segments: in large writes, in the background, synced behind.

extension PartitionLog {
    /// The bytes from which a write ends; the next one follows at once.
    package static let maximumWriteByteCount = 8 << 20

    /// Gives the state machines' snapshot as of the entry before `index`.
    ///
    /// Before an entry with `firstOfSegment` is applied this is a duty: writing stops in front of
    /// the entry until its segment's `.state` can be written. Anywhere else it is a checkpoint:
    /// when the writing has reached it, the next sync writes it out, and a start after that replays
    /// from there. Of checkpoints the newest counts.
    ///
    /// - Parameters:
    ///   - index: the next entry to apply; all before it are applied and committed.
    ///   - stateMachine: bytes that only the state machines understand; the same on every replica.
    package func provideState(before index: LogIndex, stateMachine: ByteBuffer) {
        precondition(index <= commitIndex.next, "a snapshot describes committed entries")
        if index <= writtenIndex { noteReplayedState(before: index, stateMachine: stateMachine) }
        guard index > writtenIndex, !pendingStates.contains(where: { $0.mark.index.next == index })
        else { return }
        let mark = mark(at: index - 1)
        let isRoll = beginsSegment(index)
        let state = LogState(
            mark: mark,
            logStartOffset: logStartOffset,
            segment: SegmentName(baseOffset: mark.endOffset, firstIndex: index),
            extent: SegmentExtent(),
            membership: knownMemberships.last { $0.index < index } ?? LogState.initial.membership,
            terms: terms.prefix(below: index),
            stateMachine: stateMachine
        )
        if !isRoll {
            pendingStates.removeAll { !beginsSegment($0.mark.index.next) }
        }
        pendingStates.append(state)
        completeCheckpoint()
    }

    private func beginsSegment(_ index: LogIndex) -> Bool {
        window.contains(index) && window[index].frame.flags.contains(.firstOfSegment)
    }

    /// Turns a checkpoint that the writing has reached into one that the next sync writes.
    private func completeCheckpoint() {
        guard var state = pendingStates.first, state.mark.index == writtenIndex,
            !beginsSegment(writtenIndex.next),
            let active = segments.last
        else { return }
        pendingStates.removeFirst()
        state.segment = active.name
        state.extent = active.extent
        readyCheckpoint = state
    }

    // MARK: Writing

    /// Whether a write, a sync, a repair or a step of a scrub is under way; `remove()`, `close()` and
    /// a shipped log that takes this one's place wait until there is none.
    package var isBusy: Bool {
        isWriting || isSyncing || isScrubbing || repairing != nil
    }

    /// Whether the active segment's files are about to be replaced by healed ones.
    private var isHealingActiveSegment: Bool {
        repairing != nil && repairing == segments.last?.name
    }

    /// The next write of committed entries to a segment; nil when one is under way or there is too
    /// little to write.
    ///
    /// - Parameter minimumByteCount: how much makes a write worth while; 1 flushes. The end of a
    ///   segment and a checkpoint are worth while whatever the bytes.
    /// - Returns: the job.
    package func nextWrite(minimumByteCount: Int) -> SegmentWrite? {
        let first = writtenIndex.next
        guard !isWriting, !isRetired, !isHealingActiveSegment, first <= commitIndex else {
            return nil
        }
        guard pendingByteCount >= minimumByteCount || !pendingStates.isEmpty else { return nil }
        let beginsNew = segments.isEmpty || beginsSegment(first)
        let state = pendingStates.first { $0.mark.index.next == first }
        if beginsNew, first > LogIndex(1), state == nil || !areTermsKnown { return nil }
        // Behind a gap that no segment covers the entries stay in the journal: in the last segment they would stand in others'
        // rows, and the journal would let them go.
        guard beginsNew || segments.last?.endIndex == first else { return nil }
        guard let last = lastIndexOfWrite(from: first, minimumByteCount: minimumByteCount) else {
            return nil
        }
        isWriting = true
        let active = beginsNew ? nil : segments.last
        segments.last?.isDirty = true
        return makeWrite(first...last, in: active, state: state)
    }

    /// Where the next write ends: before a segment's first entry, at a checkpoint, at the size of a
    /// write, or at the commit index.
    private func lastIndexOfWrite(from first: LogIndex, minimumByteCount: Int) -> LogIndex? {
        var byteCount = 0
        var index = first
        while true {
            byteCount += window[index].frame.entryByteCount
            if byteCount >= Self.maximumWriteByteCount
                || pendingStates.contains(where: { $0.mark.index == index })
            {
                return index
            }
            guard index < commitIndex else { break }
            if beginsSegment(index.next) { return index }
            index = index.next
        }
        return byteCount >= minimumByteCount ? index : nil
    }

    private func makeWrite(_ range: ClosedRange<LogIndex>, in active: Segment?, state: LogState?)
        -> SegmentWrite
    {
        let first = window[range.lowerBound].frame
        let name =
            active?.name ?? SegmentName(baseOffset: first.baseOffset, firstIndex: first.index)
        let start = active?.extent ?? SegmentExtent()
        var extent = start
        var log = PayloadGatherer()
        var control = PayloadGatherer()
        var rows = ByteBuffer()
        rows.reserveCapacity(
            Int(range.upperBound.rawValue - range.lowerBound.rawValue + 1) * FrameRow.byteCount
        )
        var index = range.lowerBound
        while index <= range.upperBound {
            let entry = window[index]
            extent.add(entry.frame, maximumTimestamp: entry.maximumTimestamp).write(into: &rows)
            if entry.frame.kind == .data { log.add(entry) } else { control.add(entry) }
            index = index.next
        }
        return SegmentWrite(
            disk: resources.disk,
            directory: directory,
            name: name,
            files: active?.files,
            beginning: active == nil
                ? beginning(of: name, after: first.previousChecksum, state: state) : nil,
            log: SegmentWrite.Piece(position: start.logByteCount, buffers: log.finish()),
            control: SegmentWrite.Piece(
                position: start.controlByteCount,
                buffers: control.finish()
            ),
            frames: SegmentWrite.Piece(position: start.frameTableByteCount, buffers: [rows]),
            extent: extent,
            lastMark: mark(at: range.upperBound)
        )
    }

    private func beginning(
        of name: SegmentName,
        after previousChecksum: UInt32,
        state: LogState?
    ) -> SegmentWrite.Beginning {
        let header = FrameTableHeader(
            partition: group.partition,
            name: name,
            previousChecksum: previousChecksum
        )
        return SegmentWrite.Beginning(
            previous: segments.last?.name,
            previousFiles: segments.last?.files,
            state: state.map(write),
            header: header.bytes
        )
    }

    private func write(_ state: LogState) -> StateWrite {
        var state = state
        // Healing may have put them right since.
        state.terms = terms.prefix(below: state.mark.index.next)
        return StateWrite(
            disk: resources.disk,
            directory: directory,
            name: state.name,
            bytes: state.bytes(of: group.partition)
        )
    }

    /// Takes a write's result in: what was written can be read from the segment, and may leave
    /// memory.
    ///
    /// - Throws: `.volumeFull` and `.disk`: the log is as it was, and `nextWrite` offers the same
    ///   again. `.syncFailed`: the process must stop.
    package func finish(_ result: SegmentWriteResult) throws(StorageError) {
        precondition(isWriting, "a write is finished once")
        isWriting = false
        let files = try result.outcome.get()
        let write = result.write
        if write.beginning != nil {
            if let previous = segments.last {
                previous.isDirty = false
                syncedMark = max(syncedMark, previous.lastMark)
            }
            pendingStates.removeAll { $0.name == write.name }
            checkpointNames.removeAll { $0 == write.name }
            segments.append(
                Segment(name: write.name, extent: SegmentExtent(), lastMark: writtenMark)
            )
        }
        take(write, files)
        knownMemberships.removeFirst(knownMemberships.lastIndex { $0.index <= writtenIndex } ?? 0)
        completeCheckpoint()
        resources.tail.trim()
    }

    private func take(_ write: SegmentWrite, _ files: SegmentFiles) {
        guard let active = segments.last, active.name == write.name else {
            preconditionFailure("entries are written to the last segment")
        }
        active.extent = write.extent
        active.lastMark = write.lastMark
        active.files = files
        active.isDirty = true
        resources.segments.touch(active)
        if window.writtenIndex < write.lastMark.index {
            forgetDamage(rewritten: window.writtenIndex.next...write.lastMark.index)
        }
        while window.writtenIndex < write.lastMark.index {
            window.writtenIndex = window.writtenIndex.next
            let byteCount = window[window.writtenIndex].frame.entryByteCount
            pendingByteCount -= byteCount
            unsegmentedByteCount -= byteCount
        }
    }

    // MARK: Syncing

    /// Whether a sync would make something durable that is not.
    package var needsSync: Bool {
        syncedMark.index < writtenIndex || checkpointToWrite != nil
    }

    /// No state is written while it could say wrong things of terms.
    private var checkpointToWrite: LogState? {
        areTermsKnown ? readyCheckpoint : nil
    }

    /// The next sync of what was written; nil when one is under way or all is durable.
    package func nextSync() -> SegmentSync? {
        guard !isSyncing, !isRetired, !isHealingActiveSegment, needsSync, let active = segments.last
        else {
            return nil
        }
        isSyncing = true
        let checkpoint = checkpointToWrite
        if checkpoint != nil { readyCheckpoint = nil }
        return SegmentSync(
            disk: resources.disk,
            directory: directory,
            name: active.name,
            files: active.files,
            mark: active.lastMark,
            checkpoint: checkpoint.map(write),
            staleCheckpoints: checkpointNames
        )
    }

    /// Takes a sync's result in; the journal may then forget up to `syncedIndex`.
    ///
    /// - Throws: `.syncFailed`: the process must stop. `.volumeFull` and `.disk`: the checkpoint
    ///   was not written; entries stay in the journal, and the next sync tries again.
    package func finish(_ result: SegmentSyncResult) throws(StorageError) {
        precondition(isSyncing, "a sync is finished once")
        isSyncing = false
        let files = try result.outcome.get()
        let sync = result.sync
        syncedMark = max(syncedMark, sync.mark)
        if let active = segments.last, active.name == sync.name {
            active.files = active.files ?? files
            active.isDirty = isWriting || active.lastMark.index > sync.mark.index
            resources.segments.touch(active)
        }
        if let checkpoint = sync.checkpoint {
            forgetStateDamage(of: sync.staleCheckpoints + [checkpoint.name])
            checkpointNames =
                segments.contains { $0.name == checkpoint.name } ? [] : [checkpoint.name]
        }
    }
}

/// The later of two places of one log.
private func max(_ left: LogMark, _ right: LogMark) -> LogMark {
    left.index >= right.index ? left : right
}
