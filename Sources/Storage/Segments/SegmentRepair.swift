import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import struct NIOCore.ByteBuffer

/// Heals a segment: from what is left of its entries, and from entries that a peer sent.
///
/// A file that has to change is copied beside, the copy is changed and synced, and then takes the
/// file's name; so a crash leaves the one or the other. Every file that was replaced is nearer to
/// what it was, whichever of the three a crash lets through. Bytes that nobody can vouch for are
/// kept as they are.
package struct SegmentRepair: Sendable {
    let disk: any Disk
    let directory: String
    let partition: TopicPartition
    let name: SegmentName
    /// The segment's number of rows, and the offset after its last record.
    let end: (row: Int, offset: Offset)
    let files: SegmentFiles?
    /// The segments right before and behind, if the log has them.
    let previous: SegmentName?
    let next: SegmentName?
    /// The last entry, of a segment that is still written to.
    let lastMark: LogMark?
    let offers: [LogEntry]

    /// Does the work; blocks.
    package func perform() -> SegmentRepairResult {
        do throws(StorageError) {
            return SegmentRepairResult(repair: self, outcome: .success(try heal()))
        } catch {
            return SegmentRepairResult(repair: self, outcome: .failure(error))
        }
    }

    private func heal() throws(StorageError) -> SegmentRepairOutcome {
        try checkOffers()
        // What is to be read from the medium has to be there first.
        let files = if let files { files } else { try openOrMake() }
        do {
            try files.sync()
        } catch {
            throw .syncFailed(error)
        }
        let scanner = try scan(name)
        let before = try entryBefore(scanner)
        var walk = RepairWalk(
            scanner,
            in: directory,
            end: end,
            after: before,
            before: try linkBehind(),
            offers: offers
        )
        try walk.run()
        var edits = try Edits(walk)
        edits.header = try header(walk, before)
        var healed = files
        if !edits.isEmpty { healed = try replace(files, edits) }
        var remaining = walk.remaining
        if edits.header == nil, !isSound(scanner.header) {
            remaining.append(damagedHeader)
        }
        return SegmentRepairOutcome(
            files: healed,
            healedCount: walk.changes.count + (edits.header == nil ? 0 : 1),
            extent: walk.extent,
            lastMark: walk.mark,
            terms: walk.terms,
            remaining: remaining
        )
    }

    private func checkOffers() throws(StorageError) {
        for (number, entry) in offers.enumerated()
        where entry.frame.index != offers[0].frame.index + UInt64(number) {
            throw .repairRefused(
                file: "\(directory)/\(name.fileName(.frames))",
                at: entry.frame.index
            )
        }
    }

    // MARK: Neighbours

    private func open(_ name: SegmentName, _ mode: OpenMode) throws(StorageError) -> SegmentFiles {
        try onDisk { () throws(DiskError) in
            try SegmentFiles.open(name, in: directory, on: disk, mode)
        }
    }

    private func scan(_ name: SegmentName) throws(StorageError) -> SegmentScanner {
        let manner = SegmentScanner.Manner(isUncached: true, verifiesPayload: true)
        return try onDisk { () throws(DiskError) in
            try SegmentScanner(name, in: directory, on: disk, manner)
        }
    }

    /// A file that is gone is made again, so that its bytes have a place.
    private func openOrMake() throws(StorageError) -> SegmentFiles {
        let files = try open(name, .create)
        try StagingPlace.sync(directory, on: disk)
        return files
    }

    /// A neighbour, if all of its files are there.
    private func scanIfThere(_ name: SegmentName) throws(StorageError) -> SegmentScanner? {
        do {
            return try scan(name)
        } catch .disk(.notFound) {
            return nil
        } catch {
            throw error
        }
    }

    private func stateMark(_ name: SegmentName) throws(StorageError) -> LogMark? {
        do throws(DiskError) {
            let read = try LogState.read(name, of: partition, in: directory, on: disk)
            return try? read.get().mark
        } catch .notFound {
            return nil
        } catch {
            throw .disk(error)
        }
    }

    /// The entry before the segment, from whoever knows it.
    private func entryBefore(_ scanner: SegmentScanner) throws(StorageError) -> LogMark? {
        if name.firstIndex == LogIndex(1) { return .start }
        if let mark = try stateMark(name) { return mark }
        if let previous, var scanner = try scanIfThere(previous) {
            let last = Int(name.firstIndex.rawValue - previous.firstIndex.rawValue) - 1
            let row = try onDisk { () throws(DiskError) in try scanner.row(last) }
            if case .success(let row) = row { return LogMark(row.frame) }
        }
        guard isSound(scanner.header), case .success(let header) = scanner.header else {
            return nil
        }
        var mark = LogMark.start
        mark.index = name.firstIndex - 1
        mark.endOffset = name.baseOffset
        mark.checksum = header.previousChecksum
        return mark
    }

    /// What stands behind the segment, from whoever knows it.
    private func linkBehind() throws(StorageError) -> RepairWalk.Link? {
        if let lastMark { return .entry(lastMark) }
        guard let next else { return nil }
        if let mark = try stateMark(next) { return .entry(mark) }
        guard var scanner = try scanIfThere(next) else { return nil }
        if case .success(let header) = scanner.header, header.partition == partition,
            header.name == next
        {
            return .next(checksum: header.previousChecksum, baseOffset: next.baseOffset)
        }
        guard case .success(let row) = try onDisk({ () throws(DiskError) in try scanner.row(0) })
        else { return nil }
        return .next(checksum: row.frame.previousChecksum, baseOffset: next.baseOffset)
    }

    // MARK: The header

    private func isSound(_ header: Result<FrameTableHeader, FrameTableHeader.Problem>) -> Bool {
        guard case .success(let header) = header else { return false }
        return header.partition == partition && header.name == name
    }

    private var damagedHeader: Damage {
        let file = "\(directory)/\(name.fileName(.frames))"
        return Damage(indexes: nil, offsets: nil, file: file, position: 0, reason: .header)
    }

    /// The header as it has to be, if it is not and the entries tell.
    private func header(_ walk: RepairWalk, _ before: LogMark?) throws(StorageError) -> ByteBuffer?
    {
        guard let checksum = walk.firstLink ?? before?.checksum else { return nil }
        let wanted = FrameTableHeader(
            partition: partition,
            name: name,
            previousChecksum: checksum
        )
        if case .success(let found) = walk.scanner.header, found == wanted { return nil }
        return wanted.bytes
    }

    // MARK: Files

    /// What changes in each file.
    private struct Edits {
        var header: ByteBuffer?
        var frames: [SegmentWrite.Piece] = []
        var log: [SegmentWrite.Piece] = []
        var control: [SegmentWrite.Piece] = []

        var isEmpty: Bool {
            header == nil && frames.isEmpty && log.isEmpty && control.isEmpty
        }

        /// Leaves out what lies there already.
        init(_ walk: RepairWalk) throws(StorageError) {
            var scanner = walk.scanner
            for change in walk.changes {
                var row = ByteBuffer()
                change.row.write(into: &row)
                let position = SegmentReader.range(of: change.number).lowerBound
                if try onDisk({ () throws(DiskError) in try scanner.rowBytes(change.number) })
                    != row
                {
                    frames.append(SegmentWrite.Piece(position: position, buffers: [row]))
                }
                let isData = change.entry.frame.kind == .data
                let payload = change.entry.payload
                let range = change.row.payloadRange
                let found = try onDisk { () throws(DiskError) in
                    try scanner.payloadBytes(isData, range)
                }
                guard found != payload else { continue }
                let piece = SegmentWrite.Piece(position: range.lowerBound, buffers: [payload])
                if isData { log.append(piece) } else { control.append(piece) }
            }
        }
    }

    private func replace(_ files: SegmentFiles, _ edits: Edits) throws(StorageError)
        -> SegmentFiles
    {
        var frames = edits.frames
        if let header = edits.header {
            frames.insert(SegmentWrite.Piece(position: 0, buffers: [header]), at: 0)
        }
        let pieces = [
            (files.log, edits.log), (files.control, edits.control), (files.frames, frames),
        ]
        .filter { !$0.1.isEmpty }
        var isDone = false
        defer {
            if !isDone { pieces.forEach { _ = try? disk.remove(staged($0.0.path)) } }
        }
        for (file, pieces) in pieces { try stage(file, pieces) }
        var renaming: Result<Void, StorageError> = .success(())
        do throws(DiskError) {
            for (file, _) in pieces { try disk.rename(staged(file.path), to: file.path) }
            isDone = true
        } catch {
            renaming = .failure(.disk(error))
        }
        // Also when only some took their place: what is written to them next has to be found again.
        try StagingPlace.sync(directory, on: disk)
        try renaming.get()
        return try open(name, .readWrite)
    }

    private func staged(_ path: String) -> String {
        path + StateWrite.stagedSuffix
    }

    /// Writes a changed copy beside a file, and makes it durable.
    private func stage(_ file: any DiskFile, _ pieces: [SegmentWrite.Piece]) throws(StorageError) {
        let copy: any DiskFile
        do throws(DiskError) {
            copy = try disk.open(staged(file.path), .create)
            try copy.truncate(to: 0)
            let byteCount = try file.byteCount()
            var position: Int64 = 0
            while position < byteCount {
                let bytes = try file.readUncached(at: position, count: Self.copyByteCount)
                guard bytes.readableBytes > 0 else {
                    throw .failed(operation: "read", path: file.path, errno: 0)
                }
                try copy.write([bytes], at: position)
                position += Int64(bytes.readableBytes)
            }
            for piece in pieces { try copy.write(piece.buffers, at: Int64(piece.position)) }
        } catch {
            let needed = (try? file.byteCount()).map(Int.init) ?? 0
            throw StorageError(error, writing: needed, to: directory, on: disk)
        }
        do {
            try copy.sync()
        } catch {
            throw .syncFailed(error)
        }
    }

    private static let copyByteCount = 1 << 20
}

/// What a repair achieved.
struct SegmentRepairOutcome: Sendable {
    var files: SegmentFiles
    var healedCount: Int
    var extent: SegmentExtent
    /// The last entry; nil when it is still damaged.
    var lastMark: LogMark?
    /// The terms of its entries; complete when nothing remains.
    var terms: TermTable
    var remaining: [Damage]
}

/// What became of a `SegmentRepair`.
package struct SegmentRepairResult: Sendable {
    let repair: SegmentRepair
    let outcome: Result<SegmentRepairOutcome, StorageError>
}
