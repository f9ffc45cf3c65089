import FlotillaModel

/// What the rounds of a recovered journal say, and which of them damage has touched.
///
/// A round is applied as far as it is readable; its header, its records and its payloads have
/// second sources of their own: the next round's header, the echo, and the peers.
extension Journal {
    /// Applies every sealed round, and the last one if it is whole; tells what is damaged.
    func apply(
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
    func applyTail(
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
}
