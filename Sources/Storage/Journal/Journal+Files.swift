import FlotillaEnvironment

import struct NIOCore.ByteBuffer

/// Where rounds go: files are made, made ready, filled, settled and used again.
///
/// A file passes through `live` (has rounds), `free` (settled, its rounds may be overwritten) and
/// `spares` (its header names a coming generation), always oldest first. A file becomes free only
/// when a durable round says that it is not needed: otherwise recovery would miss it.
extension Journal {
    private static let zeros = ByteBuffer(repeating: 0, count: 256 << 10)
    /// Files above this number are removed when nobody needs them: they remain of a time when
    /// segments were slow.
    private var keptFileCount: Int {
        configuration.demandByteCount / configuration.fileByteCount + 2
    }

    /// Does a bounded piece of the work that makes rounds fast: zeros ahead of the writer, and a
    /// spare file.
    ///
    /// - Returns: whether there is more to do when the thread is idle again.
    /// - Throws: final errors only; a full disk ends the work, see `lastObstacle`.
    package func prepareSpare() throws(StorageError) -> Bool {
        try requireUsable()
        lastObstacle = nil
        do {
            return try prepareStep()
        } catch {
            guard !error.isFinal else {
                throw error
            }
            lastObstacle = error
            return false
        }
    }

    /// Keeps the next file ahead of the writer while rounds follow each other without a pause; called
    /// after each of them.
    ///
    /// A round into blocks that were never written makes its sync tell the file system about new
    /// extents: half as long again (measured on ext4: 175 µs instead of 110 µs at 4 KiB, 700 instead
    /// of 470 µs at 1 MiB). So between a quarter and three quarters of the active file a new one is
    /// made and filled with zeros in step with the writer: at most `stepByteCount`, or twice the last
    /// round, at a time. The slices are not synced one by one, their writeback begins at once; the
    /// sync that gives the file its generation waits for what is left of it. After an obstacle idle
    /// time goes on with it.
    ///
    /// - Throws: final errors only.
    package func prepareAhead() throws(StorageError) {
        try requireUsable()
        guard lastObstacle == nil, spares.isEmpty, free.isEmpty else {
            return
        }
        do {
            try fillAhead()
        } catch {
            guard !error.isFinal else {
                throw error
            }
            lastObstacle = error
        }
    }

    private func fillAhead() throws(StorageError) {
        let start = activeFile.byteCount / 4
        let progress = min(activeFile.writePosition - start, 2 * start)
        guard progress > 0 else {
            return
        }
        if unfinished == nil {
            unfinished = try createFile(byteCount: configuration.fileByteCount)
        }
        guard let file = unfinished else {
            return
        }
        let target = Int(Double(file.byteCount) * Double(progress) / Double(2 * start))
        let isLast = target >= file.byteCount
        guard isLast || target - file.zeroedByteCount >= smallestSliceByteCount else {
            return
        }
        let slice = max(configuration.stepByteCount, 2 * lastShape.roundByteCount)
        let first = file.zeroedByteCount
        try writeZeros(file, upTo: min(target, first + slice))
        try startWriteback(file, from: first)
        if file.zeroedByteCount == file.byteCount {
            unfinished = nil
            try makeReady(file)
        }
    }

    private func startWriteback(_ file: JournalFile, from position: Int) throws(StorageError) {
        do {
            try file.file.startWriteback(Int64(position)..<Int64(file.zeroedByteCount))
        } catch {
            throw .disk(error)
        }
    }

    /// Below this a slice ahead of the writer is not worth its call.
    private var smallestSliceByteCount: Int {
        min(256 << 10, configuration.stepByteCount)
    }

    private func prepareStep() throws(StorageError) -> Bool {
        if activeFile.zeroedByteCount < activeFile.byteCount {
            try fillWithZeros(activeFile)
            return true
        }
        if let file = unfinished {
            guard file.zeroedByteCount == file.byteCount else {
                try fillWithZeros(file)
                return true
            }
            unfinished = nil
            try makeReady(file)
            return true
        }
        if free.count + spares.count > 1, live.count + free.count + spares.count > keptFileCount {
            try removeSurplus()
            return true
        }
        guard spares.isEmpty else {
            return false
        }
        if let file = takeFree() {
            try makeReady(file)
            return true
        }
        guard activeFile.writePosition >= activeFile.byteCount / 4 else {
            return false
        }
        unfinished = try createFile(byteCount: configuration.fileByteCount)
        return true
    }

    /// Takes the next file into use, made ready now if no spare is.
    ///
    /// - Throws: `.volumeFull` or `.disk` when there is none and none can be made; nothing has changed then.
    func beginFile(roomFor roundByteCount: Int) throws(StorageError) {
        let room = JournalLayout.firstRoundPosition + roundByteCount + JournalLayout.blockByteCount
        let file = try nextFile()
        do {
            try grow(file, to: max(room, configuration.fileByteCount))
        } catch {
            spares.insert(file, at: 0)
            throw error
        }
        file.writePosition = JournalLayout.firstRoundPosition
        live.append(file)
    }

    private func nextFile() throws(StorageError) -> JournalFile {
        if !spares.isEmpty {
            return spares.removeFirst()
        }
        statistics.waitedForFileCount += 1
        if free.isEmpty, canTellWhatIsFree {
            _ = try write(.seal)
        }
        if let file = takeFree() {
            try makeReady(file)
        } else if let file = unfinished {
            unfinished = nil
            try makeReady(file)
        } else {
            try makeReady(createFile(byteCount: configuration.fileByteCount))
        }
        return spares.removeFirst()
    }

    /// Whether an empty round in the last block of the active file, kept for this, makes files free.
    private var canTellWhatIsFree: Bool {
        guard let active = live.last, !areStatesOwed else {
            return false
        }
        return oldestNeededGeneration > durableOldestGeneration
            && active.writePosition > JournalLayout.firstRoundPosition
            && active.byteCount - active.writePosition >= JournalLayout.blockByteCount
    }

    /// Moves files that no durable round calls needed from `live` to `free`.
    func settle() {
        while live.count > 1, let file = live.first, file.generation < durableOldestGeneration {
            live.removeFirst()
            free.append(file)
        }
    }

    private func takeFree() -> JournalFile? {
        free.isEmpty ? nil : free.removeFirst()
    }

    /// Gives a file its next generation: after this its old rounds are stale bytes.
    private func makeReady(_ file: JournalFile) throws(StorageError) {
        if file.generation > 0 {
            statistics.recycledFileCount += 1
        }
        let header = JournalFileHeader(identity: identity, generation: nextGeneration)
        do {
            if file.byteCount != configuration.fileByteCount {
                try file.file.truncate(to: Int64(configuration.fileByteCount))
                file.zeroedByteCount = min(file.zeroedByteCount, configuration.fileByteCount)
                file.byteCount = configuration.fileByteCount
            }
            try file.file.write([header.encodedTwice()], at: 0)
        } catch {
            free.insert(file, at: 0)
            throw storageError(error, needed: JournalLayout.firstRoundPosition)
        }
        try sync(file)
        if file.generation == 0 {
            do {
                try syncNames()
            } catch {
                free.insert(file, at: 0)
                throw error
            }
        }
        file.generation = nextGeneration
        nextGeneration += 1
        spares.append(file)
    }

    private func createFile(byteCount: Int) throws(StorageError) -> JournalFile {
        let path = directory + "/" + JournalFile.name(slot: nextSlot)
        do throws(DiskError) {
            let file = try disk.open(path, .createNew)
            do throws(DiskError) {
                try file.truncate(to: Int64(byteCount))
                try file.allocate(0..<Int64(byteCount))
            } catch {
                try disk.remove(path)
                throw error
            }
            let made = JournalFile(
                file: file,
                slot: nextSlot,
                generation: 0,
                byteCount: byteCount,
                zeroedByteCount: 0
            )
            nextSlot += 1
            statistics.createdFileCount += 1
            return made
        } catch {
            throw storageError(error, needed: byteCount)
        }
    }

    /// A name that a crash takes back would take the file's rounds with it.
    func syncNames() throws(StorageError) {
        do {
            try disk.syncDirectory(directory)
        } catch {
            throw StorageError(syncing: error)
        }
    }

    private func grow(_ file: JournalFile, to byteCount: Int) throws(StorageError) {
        guard file.byteCount < byteCount else {
            return
        }
        let rounded = JournalLayout.padded(byteCount)
        do {
            try file.file.allocate(Int64(file.byteCount)..<Int64(rounded))
        } catch {
            throw storageError(error, needed: rounded - file.byteCount)
        }
        file.byteCount = rounded
    }

    /// Writes zeros where nothing was written yet, behind the last round, and syncs them.
    private func fillWithZeros(_ file: JournalFile) throws(StorageError) {
        let isActive = live.last === file
        if isActive {
            file.zeroedByteCount = max(file.zeroedByteCount, file.writePosition)
        }
        let end = min(file.zeroedByteCount + configuration.stepByteCount, file.byteCount)
        try writeZeros(file, upTo: end)
        try sync(file)
    }

    private func writeZeros(_ file: JournalFile, upTo end: Int) throws(StorageError) {
        let start = file.zeroedByteCount
        guard start < end else {
            return
        }
        var pieces: [ByteBuffer] = []
        var missing = end - start
        while missing > 0 {
            let count = min(missing, Self.zeros.readableBytes)
            if let piece = Self.zeros.getSlice(at: 0, length: count) {
                pieces.append(piece)
            }
            missing -= count
        }
        do {
            try file.file.write(pieces, at: Int64(start))
        } catch {
            throw storageError(error, needed: end - start)
        }
        file.zeroedByteCount = end
    }

    private func removeSurplus() throws(StorageError) {
        guard let file = free.popLast() ?? spares.popLast() else {
            return
        }
        do {
            try disk.remove(file.file.path)
            try disk.syncDirectory(directory)
        } catch {
            throw .disk(error)
        }
    }

    private func storageError(_ error: DiskError, needed: Int) -> StorageError {
        guard case .noSpace = error else {
            return .disk(error)
        }
        return volumeFull(needed: needed)
    }
}
