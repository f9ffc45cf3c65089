import FlotillaEnvironment
package import FlotillaModel
package import FlotillaRaft
package import struct NIOCore.ByteBuffer

/// What holds in a partition's log just before an entry: the content of a `.state` file.
///
/// A log opens from any segment and the state beside it. The content is canonical: it follows from
/// the entries below it alone, so all replicas write the same bytes. Its presence is a promise:
/// everything below lies synced in segments. Little endian:
///
/// | bytes | field |
/// |---|---|
/// | 0-7 | magic `FLSTATE1` |
/// | 8-11 | version, 1 |
/// | 12-15 | CRC32C over all other bytes |
/// | 16-31, 32-35 | topic id, partition |
/// | 36-43, 44-47 | Raft index and term of the last entry below |
/// | 48-51 | that entry's frame CRC |
/// | 52-59 | the next Kafka offset |
/// | 60-67 | the last entry's append time |
/// | 68-75 | the log start offset |
/// | 76-83, 84-91 | first Raft index and base offset of the segment that takes the next entry |
/// | 92-95, 96-99, 100-103 | how many entries, `.log` bytes and `.control` bytes it has so far |
/// | 104-111, 112-119 | its largest record timestamp and its first append time so far |
/// | 120-127 | Raft index of the entry that brought the membership; 0: the group was created with it |
/// | then | the membership (`MembershipBytes`) |
/// | then | 4 number of terms, each: 4 term, 8 first Raft index, 8 first Kafka offset |
/// | then | 4 length, and the state machines' snapshot: producers, open and aborted transactions |
package struct LogState: Hashable, Sendable {
    /// The last entry below.
    package var mark: LogMark
    /// The first readable offset.
    package var logStartOffset: Offset
    /// The segment that takes the next entry.
    package var segment: SegmentName
    /// How far that segment is filled.
    package var extent: SegmentExtent
    /// The membership at `mark`, and the entry that brought it.
    package var membership: IndexedMembership
    /// The terms up to `mark`.
    package var terms: TermTable
    /// The state machines' snapshot at `mark`; empty before the first entry.
    package var stateMachine: ByteBuffer

    /// The state before the first entry of a log.
    package static let initial = LogState(
        mark: .start,
        logStartOffset: .zero,
        segment: SegmentName(baseOffset: .zero, firstIndex: LogIndex(1)),
        extent: SegmentExtent(),
        membership: IndexedMembership(index: .zero, membership: .empty),
        terms: TermTable(),
        stateMachine: ByteBuffer()
    )

    /// The file's name: the entry that follows.
    var name: SegmentName {
        SegmentName(baseOffset: mark.endOffset, firstIndex: mark.index.next)
    }
}

extension LogState {
    static let version: UInt32 = 1
    private static let magic = Array("FLSTATE1".utf8)

    /// Why bytes are not a state of ours.
    enum Problem: Error, Hashable {
        case damaged
        case unsupportedVersion(UInt32)
        case foreign
    }

    /// The content of the `.state` file of a partition.
    func bytes(of partition: TopicPartition) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeBytes(Self.magic)
        buffer.writeInteger(Self.version, endianness: .little)
        buffer.writeInteger(UInt32(0))
        buffer.writeInteger(partition.topic.high, endianness: .little)
        buffer.writeInteger(partition.topic.low, endianness: .little)
        buffer.writeInteger(partition.partition, endianness: .little)
        write(mark, into: &buffer)
        buffer.writeInteger(logStartOffset.rawValue, endianness: .little)
        writeSegment(into: &buffer)
        buffer.writeInteger(membership.index.rawValue, endianness: .little)
        membership.membership.encode(into: &buffer)
        let rows = terms.capped.rows
        buffer.writeInteger(UInt32(rows.count), endianness: .little)
        for row in rows {
            buffer.writeInteger(row.term.rawValue, endianness: .little)
            buffer.writeInteger(row.firstIndex.rawValue, endianness: .little)
            buffer.writeInteger(row.firstOffset.rawValue, endianness: .little)
        }
        buffer.writeInteger(UInt32(stateMachine.readableBytes), endianness: .little)
        buffer.writeBytes(stateMachine.readableBytesSpan)
        let checksum = checksumAroundField(of: buffer)
        buffer.setInteger(checksum, at: 12, endianness: .little)
        return buffer
    }

    private func write(_ mark: LogMark, into buffer: inout ByteBuffer) {
        buffer.writeInteger(mark.index.rawValue, endianness: .little)
        buffer.writeInteger(mark.term.rawValue, endianness: .little)
        buffer.writeInteger(mark.checksum, endianness: .little)
        buffer.writeInteger(mark.endOffset.rawValue, endianness: .little)
        buffer.writeInteger(mark.appendTime.rawValue, endianness: .little)
    }

    private func writeSegment(into buffer: inout ByteBuffer) {
        buffer.writeInteger(segment.firstIndex.rawValue, endianness: .little)
        buffer.writeInteger(segment.baseOffset.rawValue, endianness: .little)
        buffer.writeInteger(UInt32(extent.entryCount), endianness: .little)
        buffer.writeInteger(UInt32(extent.logByteCount), endianness: .little)
        buffer.writeInteger(UInt32(extent.controlByteCount), endianness: .little)
        buffer.writeInteger(extent.runningMaximum.rawValue, endianness: .little)
        buffer.writeInteger(extent.firstAppendTime.rawValue, endianness: .little)
    }

    /// Reads a `.state` file; a sound one of another version or partition is told apart from a
    /// damaged one.
    init(parsing buffer: ByteBuffer, partition: TopicPartition) throws(Problem) {
        var rest = buffer.slice()
        guard rest.readableBytes >= 128, rest.readBytes(length: 8) == Self.magic,
            let version = rest.readInteger(endianness: .little, as: UInt32.self),
            let checksum = rest.readInteger(endianness: .little, as: UInt32.self),
            checksum == checksumAroundField(of: buffer)
        else { throw .damaged }
        guard version == Self.version else { throw .unsupportedVersion(version) }
        let high = Self.read(UInt64.self, from: &rest) ?? 0
        let low = Self.read(UInt64.self, from: &rest) ?? 0
        let number = Self.read(Int32.self, from: &rest) ?? 0
        guard TopicPartition(topic: TopicID(high: high, low: low), partition: number) == partition
        else {
            throw .foreign
        }
        guard let mark = Self.readMark(&rest), let start = Self.read(Int64.self, from: &rest),
            let (segment, extent) = Self.readSegment(&rest),
            let membershipIndex = Self.read(UInt64.self, from: &rest),
            let membership = Membership(readingFrom: &rest), let terms = Self.readTerms(&rest),
            let length = Self.read(UInt32.self, from: &rest), rest.readableBytes == Int(length)
        else { throw .damaged }
        self.init(
            mark: mark,
            logStartOffset: Offset(start),
            segment: segment,
            extent: extent,
            membership: IndexedMembership(index: LogIndex(membershipIndex), membership: membership),
            terms: terms,
            stateMachine: rest.slice()
        )
    }

    /// Reads the `.state` file of that name; one whose content belongs to another place is damaged.
    static func read(
        _ name: SegmentName,
        of partition: TopicPartition,
        in directory: String,
        on disk: any Disk,
        isUncached: Bool = false
    ) throws(DiskError) -> Result<LogState, Problem> {
        let file = try disk.open("\(directory)/\(name.fileName(.state))", .read)
        let count = Int(try file.byteCount())
        let bytes =
            isUncached
            ? try file.readUncached(at: 0, count: count) : try file.read(at: 0, count: count)
        do {
            let state = try LogState(parsing: bytes, partition: partition)
            return state.name == name ? .success(state) : .failure(.damaged)
        } catch {
            return .failure(error)
        }
    }

    private static func read<Number: FixedWidthInteger>(
        _ type: Number.Type,
        from buffer: inout ByteBuffer
    ) -> Number? {
        buffer.readInteger(endianness: .little, as: type)
    }

    private static func readMark(_ buffer: inout ByteBuffer) -> LogMark? {
        guard let index = read(UInt64.self, from: &buffer),
            let term = read(UInt32.self, from: &buffer),
            let checksum = read(UInt32.self, from: &buffer),
            let endOffset = read(Int64.self, from: &buffer),
            let appendTime = read(Int64.self, from: &buffer)
        else { return nil }
        return LogMark(
            index: LogIndex(index),
            term: Term(term),
            checksum: checksum,
            endOffset: Offset(endOffset),
            appendTime: Timestamp(appendTime)
        )
    }

    private static func readSegment(_ buffer: inout ByteBuffer) -> (SegmentName, SegmentExtent)? {
        guard let index = read(UInt64.self, from: &buffer),
            let offset = read(Int64.self, from: &buffer),
            let entryCount = read(UInt32.self, from: &buffer),
            let logByteCount = read(UInt32.self, from: &buffer),
            let controlByteCount = read(UInt32.self, from: &buffer),
            let maximum = read(Int64.self, from: &buffer),
            let firstAppendTime = read(Int64.self, from: &buffer)
        else { return nil }
        let extent = SegmentExtent(
            entryCount: Int(entryCount),
            logByteCount: Int(logByteCount),
            controlByteCount: Int(controlByteCount),
            runningMaximum: Timestamp(maximum),
            firstAppendTime: Timestamp(firstAppendTime)
        )
        return (SegmentName(baseOffset: Offset(offset), firstIndex: LogIndex(index)), extent)
    }

    private static func readTerms(_ buffer: inout ByteBuffer) -> TermTable? {
        guard let count = read(UInt32.self, from: &buffer), count <= TermTable.maximumStoredRowCount
        else { return nil }
        var rows: [TermTable.Row] = []
        for _ in 0..<count {
            guard let term = read(UInt32.self, from: &buffer),
                let index = read(UInt64.self, from: &buffer),
                let offset = read(Int64.self, from: &buffer)
            else { return nil }
            rows.append(
                TermTable.Row(
                    term: Term(term),
                    firstIndex: LogIndex(index),
                    firstOffset: Offset(offset)
                )
            )
        }
        return TermTable(rows: rows)
    }
}
