package import FlotillaModel
import FlotillaRecords

/// An entry's place in the chain: what the next entry continues.
package struct LogMark: Hashable, Sendable {
    /// The entry's Raft index; 0 before the first entry.
    package var index: LogIndex
    /// The entry's term.
    package var term: Term
    /// The entry's frame CRC, which the next frame repeats.
    package var checksum: UInt32
    /// The Kafka offset of the next record.
    package var endOffset: Offset
    /// The entry's append time; `.none` before the first entry.
    package var appendTime: Timestamp

    /// Before the first entry of any log.
    package static let start = LogMark(
        index: .zero,
        term: .zero,
        checksum: 0,
        endOffset: .zero,
        appendTime: .none
    )

    init(index: LogIndex, term: Term, checksum: UInt32, endOffset: Offset, appendTime: Timestamp) {
        self.index = index
        self.term = term
        self.checksum = checksum
        self.endOffset = endOffset
        self.appendTime = appendTime
    }

    /// The place of the entry with this frame.
    init(_ frame: Frame) {
        index = frame.index
        term = frame.term
        checksum = frame.checksum
        endOffset = frame.endOffset
        appendTime = frame.appendTime
    }

    /// Whether an entry with this frame may stand behind the mark.
    func isContinued(by frame: Frame) -> Bool {
        frame.index == index.next && frame.previousChecksum == checksum
            && frame.baseOffset == endOffset
            && frame.term >= term && frame.appendTime >= appendTime
    }
}

/// How far a segment's files are filled: enough to place the next entry.
package struct SegmentExtent: Hashable, Sendable {
    /// The rows of `.frames`.
    package var entryCount = 0
    /// The bytes of `.log`.
    package var logByteCount = 0
    /// The bytes of `.control`.
    package var controlByteCount = 0
    /// The largest record timestamp in the segment; `.none` before the first record.
    package var runningMaximum = Timestamp.none
    /// The append time of the segment's first entry; `.none` while it is empty.
    package var firstAppendTime = Timestamp.none

    /// The bytes of `.frames`.
    var frameTableByteCount: Int {
        FrameTableHeader.byteCount + entryCount * FrameRow.byteCount
    }

    /// Takes in the next entry, and gives the row that describes it.
    ///
    /// `maximumTimestamp` is the largest of the entry's records; `.none` for other kinds.
    mutating func add(_ frame: Frame, maximumTimestamp: Timestamp) -> FrameRow {
        let start = frame.kind == .data ? logByteCount : controlByteCount
        guard let position = UInt32(exactly: start) else {
            preconditionFailure(
                "a segment's files stay below 4 GiB: the leader begins another one long before"
            )
        }
        runningMaximum = max(runningMaximum, maximumTimestamp)
        let row = FrameRow(frame: frame, runningMaximum: runningMaximum, position: position)
        take(row)
        return row
    }

    /// Takes in a row that was read.
    mutating func take(_ row: FrameRow) {
        if entryCount == 0 { firstAppendTime = row.frame.appendTime }
        entryCount += 1
        runningMaximum = max(runningMaximum, row.runningMaximum)
        switch row.frame.kind {
        case .data: logByteCount = row.payloadRange.upperBound
        case .termStart, .membership, .startOffset, .roll, .compaction, .snapshotMark:
            controlByteCount = row.payloadRange.upperBound
        }
    }
}
