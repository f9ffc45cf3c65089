import FlotillaEnvironment
import FlotillaRecords
package import FlotillaModel

import struct NIOCore.ByteBuffer

/// The promises of a broker: entries that are not yet in synced segments, votes and terms, of all
/// groups in one sequence of files.
///
/// Confined to the thread that owns it; every call may block. `perform(_:)` turns submissions into
/// rounds, each one gathered write and one sync, and returns when they are durable. Files are used
/// one after the other and recycled strictly oldest first, once what they hold was released. See
/// `JournalRoundHeader` for the format and what seals a round, and `Journal.open` for what a
/// damaged or torn journal means.
package final class Journal {
    /// Sizes and limits.
    package let configuration: JournalConfiguration
    /// What was written and recycled since the start.
    package internal(set) var statistics = JournalStatistics()
    /// Why the last idle work could not be done; nil when it could.
    package internal(set) var lastObstacle: StorageError?
    /// Whether the last submissions found no room: they are made again until they do.
    package private(set) var isObstructed = false

    let directory: String
    let disk: any Disk
    let identity: JournalIdentity

    /// Files with rounds, ascending in generation; the last one is written to.
    var live: [JournalFile] = []
    /// Files that are empty and carry the header of a generation to come.
    var spares: [JournalFile] = []
    /// Files whose content is settled, in the order in which they may be used again.
    var free: [JournalFile] = []
    /// A new file that is being filled with zeros.
    var unfinished: JournalFile?
    var nextSlot = 0
    var nextGeneration: UInt64 = 1

    var groups: [GroupID: JournalGroupState] = [:]
    var ledger = JournalLedger()
    var nextRoundNumber: UInt64 = 1
    var lastRoundNumber: UInt64 = 0
    var lastShape = JournalRoundShape()
    /// Whether the last round carries something that a later round should seal.
    var isSealNeeded = false
    /// Whether the next round must repeat every group's state: recovery found something that no
    /// round says yet.
    var areStatesOwed = false
    /// Whether the next round is the first since the start.
    private var isOpening = true
    /// The oldest generation that the last durable round calls needed; older files may be
    /// overwritten.
    var durableOldestGeneration: UInt64 = 0
    /// The newest generation whose debtors were asked to leave it.
    var demandedGeneration: UInt64 = 0

    private var builder = JournalRoundBuilder()
    private var isUsable = true

    init(
        directory: String,
        disk: any Disk,
        identity: JournalIdentity,
        configuration: JournalConfiguration
    ) {
        self.directory = directory
        self.disk = disk
        self.identity = identity
        self.configuration = configuration
    }

    // MARK: Rounds

    /// Makes submissions durable, in their order, in as few rounds as their size allows.
    ///
    /// A full disk is an answer, and so are too many open files: what was not written is told in
    /// `remainder`, and nothing of it was promised. A write that broke off for want of room leaves a
    /// part of a round that nobody rests on; whatever is written next begins at its place.
    ///
    /// - Throws: `.syncFailed`, `.journalWriteFailed`, `.journalUnusable`; all final, the process must stop.
    package func perform(_ submissions: [JournalSubmission]) throws(StorageError)
        -> JournalRoundResult
    {
        var result = JournalRoundResult()
        var start = 0
        while start < submissions.count {
            let end = endOfRound(from: start, in: submissions)
            let round = submissions[start..<end]
            do {
                result.byteCount += try write(.records(round))
            } catch {
                guard !error.isFinal else {
                    throw error
                }
                isObstructed = true
                result.obstacle = error
                result.remainder = submissions.count - start
                return result
            }
            result.roundCount += 1
            for submission in round {
                result.completions.append(JournalCompletion(submission))
            }
            isObstructed = false
            start = end
        }
        return result
    }

    /// Writes an empty round when the last one is not sealed yet, or when files wait for one to be
    /// recycled.
    ///
    /// Called within 100 ms of the last round when nothing else came; a round that stays unsealed
    /// longer would be mistaken for a torn tail if a bit of it flipped. Where there is no room, the
    /// last round stays durable but not sealed, `isSealDue` stays true and `lastObstacle` says why.
    ///
    /// - Returns: whether a round was written.
    /// - Throws: as `perform(_:)`.
    package func sealIfNeeded() throws(StorageError) -> Bool {
        try requireUsable()
        guard isSealDue else {
            return false
        }
        do {
            _ = try write(.seal)
            return true
        } catch {
            guard !error.isFinal else {
                throw error
            }
            lastObstacle = error
            return false
        }
    }

    /// Whether `sealIfNeeded()` has something to write.
    package var isSealDue: Bool {
        isSealNeeded || oldestNeededGeneration > durableOldestGeneration
    }

    /// Where the last round lies, which seals the one before; damage there passes for a torn tail.
    package var lastRound: (path: String, range: Range<Int>)? {
        guard let file = live.last else { return nil }
        let end = file.writePosition
        return (file.file.path, end - lastShape.roundByteCount..<end)
    }

    /// Seals the journal with the state of every group and the clean marker, after which nothing is
    /// taken.
    ///
    /// Where there is no room, `lastObstacle` says so, and the next start finds what a kill leaves:
    /// all that was made durable.
    ///
    /// - Throws: as `perform(_:)`.
    package func close() throws(StorageError) {
        areStatesOwed = true
        lastObstacle = nil
        do {
            _ = try write(.cleanStop)
        } catch {
            guard !error.isFinal else {
                throw error
            }
            isUsable = false
            lastObstacle = error
            return
        }
        isUsable = false
        let marker = JournalCleanMarker(
            key: identity.key,
            generation: activeFile.generation,
            endPosition: activeFile.writePosition,
            number: lastRoundNumber
        )
        do {
            try marker.write(in: directory, disk: disk)
        } catch {
            // The round is durable and says the same; the marker only spares the next start a
            // search.
            lastObstacle = .disk(error)
        }
    }

    /// What a round is written for.
    enum Purpose {
        case records(ArraySlice<JournalSubmission>)
        /// Nothing but to seal the round before.
        case seal
        /// The state of every group, and nothing after it.
        case cleanStop
    }

    /// Writes one round and syncs it; returns its size.
    func write(_ purpose: Purpose) throws(StorageError) -> Int {
        try requireUsable()
        build(
            purpose,
            beginsFile: live.isEmpty || activeFile.writePosition == JournalLayout.firstRoundPosition
        )
        if live.isEmpty || !fits(builder.roundByteCount, purpose) {
            build(purpose, beginsFile: true)
            try beginFile(roomFor: builder.roundByteCount)
            // Beginning a file may have written a round of its own.
            build(purpose, beginsFile: true)
        }
        let byteCount = try writeBuiltRound(purpose)
        if case .records(let submissions) = purpose {
            remember(submissions)
        }
        settle()
        return byteCount
    }

    /// Refuses work after a final error: what the disk then holds is unknown.
    func requireUsable() throws(StorageError) {
        guard isUsable else {
            throw .journalUnusable(directory: directory)
        }
    }

    private func build(_ purpose: Purpose, beginsFile: Bool) {
        builder.begin()
        if beginsFile || areStatesOwed {
            for group in groups.keys.sorted() {
                if let state = groups[group] {
                    builder.add(state, of: group)
                }
            }
        }
        guard case .records(let submissions) = purpose else {
            return
        }
        var tails: [GroupID: LogTail?] = [:]
        for submission in submissions {
            let group = submission.group
            for record in submission.records {
                let tail = tails[group] ?? knownTail(of: group)
                tails[group] = .some(record.tail(after: tail))
                builder.add(record, of: group)
            }
        }
    }

    /// Where the group's log ends, if that is beyond doubt.
    private func knownTail(of group: GroupID) -> LogTail? {
        guard let state = groups[group], !state.isSuspect else {
            return nil
        }
        return state.tail
    }

    private func writeBuiltRound(_ purpose: Purpose) throws(StorageError) -> Int {
        let target = activeFile
        let isFileStart = target.writePosition == JournalLayout.firstRoundPosition
        var header = JournalRoundHeader(
            key: identity.key,
            generation: target.generation,
            position: target.writePosition,
            number: nextRoundNumber,
            previousNumber: lastRoundNumber,
            oldestGeneration: oldestNeededGeneration,
            shape: JournalRoundShape(),
            previousShape: lastShape
        )
        header.isFileStart = isFileStart
        header.isOpening = isOpening
        if case .cleanStop = purpose {
            header.isCleanStop = true
        }
        let (final, pieces) = builder.finish(header)
        // A number is spent even if the write fails: what reached the disk must not meet its like
        // again.
        nextRoundNumber += 1
        try writeAndSync(pieces, to: target)
        target.writePosition += final.shape.roundByteCount
        target.zeroedByteCount = max(target.zeroedByteCount, target.writePosition)
        lastRoundNumber = final.number
        lastShape = final.shape
        durableOldestGeneration = final.oldestGeneration
        isOpening = false
        areStatesOwed = false
        isSealNeeded = final.shape.recordCount > 0 && !final.isCleanStop
        statistics.note(round: final)
        return final.shape.roundByteCount
    }

    private func writeAndSync(_ pieces: [ByteBuffer], to target: JournalFile) throws(StorageError) {
        do {
            try target.file.write(pieces, at: Int64(target.writePosition))
        } catch {
            if case .noSpace = error {
                throw volumeFull(needed: pieces.reduce(0) { $0 + $1.readableBytes })
            }
            isUsable = false
            throw .journalWriteFailed(error)
        }
        try sync(target)
    }

    /// Syncs a file of the journal; after an error nothing of it is to be trusted.
    func sync(_ target: JournalFile) throws(StorageError) {
        do {
            try target.file.sync()
        } catch {
            isUsable = false
            throw .syncFailed(error)
        }
    }

    private func remember(_ submissions: ArraySlice<JournalSubmission>) {
        let generation = activeFile.generation
        for submission in submissions {
            for record in submission.records {
                remember(record, of: submission.group, in: generation)
            }
        }
    }

    private func remember(_ record: JournalRecord, of group: GroupID, in generation: UInt64) {
        switch record {
        case .entries(let entries):
            guard let first = entries.first?.frame, let last = entries.last?.frame else {
                return
            }
            ledger.append(
                group,
                from: first.index,
                through: last.index,
                byteCount: entries.reduce(0) { $0 + $1.byteCount },
                generation: generation
            )
        case .reset:
            ledger.remove(group)
        case .remove:
            ledger.remove(group)
            groups[group] = nil
            return
        case .hardState, .commit, .membership, .trusted:
            break
        }
        groups[group, default: JournalGroupState()].apply(record)
    }

    /// Takes submissions until the round is large enough; always at least one.
    private func endOfRound(from start: Int, in submissions: [JournalSubmission]) -> Int {
        var byteCount = 0
        var end = start
        while end < submissions.count, byteCount < configuration.roundByteCount {
            for case .entries(let entries) in submissions[end].records {
                byteCount += entries.reduce(0) { $0 + $1.byteCount }
            }
            end += 1
        }
        return end
    }

    // MARK: Leaving the journal

    /// Entries of `group` up to `index` are committed and lie in synced segments: the journal owes
    /// them no longer.
    package func release(_ group: GroupID, upTo index: LogIndex) {
        ledger.release(group, upTo: index)
    }

    /// The next file's debtors, when more waits than `demandByteCount`; nil when nobody need be
    /// asked.
    ///
    /// Each file is demanded once; a shard keeps the highest index asked of a group until it could
    /// release it.
    package func nextDemand() -> JournalDemand? {
        for (place, file) in live.dropLast().enumerated() where file.generation > demandedGeneration
        {
            let waiting = live.dropFirst(place).reduce(0) { $0 + $1.writePosition }
            guard waiting > configuration.demandByteCount else {
                return nil
            }
            demandedGeneration = file.generation
            let items = ledger.debts(in: file.generation).map { debt in
                let pending = ledger.pendingByteCount(of: debt.group)
                let isSmall = pending <= configuration.copyForwardByteCount
                return JournalDemand.Item(
                    group: debt.group,
                    upTo: debt.upTo,
                    remedy: isSmall ? .copyForward : .checkpoint
                )
            }
            if !items.isEmpty {
                return JournalDemand(items: items)
            }
        }
        return nil
    }

    /// The groups that keep the oldest file, and up to which entry each has to be in segments before it can go.
    package var oldestDebts: [(group: GroupID, upTo: LogIndex)] {
        ledger.debts(in: oldestNeededGeneration)
    }

    /// The bytes in files that are still needed.
    package var liveByteCount: Int {
        let oldest = oldestNeededGeneration
        return live.reduce(0) { $0 + ($1.generation < oldest ? 0 : $1.writePosition) }
    }

    /// Whether what waits has reached `liveByteLimit`.
    package var isAtCap: Bool {
        liveByteCount >= configuration.liveByteLimit
    }

    /// Whether shards hold new entries back: the journal is at its cap, or found no room for the
    /// last ones.
    package var isHoldingBack: Bool {
        isAtCap || isObstructed
    }

    /// The groups that the journal knows, sorted.
    package var knownGroups: [GroupID] {
        groups.keys.sorted()
    }

    var activeFile: JournalFile {
        guard let file = live.last else {
            preconditionFailure("an open journal has a file to write to")
        }
        return file
    }

    /// The generation of the oldest file that somebody has entries in, or the one being written.
    var oldestNeededGeneration: UInt64 {
        for file in live.dropLast() where !ledger.isSettled(file.generation) {
            return file.generation
        }
        return live.last?.generation ?? 0
    }

    /// Every file leaves one block for a sealing round, so that a full journal can still say which
    /// files are free.
    private func fits(_ byteCount: Int, _ purpose: Purpose) -> Bool {
        let room = activeFile.byteCount - activeFile.writePosition
        if case .seal = purpose {
            return byteCount <= room
        }
        return byteCount <= room - JournalLayout.blockByteCount
    }

    func volumeFull(needed: Int) -> StorageError {
        let free = (try? disk.space(at: directory))?.freeByteCount ?? 0
        return .volumeFull(directory: directory, bytesNeeded: needed, bytesFree: Int(free))
    }
}

extension StorageError {
    /// Whether the journal that threw it must not be used any more.
    ///
    /// A write that finds no room, and a file that cannot be opened because too many are, are not: what
    /// was durable before still is. What a failed sync leaves is not known.
    var isFinal: Bool {
        switch self {
        case .syncFailed, .journalWriteFailed, .journalUnusable: true
        default: false
        }
    }
}
