package import FlotillaEnvironment

/// Start-up: which files there are, what their rounds say, where the next round goes.
///
/// The last round decides between two very different findings. Nothing valid follows a *torn tail*:
/// its write was cut by a crash before it was durable, so nothing in it was acknowledged, and it is
/// cut off. A *damaged* round is followed by one that was written only after it was durable: what
/// it held may have been acknowledged, so it is told, never cut, and the groups concerned are
/// suspect until a leader has matched them.
extension Journal {
    /// Opens the journal of a data directory, or makes one when both directories are new.
    ///
    /// Ends with a round of its own, so that what is reported is durable and sealed, even after the
    /// process alone was killed. On a full disk that round is left out, see `lastObstacle`.
    ///
    /// `newIdentity`: makes an id from random bits. `pastPageCache`: whether to read from the
    /// medium, as must be done after a sync has failed.
    ///
    /// - Throws: `.journalMissing`, `.journalForeign`, `.identityDamaged`: a new incarnation is
    ///   needed, see `beginIncarnation`; `.unsupportedVersion`, `.unsupportedRecordKind`,
    ///   `.volumeFull`, `.disk`, `.syncFailed`.
    package static func open(
        _ directories: JournalDirectories,
        disk: any Disk,
        configuration: JournalConfiguration,
        newIdentity: () -> DirectoryID,
        pastPageCache: Bool = false
    ) throws(StorageError) -> (Journal, JournalRecovery) {
        let slots = try fileSlots(in: directories.journal, disk: disk)
        let identity = try JournalIdentityFiles(directories: directories, disk: disk)
            .resolve(hasJournalFiles: !slots.isEmpty, newIdentity: newIdentity)
        let journal = Journal(
            directory: directories.journal,
            disk: disk,
            identity: identity,
            configuration: configuration
        )
        journal.nextSlot = (slots.last ?? -1) + 1
        let marker = try JournalCleanMarker(in: directories.journal, disk: disk, key: identity.key)
        var (files, chain) = try journal.scan(slots, until: marker, pastPageCache)
        if let marker, marker.number != chain.last?.header.number {
            (files, chain) = try journal.scan(slots, until: nil, pastPageCache)
        }
        return (journal, try journal.recover(files, chain))
    }

    /// Whether journal and data directory belong together; makes and changes nothing.
    ///
    /// - Throws: `.journalMissing`, `.journalForeign`, `.identityDamaged`, `.unsupportedVersion`, `.disk`.
    package static func checkIdentity(
        _ directories: JournalDirectories,
        disk: any Disk
    ) throws(StorageError) {
        try JournalIdentityFiles(directories: directories, disk: disk).check()
    }

    /// Gives both directories a new identity and sets the files of the former journal aside, in a
    /// folder of their own; the replicas must come back with new creation epochs.
    package static func beginIncarnation(
        _ directories: JournalDirectories,
        disk: any Disk,
        newIdentity: () -> DirectoryID
    ) throws(StorageError) {
        let folder = directories.journal + "/set-aside-\(newIdentity())"
        let slots = try fileSlots(in: directories.journal, disk: disk)
        do {
            if !slots.isEmpty {
                try disk.createDirectory(folder)
            }
            for slot in slots {
                let name = JournalFile.name(slot: slot)
                try disk.rename(directories.journal + "/" + name, to: folder + "/" + name)
            }
            // Without their name nobody could read the files again.
            let name = JournalIdentity.fileName
            if !slots.isEmpty, try disk.exists(directories.journal + "/" + name) {
                try disk.rename(directories.journal + "/" + name, to: folder + "/" + name)
            }
            if !slots.isEmpty {
                try disk.syncDirectory(folder)
            }
            try disk.syncDirectory(directories.journal)
        } catch {
            throw .disk(error)
        }
        _ = try JournalIdentityFiles(directories: directories, disk: disk).create(
            newIdentity: newIdentity
        )
    }

    private static func fileSlots(in directory: String, disk: any Disk) throws(StorageError)
        -> [Int]
    {
        do {
            try disk.createLastingDirectory(directory)
            return try disk.list(directory).compactMap(JournalFile.slot(ofName:)).sorted()
        } catch {
            throw .disk(error)
        }
    }

    /// Opens the files of some slots and finds the rounds in them that matter.
    private func scan(
        _ slots: [Int],
        until marker: JournalCleanMarker?,
        _ pastPageCache: Bool
    ) throws(StorageError) -> ([JournalScannedFile], JournalChain) {
        var files: [JournalScannedFile] = []
        for slot in slots {
            let path = directory + "/" + JournalFile.name(slot: slot)
            let file = try JournalScannedFile(
                path: path,
                slot: slot,
                disk: disk,
                identity: identity,
                pastPageCache: pastPageCache
            )
            files.append(file)
        }
        return (files, JournalChain(try sightings(in: files, until: marker)))
    }

    private func recover(
        _ files: [JournalScannedFile],
        _ chain: JournalChain
    ) throws(StorageError) -> JournalRecovery {
        var recovery = JournalRecovery()
        recovery.isNew = chain.last == nil
        recovery.wasClean = chain.torn == nil && chain.last?.header.isCleanStop == true
        var replay = JournalReplay()
        try apply(chain, files, to: &replay, &recovery)
        applyTail(chain, files, to: &replay, &recovery)
        recovery.groups = replay.finish()
        recovery.areUnknownGroupsSuspect = replay.isAnythingInDoubt
        recovery.areUnknownVotesLost = replay.isAnyHardStateInDoubt
        adopt(recovery, replay)
        try adopt(files, chain)
        statistics.tornTailCount = recovery.tornTail == nil ? 0 : 1
        statistics.damageCount = recovery.damage.count
        if chain.torn == nil, let last = chain.last { try last.file.restore(last.header) }
        try writeOpeningRound(recovery)
        return recovery
    }

    /// Reads files from the newest back to the oldest that is needed: what lies in older ones was
    /// settled.
    private func sightings(
        in files: [JournalScannedFile],
        until marker: JournalCleanMarker?
    ) throws(StorageError) -> [JournalSighting] {
        var sightings: [JournalSighting] = []
        var oldestGeneration: UInt64 = 0
        // Files without a readable header come first: only their rounds tell where they belong.
        let ordered = files.sorted {
            ($0.generation ?? .max, $0.slot) > ($1.generation ?? .max, $1.slot)
        }
        for file in ordered {
            if let generation = file.generation, generation < oldestGeneration {
                break
            }
            try file.scan(until: marker)
            sightings += file.sightings
            if !sightings.isEmpty {
                oldestGeneration = JournalChain(sightings).oldestGeneration
            }
        }
        return sightings
    }

    // MARK: Taking over

    private func adopt(_ recovery: JournalRecovery, _ replay: JournalReplay) {
        ledger = replay.ledger
        for (name, found) in recovery.groups {
            var state = JournalGroupState()
            state.hardState = found.hardState
            state.commitIndex = found.commitIndex
            state.membership = found.membership
            state.tail = found.tail
            state.isSuspect = found.isSuspect
            state.isHardStateLost = found.isHardStateLost
            groups[name] = state
        }
    }

    private func adopt(_ files: [JournalScannedFile], _ chain: JournalChain) throws(StorageError) {
        var highestNumber = chain.last?.header.number ?? 0
        let ordered = files.sorted { ($0.generation ?? 0, $0.slot) < ($1.generation ?? 0, $1.slot) }
        for scanned in ordered {
            highestNumber = max(highestNumber, scanned.echoes.map(\.number).max() ?? 0)
            nextGeneration = max(nextGeneration, (scanned.generation ?? 0) + 1)
            let file = JournalFile(
                file: scanned.file,
                slot: scanned.slot,
                generation: scanned.generation ?? 0,
                byteCount: scanned.byteCount,
                zeroedByteCount: scanned.byteCount
            )
            if let last = chain.last, scanned.isNeeded(from: chain, through: last) {
                file.writePosition = scanned.sightings.last?.header.endPosition ?? scanned.byteCount
                live.append(file)
            } else if scanned.isSettled {
                free.append(file)
            } else {
                try setAside(scanned)
            }
        }
        nextRoundNumber = highestNumber == 0 ? 1 : highestNumber + Self.tracelessRoundCount
        durableOldestGeneration = chain.oldestGeneration
        guard let last = chain.last else {
            return
        }
        let isTorn = chain.torn != nil
        lastRoundNumber = isTorn ? last.header.previousNumber : last.header.number
        lastShape = isTorn ? last.header.previousShape : last.header.shape
        activeFile.writePosition = isTorn ? last.header.position : last.header.endPosition
    }

    /// A round that left no trace may have had the next numbers: many did where one was tried again
    /// and again on a full disk.
    private static let tracelessRoundCount: UInt64 = 1 << 32

    /// Keeps a file that nobody can place where it does not get in the way.
    private func setAside(_ file: JournalScannedFile) throws(StorageError) {
        do {
            try disk.rename(file.path, to: file.path + ".unreadable")
            try disk.syncDirectory(directory)
        } catch {
            throw .disk(error)
        }
    }

    private func writeOpeningRound(_ recovery: JournalRecovery) throws(StorageError) {
        let isFlawed = recovery.groups.contains { $0.state.isSuspect || $0.state.isHardStateLost }
        // Votes of a torn round would go with it, and suspicion with the file that shows the
        // damage.
        areStatesOwed = isFlawed || recovery.tornTail != nil
        do {
            try disk.remove(directory + "/" + JournalCleanMarker.fileName)
        } catch {
            throw .disk(error)
        }
        // A process that was killed may have left names and a last round that only the page cache
        // knows.
        try syncNames()
        if let active = live.last {
            try sync(active)
        }
        do {
            _ = try write(.seal)
        } catch {
            guard case .volumeFull = error, !live.isEmpty else {
                throw error
            }
            isSealNeeded = true
            lastObstacle = error
        }
    }
}

extension JournalScannedFile {
    /// Whether the file belongs to what the last round calls needed.
    ///
    /// A file between those that has no round is a spare of an earlier life, unless rounds are
    /// missing.
    fileprivate func isNeeded(from chain: JournalChain, through last: JournalSighting) -> Bool {
        guard let generation, !sightings.isEmpty || chain.isBroken else {
            return false
        }
        return generation >= chain.oldestGeneration && generation <= last.header.generation
    }

    /// Whether the file may be overwritten: it has a place in the journal's order, or never had
    /// one.
    fileprivate var isSettled: Bool {
        generation != nil || isBlank
    }
}
