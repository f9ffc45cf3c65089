package import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import struct NIOCore.ByteBuffer

/// Writes a received chunk.
package struct StagingWrite: Sendable {
    let disk: any Disk
    let directory: String
    let path: String
    let chunk: ShipmentChunk
    /// All bytes that are to come, with the first chunk; nil with all others.
    let beginningWith: Int?

    /// Does the work; blocks.
    package func perform() -> StagingWriteResult {
        do throws(StorageError) {
            guard chunk.isSound else { throw .shipmentRefused(directory: directory, .chunk) }
            try write()
            return StagingWriteResult(chunk: chunk, outcome: .success(()))
        } catch {
            return StagingWriteResult(chunk: chunk, outcome: .failure(error))
        }
    }

    private func write() throws(StorageError) {
        do throws(DiskError) {
            if let beginningWith {
                try disk.removeTree(directory)
                let free = try disk.space(at: parent(of: parent(of: directory))).freeByteCount
                guard free > Int64(beginningWith) else { throw .noSpace(path: directory) }
                try disk.createDirectory(directory)
            }
            let start = Int64(chunk.place.position)
            let file = try disk.open(path, .create)
            try file.write([chunk.bytes], at: start)
            try file.startWriteback(start..<start + Int64(chunk.bytes.readableBytes))
        } catch {
            let count = beginningWith ?? chunk.bytes.readableBytes
            throw StorageError(error, writing: count, to: directory, on: disk)
        }
    }
}

/// What became of a `StagingWrite`.
package struct StagingWriteResult: Sendable {
    let chunk: ShipmentChunk
    let outcome: Result<Void, StorageError>
}

/// Verifies a part of what was received, and makes it durable: first the `.state`, then a segment at
/// a time to the last byte, at last the names.
package struct StagingCheck: Sendable {
    struct Progress: Sendable {
        var state: LogState?
        /// How many segments are verified.
        var segmentCount = 0
        /// Their last entry.
        var mark: LogMark?
        var membership: IndexedMembership?
        var isFinished = false
    }

    let disk: any Disk
    let directory: String
    let partition: TopicPartition
    let manifest: ShipmentManifest
    let progress: Progress

    /// Does the work; blocks.
    package func perform() -> StagingCheckResult {
        var next = progress
        do throws(StorageError) {
            if let state = next.state, next.segmentCount < manifest.segments.count {
                try check(manifest.segments[next.segmentCount], against: state, &next)
            } else if next.state == nil {
                next.state = try checkState()
            } else {
                try checkEnd(next)
                next.isFinished = true
            }
            return StagingCheckResult(outcome: .success(next))
        } catch {
            return StagingCheckResult(outcome: .failure(error))
        }
    }

    private func checkState() throws(StorageError) -> LogState {
        let read = try onDisk { () throws(DiskError) in
            try LogState.read(manifest.end, of: partition, in: directory, on: disk)
        }
        guard case .success(let state) = read, state.mark.index == manifest.position.index,
            state.mark.term == manifest.position.term, state.mark.checksum == manifest.checksum,
            state.segment == manifest.end, state.extent == SegmentExtent(),
            state.logStartOffset <= manifest.endOffset,
            state.membership.index <= state.mark.index
        else { throw refused(.state) }
        let file = try onDisk { () throws(DiskError) in
            try disk.open("\(directory)/\(manifest.end.fileName(.state))", .readWrite)
        }
        try sync { () throws(DiskError) in try file.sync() }
        return state
    }

    private func check(
        _ segment: ShipmentManifest.Segment,
        against state: LogState,
        _ next: inout Progress
    ) throws(StorageError) {
        let name = segment.name
        // An empty file has no chunk.
        let files = try onDisk { () throws(DiskError) in
            try SegmentFiles.open(name, in: directory, on: disk, .create)
        }
        try sync { () throws(DiskError) in try files.sync() }
        let manner = SegmentScanner.Manner(verifiesPayload: true)
        var scanner = try onDisk { () throws(DiskError) in
            try SegmentScanner(name, in: directory, on: disk, manner)
        }
        let first = try firstMark(of: name, scanner.header, after: next.mark)
        var inspection = SegmentInspection(after: first)
        let end = (row: segment.entryCount, offset: state.mark.endOffset)
        while inspection.row < segment.entryCount {
            let number = inspection.row
            let row: FrameRow
            switch try onDisk({ () throws(DiskError) in try inspection.next(&scanner) }) {
            case .success(let found): row = found
            case .failure(let problem):
                let damage = try onDisk { () throws(DiskError) in
                    try scanner.damage(at: number, problem, in: directory, end: end)
                }
                throw refused(.damaged(damage))
            }
            // A table that holds as many terms as it may has forgotten the first ones.
            guard state.terms.term(at: row.frame.index) ?? row.frame.term == row.frame.term else {
                throw refused(.state)
            }
            if row.frame.kind == .membership {
                next.membership = try membership(of: row, &scanner)
            }
        }
        guard inspection.extent.logByteCount == scanner.logByteCount,
            inspection.extent.controlByteCount == scanner.controlByteCount,
            scanner.rowCount == segment.entryCount
        else { throw refused(.extent(name)) }
        next.mark = inspection.mark
        next.segmentCount += 1
    }

    /// The entry before a segment; before the first of a shipment only the segment itself tells.
    private func firstMark(
        of name: SegmentName,
        _ header: Result<FrameTableHeader, FrameTableHeader.Problem>,
        after mark: LogMark?
    ) throws(StorageError) -> LogMark {
        guard case .success(let header) = header, header.partition == partition,
            header.name == name
        else {
            let file = "\(directory)/\(name.fileName(.frames))"
            throw refused(
                .damaged(
                    Damage(indexes: nil, offsets: nil, file: file, position: 0, reason: .header)
                )
            )
        }
        var first = LogMark.start
        first.index = name.firstIndex - 1
        first.endOffset = name.baseOffset
        first.checksum = header.previousChecksum
        guard let mark else { return first }
        guard first.index == mark.index, first.endOffset == mark.endOffset,
            first.checksum == mark.checksum
        else { throw refused(.extent(name)) }
        return mark
    }

    private func membership(of row: FrameRow, _ scanner: inout SegmentScanner) throws(StorageError)
        -> IndexedMembership
    {
        guard let entry = try onDisk({ () throws(DiskError) in try scanner.entry(row) }),
            let membership = Membership(payload: entry.body)
        else { throw refused(.state) }
        return IndexedMembership(index: row.frame.index, membership: membership)
    }

    /// The rows end where the state says, and the state has the last membership that they bring.
    private func checkEnd(_ found: Progress) throws(StorageError) {
        guard let state = found.state, found.mark ?? state.mark == state.mark,
            found.membership ?? state.membership == state.membership
        else { throw refused(.state) }
        try StagingPlace.sync(directory, on: disk)
        try StagingPlace.sync(parent(of: directory), on: disk)
        // The first replica of a broker makes the directory above, which is a name like any other.
        try StagingPlace.sync(parent(of: parent(of: directory)), on: disk)
    }

    private func refused(_ problem: ShipmentProblem) -> StorageError {
        .shipmentRefused(directory: directory, problem)
    }

    private func sync(_ body: () throws(DiskError) -> Void) throws(StorageError) {
        do {
            try body()
        } catch {
            throw .syncFailed(error)
        }
    }
}

/// What became of a `StagingCheck`.
package struct StagingCheckResult: Sendable {
    let outcome: Result<StagingCheck.Progress, StorageError>
}

/// Makes verified files the replica's log.
package struct StagingInstall: Sendable {
    let disk: any Disk
    let directory: String
    let group: GroupID

    /// Does the work; blocks.
    ///
    /// - Returns: the new log. After an error the replica has its old log or the new one; performed
    ///   again, here or by the next start, it goes on. `.syncFailed`: the process must stop.
    package func perform() -> Result<RecoveredLog, StorageError> {
        do throws(StorageError) {
            try decide()
            let recovery = LogRecovery(
                group: group,
                directory: parent(of: parent(of: directory)),
                disk: disk,
                journal: JournalSuffix()
            )
            return .success(try recovery.perform())
        } catch {
            return .failure(error)
        }
    }

    private func decide() throws(StorageError) {
        do throws(DiskError) {
            let receiving = StagingPlace.receiving(directory)
            guard try disk.exists(receiving) else { return }
            try disk.rename(receiving, to: StagingPlace.install(directory))
        } catch {
            throw .disk(error)
        }
        try StagingPlace.sync(parent(of: directory), on: disk)
    }
}

/// Removes what was received.
package struct StagingDiscard: Sendable {
    let disk: any Disk
    let directory: String

    /// Does the work; blocks.
    ///
    /// What fails is done at the next start.
    package func perform() -> Result<Void, DiskError> {
        do throws(DiskError) {
            try disk.removeTree(StagingPlace.receiving(directory))
            return .success(())
        } catch {
            return .failure(error)
        }
    }
}
