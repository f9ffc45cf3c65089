package import FlotillaEnvironment
package import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import struct NIOCore.ByteBuffer

/// Opens a replica's log after a start: finds the last checkpoint, verifies what lies behind it,
/// and joins the journal's entries to it.
///
/// With a checkpoint at the log's end, as a clean stop leaves it, only heads and last rows are
/// read. Otherwise rows are verified by the chain from the checkpoint up to where the journal takes
/// over; what the journal still has is rewritten in place, byte for byte, so its state in the
/// segments does not matter. What the journal let go must be there: if it is not, that is damage,
/// and never a reason to cut.
///
/// Blocks; runs at the start or on a worker.
package struct LogRecovery: Sendable {
    /// How much recovery trusts the page cache.
    package enum Verification: Hashable, Sendable {
        /// Frames and batch heads from the last checkpoint on.
        case sinceCheckpoint
        /// The same from the medium, and every batch to its last byte: after a failed sync.
        case pastPageCache
    }

    let group: GroupID
    let directory: String
    let disk: any Disk
    private(set) var journal: JournalSuffix?
    let manner: SegmentScanner.Manner

    /// Describes what to open.
    ///
    /// - Parameters:
    ///   - group: the replica.
    ///   - directory: the data directory; the replica's is `partitions/<group>` in it.
    ///   - disk: where it lives.
    ///   - journal: what the journal has; nil when there is no journal that knows this replica, and
    ///     then what cannot be proven durable may be cut.
    ///   - verification: how much the page cache is trusted.
    package init(
        group: GroupID,
        directory: String,
        disk: any Disk,
        journal: JournalSuffix?,
        verification: Verification = .sinceCheckpoint
    ) {
        self.group = group
        self.directory = PartitionLog.directory(of: group, in: directory)
        self.disk = disk
        self.journal = journal
        manner = SegmentScanner.Manner(
            isUncached: verification == .pastPageCache,
            verifiesPayload: verification == .pastPageCache || journal == nil
        )
    }

    /// Does the work; blocks.
    ///
    /// - Throws: `.disk`, `.unsupportedVersion`, `.foreignFile`; `.damaged` when no `.state` is
    ///   left to open from.
    package func perform() throws(StorageError) -> RecoveredLog {
        try StagingPlace.settle(directory, on: disk)
        let inventory = try inventory()
        try wrapped { () throws(DiskError) in try inventory.removeStaged(in: directory, on: disk) }
        let (state, damage) = try newestState(inventory)
        var recovered = RecoveredLog(empty: group, directory: directory, state: state)
        damage.forEach { recovered.note($0) }
        recovered.remains = inventory.remains
        recovered.checkpointNames = inventory.states.filter { !inventory.segments.contains($0) }
        let sealed = inventory.segments.filter { $0 < state.segment }
        for (position, name) in sealed.enumerated() {
            let next = position + 1 < sealed.count ? sealed[position + 1] : state.segment
            try noteSealed(name, before: next, in: &recovered)
        }
        var recovery = self
        if isJournalVoid(behind: state) {
            recovery.journal = JournalSuffix()
            recovered.isJournalVoid = true
            recovered.isEndKnown = false
        }
        var walk = RecoveryWalk(recovery: recovery, recovered: recovered)
        try walk.run(inventory.segments.filter { $0 >= state.segment })
        return walk.recovered
    }

    /// Whether the journal tells of a log whose place a shipped one took: a crash came before the
    /// journal's reset.
    ///
    /// What a checkpoint ends with is committed, so entries that do not continue it never counted.
    private func isJournalVoid(behind state: LogState) -> Bool {
        let next = journal?.entries.first { $0.frame.index == state.mark.index.next }
        guard state.mark.index > .zero, let next else { return false }
        return !state.mark.isContinued(by: next.frame)
    }

    // MARK: States

    /// The newest `.state` that is readable, and what is wrong with newer ones.
    private func newestState(_ inventory: LogInventory) throws(StorageError) -> (LogState, [Damage])
    {
        var damage: [Damage] = []
        for name in inventory.states.reversed() {
            switch try state(name) {
            case .success(let state): return (state, damage)
            case .failure: damage.append(damagedState(name))
            }
        }
        if let first = inventory.segments.first, first.firstIndex > LogIndex(1) {
            throw .damaged(damage.first ?? missing(file: first.fileName(.state)))
        }
        return (.initial, damage)
    }

    // MARK: Sealed segments

    /// Looks at the head and the last row of a segment that a `.state` promises to be whole.
    private func noteSealed(
        _ name: SegmentName,
        before next: SegmentName,
        in recovered: inout RecoveredLog
    ) throws(StorageError) {
        let entryCount = Int(next.firstIndex.rawValue - name.firstIndex.rawValue)
        var scanner = try openScanner(name, noting: &recovered)
        try check(scanner.header, of: name, previousChecksum: nil, in: &recovered)
        var extent = SegmentExtent()
        extent.entryCount = min(entryCount, scanner.rowCount)
        extent.logByteCount = scanner.logByteCount
        extent.controlByteCount = scanner.controlByteCount
        var mark = recovered.state.mark
        mark.index = next.firstIndex - 1
        mark.endOffset = next.baseOffset
        mark.term = recovered.state.terms.term(at: mark.index) ?? mark.term
        if scanner.rowCount < entryCount {
            recovered.note(missingRows(scanner.rowCount..<entryCount, of: name, before: next))
        }
        let lastRow = try wrapped { () throws(DiskError) in try scanner.row(entryCount - 1) }
        switch lastRow {
        case .success(let row) where row.frame.endOffset == next.baseOffset:
            mark = LogMark(row.frame)
            extent.runningMaximum = row.runningMaximum
        case .success, .failure:
            extent.runningMaximum = RecoveredLog.unknownTimestamp
            if scanner.rowCount >= entryCount {
                let problem =
                    if case .failure(let problem) = lastRow { problem } else { RowProblem.chain }
                recovered.note(damagedRow(entryCount - 1, of: name, problem, offsets: nil))
            }
        }
        recovered.segments.append(
            RecoveredLog.RecoveredSegment(name: name, extent: extent, lastMark: mark)
        )
    }

    private func missingRows(_ rows: Range<Int>, of name: SegmentName, before next: SegmentName)
        -> Damage
    {
        Damage(
            indexes: name.firstIndex + UInt64(rows.lowerBound)...next.firstIndex - 1,
            offsets: rows.lowerBound == 0 ? name.baseOffset..<next.baseOffset : nil,
            file: "\(directory)/\(name.fileName(.frames))",
            position: Int64(SegmentReader.range(of: rows.lowerBound).lowerBound),
            reason: .missing
        )
    }
}

extension LogRecovery {
    /// The files that are there.
    func inventory() throws(StorageError) -> LogInventory {
        try wrapped { () throws(DiskError) in try LogInventory(of: directory, on: disk) }
    }

    /// Reads a `.state` file; damaged ones are answered, those of another version or partition
    /// thrown.
    func state(_ name: SegmentName) throws(StorageError) -> Result<LogState, LogState.Problem> {
        let path = "\(directory)/\(name.fileName(.state))"
        let found = try wrapped { () throws(DiskError) in
            try LogState.read(name, of: group.partition, in: directory, on: disk)
        }
        switch found {
        case .failure(.unsupportedVersion(let version)):
            throw .unsupportedVersion(
                file: path,
                found: Int(version),
                supported: Int(LogState.version)
            )
        case .failure(.foreign):
            throw .foreignFile(file: path)
        case .success, .failure(.damaged):
            return found
        }
    }

    /// Describes a `.state` file that is not readable.
    func damagedState(_ name: SegmentName) -> Damage {
        let file = "\(directory)/\(name.fileName(.state))"
        return Damage(indexes: nil, offsets: nil, file: file, position: 0, reason: .state)
    }

    /// Describes a file that should be there.
    func missing(file: String) -> Damage {
        Damage(
            indexes: nil,
            offsets: nil,
            file: "\(directory)/\(file)",
            position: 0,
            reason: .missing
        )
    }

    /// Opens a segment for reading from end to end.
    func openScanner(_ name: SegmentName) throws(StorageError) -> SegmentScanner {
        try wrapped { () throws(DiskError) in
            try SegmentScanner(name, in: directory, on: disk, manner)
        }
    }

    /// The same; nil when one of its files is gone.
    func openScannerIfThere(_ name: SegmentName) throws(StorageError) -> SegmentScanner? {
        do {
            return try openScanner(name)
        } catch .disk(.notFound) {
            return nil
        } catch {
            throw error
        }
    }

    /// The same; files that are gone are told and made again, so that what can be kept is.
    func openScanner(_ name: SegmentName, noting recovered: inout RecoveredLog) throws(StorageError)
        -> SegmentScanner
    {
        if let scanner = try openScannerIfThere(name) { return scanner }
        for kind in [SegmentFileKind.log, .control, .frames] {
            let path = "\(directory)/\(name.fileName(kind))"
            if try wrapped({ () throws(DiskError) in try disk.exists(path) }) { continue }
            recovered.note(missing(file: name.fileName(kind)))
            _ = try wrapped { () throws(DiskError) in try disk.open(path, .create) }
        }
        return try openScanner(name)
    }

    /// Compares a header with what the names say; one that is damaged is told and done without.
    func check(
        _ header: Result<FrameTableHeader, FrameTableHeader.Problem>,
        of name: SegmentName,
        previousChecksum: UInt32?,
        in recovered: inout RecoveredLog
    ) throws(StorageError) {
        let file = "\(directory)/\(name.fileName(.frames))"
        switch header {
        case .failure(.unsupportedVersion(let found)):
            throw .unsupportedVersion(
                file: file,
                found: Int(found),
                supported: Int(FrameTableHeader.version)
            )
        case .success(let header) where header.partition != group.partition:
            throw .foreignFile(file: file)
        case .success(let header)
        where header.name == name
            && header.previousChecksum == previousChecksum ?? header.previousChecksum:
            break
        case .success, .failure(.damaged):
            recovered.note(
                Damage(indexes: nil, offsets: nil, file: file, position: 0, reason: .header)
            )
        }
    }

    /// Describes a row that is not readable.
    func damagedRow(
        _ row: Int,
        of name: SegmentName,
        _ problem: RowProblem,
        offsets: Range<Offset>?
    ) -> Damage {
        let index = name.firstIndex + UInt64(row)
        return Damage(
            indexes: index...index,
            offsets: offsets,
            file: "\(directory)/\(name.fileName(.frames))",
            position: Int64(SegmentReader.range(of: row).lowerBound),
            reason: problem.reason
        )
    }

    /// Turns the disk's refusal into storage's.
    func wrapped<Value>(_ body: () throws(DiskError) -> Value) throws(StorageError) -> Value {
        try onDisk(body)
    }
}
