import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import struct NIOCore.ByteBuffer

/// The next stretch of a scrub: rows and payloads of one segment, read from the medium.
package struct ScrubStep: Sendable {
    let disk: any Disk
    let directory: String
    let partition: TopicPartition
    let name: SegmentName
    /// The rows up to here are durable, and are looked at.
    let endRow: Int
    /// The segment's number of rows, and the offset after its last record.
    let end: (row: Int, offset: Offset)
    let inspection: SegmentInspection
    let maxByteCount: Int
    /// Checkpoints that stand beside no segment, looked at with the last rows of the log.
    let checkpointNames: [SegmentName]

    /// Does the work; blocks.
    package func perform() -> ScrubStepResult {
        var outcome = ScrubOutcome(inspection: inspection)
        do throws(DiskError) {
            try inspect(&outcome)
            return ScrubStepResult(step: self, outcome: .success(outcome))
        } catch .notFound(let path) {
            outcome.damage.note(missing(path, from: outcome.inspection.row))
            outcome.inspection.skip(to: endRow)
            return ScrubStepResult(step: self, outcome: .success(outcome))
        } catch {
            return ScrubStepResult(step: self, outcome: .failure(error))
        }
    }

    private func inspect(_ outcome: inout ScrubOutcome) throws(DiskError) {
        if inspection.row == 0 { try checkState(name, &outcome) }
        let manner = SegmentScanner.Manner(isUncached: true, verifiesPayload: true)
        var scanner = try SegmentScanner(name, in: directory, on: disk, manner)
        if inspection.row == 0 { checkHeader(scanner, &outcome) }
        // One row at least, whatever header and state took of the step.
        repeat {
            let number = outcome.inspection.row
            outcome.byteCount += FrameRow.byteCount
            switch try outcome.inspection.next(&scanner) {
            case .success(let row):
                outcome.byteCount += row.frame.payloadByteCount
            case .failure(let problem):
                outcome.damage.note(
                    try scanner.damage(at: number, problem, in: directory, end: end)
                )
            }
        } while outcome.inspection.row < endRow && outcome.byteCount < maxByteCount
        guard outcome.inspection.row == endRow else { return }
        for name in checkpointNames { try checkState(name, &outcome) }
    }

    /// Looks at a `.state`; one that is not there is not missed here, since any other will do.
    private func checkState(_ name: SegmentName, _ outcome: inout ScrubOutcome) throws(DiskError) {
        let found: Result<LogState, LogState.Problem>
        do {
            found = try LogState.read(
                name,
                of: partition,
                in: directory,
                on: disk,
                isUncached: true
            )
        } catch .notFound {
            return
        } catch {
            throw error
        }
        let path = "\(directory)/\(name.fileName(.state))"
        switch found {
        case .success(let state):
            outcome.byteCount += state.stateMachine.readableBytes
            if inspection.row == 0, name == self.name, inspection.mark == nil {
                outcome.inspection = SegmentInspection(after: state.mark)
            }
            if let mark = outcome.inspection.mark, mark.index == state.mark.index,
                mark != state.mark
            {
                outcome.damage.note(damage(path, .state))
            }
        case .failure:
            outcome.damage.note(damage(path, .state))
        }
    }

    private func checkHeader(_ scanner: SegmentScanner, _ outcome: inout ScrubOutcome) {
        let mark = outcome.inspection.mark
        outcome.byteCount += FrameTableHeader.byteCount
        if case .success(let header) = scanner.header, header.partition == partition,
            header.name == name,
            header.previousChecksum == mark?.checksum ?? header.previousChecksum
        {
            return
        }
        outcome.damage.note(damage("\(directory)/\(name.fileName(.frames))", .header))
    }

    private func damage(_ path: String, _ reason: Damage.Reason) -> Damage {
        Damage(indexes: nil, offsets: nil, file: path, position: 0, reason: reason)
    }

    private func missing(_ path: String, from row: Int) -> Damage {
        Damage(
            indexes: name.firstIndex + UInt64(row)...name.firstIndex + UInt64(max(endRow, 1) - 1),
            offsets: row == 0 && endRow == end.row ? name.baseOffset..<end.offset : nil,
            file: path,
            position: 0,
            reason: .missing
        )
    }
}

/// What a step found.
struct ScrubOutcome: Sendable {
    var inspection: SegmentInspection
    var byteCount = 0
    var damage: [Damage] = []
}

/// What became of a `ScrubStep`.
package struct ScrubStepResult: Sendable {
    let step: ScrubStep
    let outcome: Result<ScrubOutcome, DiskError>

    /// How many bytes were read, for whoever throttles.
    package var byteCount: Int {
        if case .success(let outcome) = outcome { outcome.byteCount } else { 0 }
    }
}
