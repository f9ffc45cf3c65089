import FlotillaModel
import FlotillaRecords

import struct NIOCore.ByteBuffer

/// Collects the records of one round and lays them out for one gathered write.
///
/// Record heads, and payload pieces below 4 KiB, are copied into buffers that live from round to
/// round; larger pieces are lent to the write as they are.
struct JournalRoundBuilder {
    /// A payload piece of at least this size is gathered instead of copied: below it a copy is
    /// cheaper than a vector of the system call.
    private static let lentByteCount = 4096
    private static let zeros = ByteBuffer(repeating: 0, count: JournalLayout.blockByteCount)

    private var heads = ByteBuffer()
    private var copied = ByteBuffer()
    private var echo = ByteBuffer()
    /// Lent pieces, each with the number of copied bytes that precede it.
    private var lent: [(copiedByteCount: Int, bytes: ByteBuffer)] = []
    private var payloadByteCount = 0
    private(set) var recordCount = 0

    /// Starts a new round.
    mutating func begin() {
        heads.clear()
        heads.writeRepeatingByte(0, count: JournalRoundHeader.byteCount)
        copied.clear()
        echo.clear()
        lent.removeAll(keepingCapacity: true)
        payloadByteCount = 0
        recordCount = 0
    }

    /// The round's size if it were closed now.
    var roundByteCount: Int {
        shape(checksum: 0).roundByteCount
    }

    mutating func add(_ record: JournalRecord, of group: GroupID) {
        switch record {
        case .entries(let entries):
            precondition(Self.isGapless(entries), "a submission's entries are dense")
            add(.entries, group) { heads in
                for entry in entries {
                    heads.writeBytes(
                        entry.frameAndHead.readableBytesSpan.extracting(first: Frame.byteCount)
                    )
                }
            }
            for entry in entries {
                addPayload(of: entry)
            }
        case .hardState(let state):
            add(.hardState, group) { $0.writeHardState(state) }
        case .commit(let index):
            add(.commit, group) { $0.writeInteger(index.rawValue, endianness: .little) }
        case .membership(let membership):
            add(.membership, group) { $0.writeMembership(membership) }
        case .reset(let position, let checksum):
            add(.reset, group) { $0.writeTail(LogTail(position: position, checksum: checksum)) }
        case .trusted(let position, let checksum):
            add(.trusted, group) { $0.writeTail(LogTail(position: position, checksum: checksum)) }
        case .remove:
            add(.removed, group) { _ in }
        }
    }

    mutating func add(_ state: JournalGroupState, of group: GroupID) {
        add(.groupState, group) { $0.writeGroupState(state) }
    }

    /// Lays the round out.
    ///
    /// - Parameter header: states number and place; its shape is filled in.
    /// - Returns: the header as written, and the pieces of the write: `header.shape.roundByteCount` bytes.
    mutating func finish(_ header: JournalRoundHeader) -> (JournalRoundHeader, [ByteBuffer]) {
        precondition(
            payloadByteCount <= Frame.maximumPayloadByteCount,
            "a round's payloads are below 2 GiB"
        )
        var header = header
        header.shape = shape(checksum: Self.checksum(of: heads, from: JournalRoundHeader.byteCount))
        heads.setBuffer(header.encoded(), at: 0)
        var pieces = [heads]
        var start = 0
        for piece in lent {
            append(copied, start..<piece.copiedByteCount, to: &pieces)
            pieces.append(piece.bytes)
            start = piece.copiedByteCount
        }
        append(copied, start..<copied.writerIndex, to: &pieces)
        let unpadded = JournalRoundHeader.byteCount + header.shape.headsByteCount + payloadByteCount
        append(Self.zeros, 0..<header.shape.echoPosition - unpadded, to: &pieces)
        if header.shape.echoByteCount > 0 {
            finishEcho(of: header)
            pieces.append(echo)
            append(
                Self.zeros,
                0..<JournalLayout.padded(echo.readableBytes) - echo.readableBytes,
                to: &pieces
            )
        }
        return (header, pieces)
    }

    private mutating func finishEcho(of header: JournalRoundHeader) {
        let echoHeader = JournalEchoHeader(
            key: header.key,
            generation: header.generation,
            position: header.position + header.shape.echoPosition,
            number: header.number,
            recordsByteCount: echo.readableBytes - JournalEchoHeader.byteCount,
            recordsChecksum: Self.checksum(of: echo, from: JournalEchoHeader.byteCount)
        )
        echo.setBuffer(echoHeader.encoded(), at: 0)
    }

    /// The checksum of a buffer's readable bytes behind the first `start`.
    private static func checksum(of buffer: ByteBuffer, from start: Int) -> UInt32 {
        CRC32C.checksum(buffer.readableBytesSpan.extracting(droppingFirst: start))
    }

    private func shape(checksum: UInt32) -> JournalRoundShape {
        JournalRoundShape(
            headsByteCount: heads.readableBytes - JournalRoundHeader.byteCount,
            headsChecksum: checksum,
            payloadByteCount: payloadByteCount,
            echoByteCount: echo.readableBytes,
            recordCount: recordCount
        )
    }

    private mutating func add(
        _ kind: JournalRecordKind,
        _ group: GroupID,
        body: (inout ByteBuffer) -> Void
    ) {
        let start = heads.writerIndex
        heads.writeRecordHead(kind, group: group)
        let bodyStart = heads.writerIndex
        body(&heads)
        heads.setInteger(UInt32(heads.writerIndex - bodyStart), at: start + 4, endianness: .little)
        recordCount += 1
        guard kind.isEchoed else {
            return
        }
        if echo.readableBytes == 0 {
            echo.writeRepeatingByte(0, count: JournalEchoHeader.byteCount)
        }
        guard let record = heads.getSlice(at: start, length: heads.writerIndex - start) else {
            preconditionFailure("the record was just written")
        }
        echo.writeImmutableBuffer(record)
    }

    private mutating func addPayload(of entry: LogEntry) {
        payloadByteCount += entry.payloadByteCount
        copied.writeBytes(
            entry.frameAndHead.readableBytesSpan.extracting(droppingFirst: Frame.byteCount)
        )
        if entry.body.readableBytes < Self.lentByteCount {
            copied.writeBytes(entry.body.readableBytesSpan)
        } else {
            lent.append((copied.writerIndex, entry.body))
        }
    }

    private func append(_ buffer: ByteBuffer, _ range: Range<Int>, to pieces: inout [ByteBuffer]) {
        guard !range.isEmpty, let piece = buffer.getSlice(at: range.lowerBound, length: range.count)
        else {
            return
        }
        pieces.append(piece)
    }

    private static func isGapless(_ entries: [LogEntry]) -> Bool {
        guard let first = entries.first?.frame.index else {
            return false
        }
        return entries.enumerated().allSatisfy { $1.frame.index == first + UInt64($0) }
    }
}
