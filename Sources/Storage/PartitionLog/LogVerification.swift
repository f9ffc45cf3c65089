package import FlotillaEnvironment
package import FlotillaModel
import FlotillaRecords

/// What a look at every byte of a replica's segments found.
package struct LogReport: Hashable, Sendable {
    /// How many segments there are.
    package var segmentCount = 0
    /// How many entries are sound.
    package var entryCount = 0
    /// The bytes of their payloads.
    package var byteCount = 0
    /// The last sound entry.
    package var lastIndex = LogIndex.zero
    /// The offset after its last record.
    package var logEndOffset = Offset.zero
    /// What is not sound, in the order of the log.
    package var damage: [Damage] = []
}

/// Reads every byte of a replica's segments and checks it: each `.state`, header, row, frame and
/// batch, and the chain through all of them.
///
/// For `partition verify` and scrubbing. It changes nothing and needs no journal; on a log in use
/// it sees what is written.
package struct LogVerification: Sendable {
    private let recovery: LogRecovery

    /// Describes what to verify; `directory` is the data directory.
    package init(group: GroupID, directory: String, disk: any Disk) {
        recovery = LogRecovery(group: group, directory: directory, disk: disk, journal: nil)
    }

    /// Does the work; blocks.
    ///
    /// - Throws: `.disk`, `.unsupportedVersion`, `.foreignFile`.
    package func perform() throws(StorageError) -> LogReport {
        let inventory = try recovery.inventory()
        var found = RecoveredLog(empty: recovery.group, directory: recovery.directory)
        var marks: [SegmentName: LogState] = [:]
        for name in inventory.states {
            switch try recovery.state(name) {
            case .success(let state): marks[name] = state
            case .failure: found.note(recovery.damagedState(name))
            }
        }
        if let first = inventory.segments.first,
            let state = inventory.states.last.flatMap({ marks[$0] }),
            state.logStartOffset < first.baseOffset
        {
            found.note(
                recovery.missing(file: "records \(state.logStartOffset) up to \(first.baseOffset)")
            )
        }
        var report = LogReport()
        report.segmentCount = inventory.segments.count
        var place = Place()
        for (position, name) in inventory.segments.enumerated() {
            let next = inventory.segments.dropFirst(position + 1).first
            try verify(name, before: next, from: &place, marks, &found, &report)
        }
        if let promised = inventory.states.last(where: { marks[$0] != nil }),
            promised.firstIndex > place.mark.index.next
        {
            found.note(
                recovery.missing(
                    file: "entries \(place.mark.index.next) to \(promised.firstIndex - 1)"
                )
            )
        }
        report.damage = found.damage
        report.lastIndex = place.mark.index
        report.logEndOffset = place.mark.endOffset
        return report
    }

    /// The last sound entry, and whether the next row follows it at once.
    private struct Place {
        var mark = LogMark.start
        var isCurrent = true
    }

    private func verify(
        _ name: SegmentName,
        before next: SegmentName?,
        from place: inout Place,
        _ states: [SegmentName: LogState],
        _ found: inout RecoveredLog,
        _ report: inout LogReport
    ) throws(StorageError) {
        if let state = states[name], place.mark == .start || !place.isCurrent {
            place = Place(mark: state.mark)
        }
        guard var scanner = try recovery.openScannerIfThere(name) else {
            found.note(recovery.missing(file: name.fileName(.log)))
            place.isCurrent = false
            return
        }
        let link =
            place.isCurrent && name.firstIndex == place.mark.index.next ? place.mark.checksum : nil
        try recovery.check(scanner.header, of: name, previousChecksum: link, in: &found)
        let count =
            next.map { Int($0.firstIndex.rawValue - name.firstIndex.rawValue) } ?? scanner.rowCount
        var extent = SegmentExtent()
        for number in 0..<count {
            switch try recovery.wrapped({ () throws(DiskError) in try scanner.row(number) }) {
            case .success(let row)
            where !place.isCurrent
                || (place.mark.isContinued(by: row.frame) && extent.isContinued(by: row)):
                extent.take(row)
                place = Place(mark: LogMark(row.frame))
                report.entryCount += 1
                report.byteCount += row.frame.payloadByteCount
                if let state = states[
                    SegmentName(baseOffset: row.frame.endOffset, firstIndex: row.frame.index.next)
                ],
                    state.mark != place.mark
                {
                    found.note(recovery.damagedState(state.name))
                }
            case .success:
                found.note(recovery.damagedRow(number, of: name, .chain, offsets: nil))
                place.isCurrent = false
            case .failure(let problem):
                found.note(recovery.damagedRow(number, of: name, problem, offsets: nil))
                place.isCurrent = false
            }
        }
    }
}

extension SegmentExtent {
    /// Whether a row's payload lies right behind those before, and its time does not fall.
    fileprivate func isContinued(by row: FrameRow) -> Bool {
        let end = row.frame.kind == .data ? logByteCount : controlByteCount
        return Int(row.position) == end && row.runningMaximum >= runningMaximum
    }
}
