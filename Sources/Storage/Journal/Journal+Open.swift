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
            try disk.createDirectory(directory)
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
        adopt(recovery, replay)
        try adopt(files, chain)
        statistics.tornTailCount = recovery.tornTail == nil ? 0 : 1
        statistics.damageCount = recovery.damage.count
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

    // MARK: Replay

    private func apply(
        _ chain: JournalChain,
        _ files: [JournalScannedFile],
        to replay: inout JournalReplay,
        _ recovery: inout JournalRecovery
    ) throws(StorageError) {
        for (place, link) in chain.links.enumerated() {
            switch link {
            case .round(let sighting):
                let header = sighting.header
                noteFileHeader(of: sighting, &recovery)
                note(
                    sighting.content,
                    in: sighting.file.path,
                    at: header.position,
                    generation: header.generation,
                    isEchoJudged: !chain.isLastOfLife(place),
                    to: &replay,
                    &recovery
                )
            case .missing(let number, let successor, let predecessor):
                try applyMissing(number, successor, predecessor, files, to: &replay, &recovery)
            }
        }
    }

    private func noteFileHeader(of sighting: JournalSighting, _ recovery: inout JournalRecovery) {
        guard sighting.header.isFileStart else {
            return
        }
        for position in sighting.file.badHeaderPositions {
            let damage = JournalDamage(
                file: sighting.file.path,
                position: position,
                kind: .fileHeader
            )
            recovery.damage.append(damage)
        }
    }

    /// Applies what could be read of a round and tells what could not.
    private func note(
        _ content: JournalRoundContent,
        in file: String,
        at position: Int,
        generation: UInt64,
        isEchoJudged: Bool,
        to replay: inout JournalReplay,
        _ recovery: inout JournalRecovery
    ) {
        var kinds: [JournalDamage.Kind] = []
        if !content.areRecordsReadable {
            replay.noteUnreadableRound(votesKept: content.areVotesKept)
            kinds.append(.records(votesKept: content.areVotesKept))
        } else {
            if !content.lostEntries.isEmpty {
                kinds.append(.payload(lost: content.lostEntries))
            }
            if !content.isEchoWhole, isEchoJudged {
                kinds.append(.echo)
            }
        }
        for record in content.records {
            replay.apply(record, generation: generation)
        }
        for kind in kinds {
            recovery.damage.append(JournalDamage(file: file, position: position, kind: kind))
        }
    }

    /// Looks for a round whose header is gone where its successor says that it ends.
    private func applyMissing(
        _ number: UInt64,
        _ successor: JournalSighting,
        _ predecessor: JournalSighting?,
        _ files: [JournalScannedFile],
        to replay: inout JournalReplay,
        _ recovery: inout JournalRecovery
    ) throws(StorageError) {
        let shape = successor.header.previousShape
        guard let place = try place(of: shape, successor, predecessor, files) else {
            replay.noteUnreadableRound(votesKept: false)
            recovery.damage.append(JournalDamage(file: directory, position: 0, kind: .rounds))
            return
        }
        let file = place.file
        let content = try file.content(at: place.position, shape: shape, number: number)
        let precedingEnd = predecessor.flatMap { $0.file === file ? $0.header.endPosition : nil }
        let generation = file.generation ?? successor.header.generation
        let start = precedingEnd ?? JournalLayout.firstRoundPosition
        // Without a predecessor it must be the head of the oldest file, or older files are gone.
        let isComplete = predecessor != nil || generation <= successor.header.oldestGeneration
        if place.position != start || !isComplete {
            // More than this one is gone, and nothing tells how much it held.
            replay.noteUnreadableRound(votesKept: false)
            recovery.damage.append(JournalDamage(file: file.path, position: start, kind: .rounds))
            for echo in file.echoes
            where echo.number < number && echo.number > predecessor?.header.number ?? 0 {
                for record in echo.records {
                    replay.apply(record, generation: generation)
                }
            }
        }
        recovery.damage.append(
            JournalDamage(file: file.path, position: place.position, kind: .roundHeader)
        )
        note(
            content,
            in: file.path,
            at: place.position,
            generation: generation,
            isEchoJudged: true,
            to: &replay,
            &recovery
        )
    }

    /// Where the round before `successor` must have been: right before it, or at the end of an
    /// earlier file.
    private func place(
        of shape: JournalRoundShape,
        _ successor: JournalSighting,
        _ predecessor: JournalSighting?,
        _ files: [JournalScannedFile]
    ) throws(StorageError) -> (file: JournalScannedFile, position: Int)? {
        if !successor.header.isFileStart {
            let position = successor.header.position - shape.roundByteCount
            return position < JournalLayout.firstRoundPosition ? nil : (successor.file, position)
        }
        var places: [(file: JournalScannedFile, position: Int)] = []
        if let predecessor {
            places.append((predecessor.file, predecessor.header.endPosition))
        }
        for file in files where file.sightings.isEmpty {
            let generation = file.generation ?? 0
            if generation > predecessor?.header.generation ?? 0,
                generation < successor.header.generation
            {
                places.append((file, JournalLayout.firstRoundPosition))
            }
        }
        for place in places where place.position + shape.roundByteCount <= place.file.byteCount {
            let content = try place.file.content(
                at: place.position,
                shape: shape,
                number: successor.header.previousNumber
            )
            if content.areRecordsReadable, shape.recordCount > 0 || places.count == 1 {
                return place
            }
        }
        return places.first
    }

    /// Judges what follows the last whole round.
    private func applyTail(
        _ chain: JournalChain,
        _ files: [JournalScannedFile],
        to replay: inout JournalReplay,
        _ recovery: inout JournalRecovery
    ) {
        guard let last = chain.last else {
            return
        }
        let start = chain.torn == nil ? last.header.endPosition : last.header.position
        let end = last.header.endPosition + JournalLayout.blockByteCount
        if last.file.unreadablePositions.contains(where: { (start..<end).contains($0) }) {
            replay.noteUnreadableRound(votesKept: false)
            recovery.damage.append(
                JournalDamage(file: last.file.path, position: start, kind: .rounds)
            )
            return
        }
        if let torn = chain.torn {
            replay.applyVotes(torn.content.records)
            recovery.tornTail = JournalTornTail(
                file: torn.file.path,
                position: torn.header.position,
                round: torn.header.number
            )
        }
        for file in files {
            for echo in file.echoes where echo.number > last.header.number {
                replay.applyVotes(echo.records)
                let position = file === last.file ? start : JournalLayout.firstRoundPosition
                recovery.tornTail = JournalTornTail(
                    file: file.path,
                    position: position,
                    round: echo.number
                )
            }
        }
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
        // A round that left no trace may have had the next numbers.
        nextRoundNumber = highestNumber == 0 ? 1 : highestNumber + 1024
        durableOldestGeneration = chain.oldestGeneration
        guard let last = chain.last else {
            return
        }
        let isTorn = chain.torn != nil
        lastRoundNumber = isTorn ? last.header.previousNumber : last.header.number
        lastShape = isTorn ? last.header.previousShape : last.header.shape
        activeFile.writePosition = isTorn ? last.header.position : last.header.endPosition
    }

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
