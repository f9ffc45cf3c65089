import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords

import struct NIOCore.ByteBuffer

/// What could be read of a round.
struct JournalRoundContent {
    /// The records from the round itself, or those of its echo when the round's own are unreadable.
    var records: [JournalFoundRecord] = []
    /// Whether all records are known.
    var areRecordsReadable = false
    /// Whether the second copy of votes and states is whole, or there is none.
    var isEchoWhole = false
    /// Entries whose payload is damaged.
    var lostEntries: [JournalLostEntry] = []

    var isWhole: Bool {
        areRecordsReadable && lostEntries.isEmpty
    }

    /// Whether every vote of the round is known.
    var areVotesKept: Bool {
        areRecordsReadable || isEchoWhole
    }
}

/// A round whose header is valid.
struct JournalSighting {
    var header: JournalRoundHeader
    /// The file that it lies in, which has the sighting in its list.
    unowned var file: JournalScannedFile
    var content: JournalRoundContent
}

/// An echo that was met where no round was readable.
struct JournalEchoSighting {
    var number: UInt64
    var records: [JournalFoundRecord]
}

/// Reads one file of the journal from end to end and tells what lies in it.
///
/// Rounds follow each other without a gap; where one's header is unreadable, every later block is
/// looked at, since the rounds behind it decide whether it was sealed.
final class JournalScannedFile {
    private static let searchByteCount = 1 << 20

    let file: any DiskFile
    let path: String
    let slot: Int
    let byteCount: Int
    let key: UInt64
    private let pastPageCache: Bool

    /// From the file's header, or from its first round where both copies are bad.
    private(set) var generation: UInt64?
    /// Damaged copies of the header: their positions.
    private(set) var badHeaderPositions: [Int] = []
    /// Whether the header's place holds zeros only: a file that was never made ready.
    private(set) var isBlank = false
    private(set) var sightings: [JournalSighting] = []
    private(set) var echoes: [JournalEchoSighting] = []
    /// Where the medium refused to be read.
    private(set) var unreadablePositions: [Int] = []

    /// Opens the file and reads its header.
    ///
    /// - Throws: `.journalForeign` when another journal's file lies here, `.unsupportedVersion`, `.disk`.
    init(
        path: String,
        slot: Int,
        disk: any Disk,
        identity: JournalIdentity,
        pastPageCache: Bool
    ) throws(StorageError) {
        self.path = path
        self.slot = slot
        self.pastPageCache = pastPageCache
        key = identity.key
        do {
            file = try disk.open(path, .readWrite)
            byteCount = Int(try file.byteCount())
        } catch {
            throw .disk(error)
        }
        try readHeader(identity)
    }

    private func readHeader(_ identity: JournalIdentity) throws(StorageError) {
        let bytes = try read(at: 0, count: JournalLayout.firstRoundPosition)
        for position in [0, JournalLayout.blockByteCount] {
            guard let header = try JournalFileHeader(copyAt: position, of: bytes, file: path) else {
                badHeaderPositions.append(position)
                continue
            }
            guard header.identity == identity else {
                throw .journalForeign(
                    directory: path,
                    expected: "journal \(identity.journal)",
                    found: "journal \(header.identity.journal)"
                )
            }
            // Two different generations are a file that was being made ready: the newer one counts.
            generation = max(generation ?? 0, header.generation)
        }
        isBlank = bytes.readableBytesView.allSatisfy { $0 == 0 }
    }

    /// Finds every round and every stray echo.
    ///
    /// `marker`: where the journal ended cleanly; unless a round begins right there, nothing is
    /// searched behind it.
    func scan(until marker: JournalCleanMarker?) throws(StorageError) {
        var position = JournalLayout.firstRoundPosition
        while position + JournalLayout.blockByteCount <= byteCount {
            let block = try read(at: position, count: JournalLayout.blockByteCount)
            if let header = try header(in: block, at: position) {
                position = try note(header)
            } else if isEnd(position, marker) {
                return
            } else {
                position = try search(from: position)
            }
        }
    }

    private func isEnd(_ position: Int, _ marker: JournalCleanMarker?) -> Bool {
        guard let marker, let generation else {
            return false
        }
        guard generation == marker.generation else {
            return generation > marker.generation && sightings.isEmpty
        }
        return position == marker.endPosition && sightings.last?.header.number == marker.number
    }

    private func note(_ header: JournalRoundHeader) throws(StorageError) -> Int {
        generation = header.generation
        let content = try content(at: header.position, shape: header.shape, number: header.number)
        sightings.append(JournalSighting(header: header, file: self, content: content))
        return header.endPosition
    }

    /// Looks at every block from `start` on; returns where the next round begins, or the end of the
    /// file.
    private func search(from start: Int) throws(StorageError) -> Int {
        var position = start
        while position + JournalLayout.blockByteCount <= byteCount {
            let chunk = try read(
                at: position,
                count: min(Self.searchByteCount, byteCount - position)
            )
            var offset = 0
            while offset + JournalLayout.blockByteCount <= chunk.readableBytes {
                if try isRound(in: chunk, offset: offset, at: position + offset) {
                    return position + offset
                }
                offset += JournalLayout.blockByteCount
            }
            guard offset > 0 else {
                return byteCount
            }
            position += offset
        }
        return byteCount
    }

    private func isRound(in chunk: ByteBuffer, offset: Int, at position: Int) throws(StorageError)
        -> Bool
    {
        let word = chunk.journalWord(at: offset)
        guard word == JournalRoundHeader.magic || word == JournalEchoHeader.magic else {
            return false
        }
        guard let block = chunk.getSlice(at: offset, length: JournalLayout.blockByteCount) else {
            return false
        }
        if word == JournalEchoHeader.magic {
            if let header = try JournalEchoHeader(block: block, file: path),
                isOurs(header, at: position)
            {
                let records = try echoRecords(at: position, number: header.number) ?? []
                echoes.append(JournalEchoSighting(number: header.number, records: records))
            }
            return false
        }
        return try header(in: block, at: position) != nil
    }

    /// The header at a place, if it is one of this file's present life and follows what was found
    /// before it.
    private func header(in block: ByteBuffer, at position: Int) throws(StorageError)
        -> JournalRoundHeader?
    {
        guard
            let header = try JournalRoundHeader(block: block, file: path),
            header.key == key, header.position == position,
            header.generation == generation ?? header.generation,
            header.number > sightings.last?.header.number ?? 0,
            (0...Frame.maximumPayloadByteCount).contains(header.shape.payloadByteCount)
        else {
            return nil
        }
        return header
    }

    private func isOurs(_ header: JournalEchoHeader, at position: Int) -> Bool {
        header.key == key && header.position == position
            && header.generation == generation ?? header.generation
            && header.number > sightings.last?.header.number ?? 0
    }

    // MARK: Rounds

    /// Reads a round of known shape, wherever its header was found.
    func content(
        at position: Int,
        shape: JournalRoundShape,
        number: UInt64
    ) throws(StorageError) -> JournalRoundContent {
        var content = JournalRoundContent()
        let echo =
            shape.echoByteCount == 0
            ? []
            : try echoRecords(at: position + shape.echoPosition, number: number)
        content.isEchoWhole = echo != nil
        let bytes = try read(at: position, count: shape.echoPosition)
        let headsStart = JournalRoundHeader.byteCount
        let payloadStart = headsStart + shape.headsByteCount
        guard
            let heads = bytes.getSlice(at: headsStart, length: shape.headsByteCount),
            let payloads = bytes.getSlice(at: payloadStart, length: shape.payloadByteCount),
            CRC32C.checksum(heads) == shape.headsChecksum
        else {
            content.records = echo ?? []
            return content
        }
        content.areRecordsReadable = true
        content.records = try found(in: heads, payloads: payloads, lost: &content.lostEntries)
        return content
    }

    private func found(
        in heads: ByteBuffer,
        payloads: ByteBuffer,
        lost: inout [JournalLostEntry]
    ) throws(StorageError) -> [JournalFoundRecord] {
        var payloads = payloads
        var reader = JournalRecordReader(heads, file: path)
        var records: [JournalFoundRecord] = []
        for decoded in try reader.readAll() {
            switch decoded.content {
            case .record(let record):
                records.append(JournalFoundRecord(group: decoded.group, content: .record(record)))
            case .groupState(let state):
                records.append(
                    JournalFoundRecord(group: decoded.group, content: .groupState(state))
                )
            case .entries(let frames):
                var entries: [JournalFoundEntry] = []
                entries.reserveCapacity(frames.count)
                for frame in frames {
                    let entry = Self.entry(
                        frame,
                        payloads.readSlice(length: frame.payloadByteCount)
                    )
                    if entry == nil {
                        lost.append(JournalLostEntry(group: decoded.group, index: frame.index))
                    }
                    entries.append(JournalFoundEntry(frame: frame, entry: entry))
                }
                records.append(JournalFoundRecord(group: decoded.group, content: .entries(entries)))
            }
        }
        return records
    }

    /// The entry, if every byte of it is as its leader made it.
    private static func entry(_ frame: Frame, _ payload: ByteBuffer?) -> LogEntry? {
        guard let payload else {
            return nil
        }
        do {
            let entry = try LogEntry(frame: frame, payload: payload)
            try entry.verifyBatch()
            return entry
        } catch {
            return nil
        }
    }

    /// The records of an echo; nil when it is not whole.
    private func echoRecords(at position: Int, number: UInt64) throws(StorageError)
        -> [JournalFoundRecord]?
    {
        let block = try read(at: position, count: JournalLayout.blockByteCount)
        guard
            let header = try JournalEchoHeader(block: block, file: path),
            header.key == key, header.position == position, header.number == number,
            header.recordsByteCount <= byteCount
        else {
            return nil
        }
        let bytes = try read(
            at: position + JournalEchoHeader.byteCount,
            count: header.recordsByteCount
        )
        guard
            bytes.readableBytes == header.recordsByteCount,
            CRC32C.checksum(bytes) == header.recordsChecksum
        else {
            return nil
        }
        var lost: [JournalLostEntry] = []
        return try found(in: bytes, payloads: ByteBuffer(), lost: &lost)
    }

    // MARK: Reading

    /// Has the page cache hold a round as the medium does, where that was read.
    ///
    /// A start after a failed sync may not have known the round, have written over it and failed to sync that in turn; the next sync of
    /// the file would take the round away for good.
    func restore(_ round: JournalRoundHeader) throws(StorageError) {
        guard pastPageCache else { return }
        let blocks = stride(
            from: round.position,
            to: round.endPosition,
            by: JournalLayout.blockByteCount
        )
        for position in blocks {
            let count = min(JournalLayout.blockByteCount, round.endPosition - position)
            // What the medium refuses was not read, and stays as it is: the second copy of the votes.
            guard let bytes = try readable(at: position, count: count) else { continue }
            do {
                try file.write([bytes], at: Int64(position))
            } catch {
                throw .disk(error)
            }
        }
    }

    /// Reads what the medium gives; blocks that it refuses are remembered and read as zeros.
    private func read(at position: Int, count: Int) throws(StorageError) -> ByteBuffer {
        if let whole = try readable(at: position, count: count) { return whole }
        var bytes = ByteBuffer()
        var start = position
        while start < min(position + count, byteCount) {
            let blockEnd = JournalLayout.padded(start + 1)
            let length = min(blockEnd, position + count, byteCount) - start
            if let block = try readable(at: start, count: length) {
                bytes.writeImmutableBuffer(block)
            } else {
                unreadablePositions.append(start)
                bytes.writeRepeatingByte(0, count: length)
            }
            start += length
        }
        return bytes
    }

    /// - Returns: the bytes; nil where the medium refuses to give some of them.
    private func readable(at position: Int, count: Int) throws(StorageError) -> ByteBuffer? {
        do {
            return pastPageCache
                ? try file.readUncached(at: Int64(position), count: count)
                : try file.read(at: Int64(position), count: count)
        } catch {
            guard case .failed = error else { throw .disk(error) }
            return nil
        }
    }
}
