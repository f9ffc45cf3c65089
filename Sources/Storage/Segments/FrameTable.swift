package import FlotillaModel
package import FlotillaRecords
import struct NIOCore.ByteBuffer

// The `.frames` file of a segment: a header, then one row per entry, dense and in order. Little
// endian.
//
//   header, 64 bytes                              row, 64 bytes
//    0-7   magic "FLFRAMES"                        0-47  the entry's frame
//    8-11  version, 1                             48-55  largest timestamp of a record in this segment so far, -1: none
//   12-15  CRC32C over the other 60 bytes         56-59  position of the payload in `.log` (data) or `.control`
//   16-31  topic id                               60-63  CRC32C over bytes 48-59
//   32-35  partition
//   36-39  CRC of the frame before the first row
//   40-47  first Raft index
//   48-55  base offset
//   56-63  zero
//
// The running timestamp starts anew in each segment, so that a file depends on nothing that
// retention may delete.

/// The first 64 bytes of a `.frames` file.
struct FrameTableHeader: Hashable, Sendable {
    static let byteCount = 64
    static let version: UInt32 = 1
    private static let magic = Array("FLFRAMES".utf8)

    var partition: TopicPartition
    var name: SegmentName
    /// The checksum of the frame before the segment's first; 0 at the start of a log.
    var previousChecksum: UInt32

    /// Why 64 bytes are not a header of ours.
    enum Problem: Error, Hashable {
        case damaged
        case unsupportedVersion(UInt32)
    }

    var bytes: ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeBytes(Self.magic)
        buffer.writeInteger(Self.version, endianness: .little)
        buffer.writeInteger(UInt32(0))
        buffer.writeInteger(partition.topic.high, endianness: .little)
        buffer.writeInteger(partition.topic.low, endianness: .little)
        buffer.writeInteger(partition.partition, endianness: .little)
        buffer.writeInteger(previousChecksum, endianness: .little)
        buffer.writeInteger(name.firstIndex.rawValue, endianness: .little)
        buffer.writeInteger(name.baseOffset.rawValue, endianness: .little)
        buffer.writeInteger(UInt64(0))
        let checksum = checksumAroundField(of: buffer)
        buffer.setInteger(checksum, at: 12, endianness: .little)
        return buffer
    }

    init(partition: TopicPartition, name: SegmentName, previousChecksum: UInt32) {
        self.partition = partition
        self.name = name
        self.previousChecksum = previousChecksum
    }

    /// Reads a header; a sound one of another version is told apart from a damaged one.
    init(parsing buffer: ByteBuffer) throws(Problem) {
        var rest = buffer.slice()
        guard rest.readableBytes == Self.byteCount, rest.readBytes(length: 8) == Self.magic,
            let version = rest.readInteger(endianness: .little, as: UInt32.self),
            let checksum = rest.readInteger(endianness: .little, as: UInt32.self),
            checksum == checksumAroundField(of: buffer)
        else { throw .damaged }
        guard version == Self.version else { throw .unsupportedVersion(version) }
        guard let high = rest.readInteger(endianness: .little, as: UInt64.self),
            let low = rest.readInteger(endianness: .little, as: UInt64.self),
            let number = rest.readInteger(endianness: .little, as: Int32.self),
            let previous = rest.readInteger(endianness: .little, as: UInt32.self),
            let index = rest.readInteger(endianness: .little, as: UInt64.self),
            let offset = rest.readInteger(endianness: .little, as: Int64.self)
        else { throw .damaged }
        partition = TopicPartition(topic: TopicID(high: high, low: low), partition: number)
        name = SegmentName(baseOffset: Offset(offset), firstIndex: LogIndex(index))
        previousChecksum = previous
    }
}

/// The checksum of a file whose own bytes 12 to 15 hold it.
func checksumAroundField(of buffer: ByteBuffer) -> UInt32 {
    let bytes = buffer.readableBytesSpan
    var checksum = CRC32C()
    checksum.update(bytes.extracting(first: 12))
    checksum.update(bytes.extracting(droppingFirst: 16))
    return checksum.value
}

/// One row of a `.frames` file: an entry's frame, and where and when it lies in its segment.
package struct FrameRow: Hashable, Sendable {
    /// The size of a row.
    package static let byteCount = 64

    /// The entry's frame.
    package var frame: Frame
    /// The largest record timestamp in the segment up to and with this entry; `.none` before the
    /// first record.
    package var runningMaximum: Timestamp
    /// The payload's first byte in `.log` for data, in `.control` for other kinds.
    package var position: UInt32

    /// States a row.
    init(frame: Frame, runningMaximum: Timestamp, position: UInt32) {
        self.frame = frame
        self.runningMaximum = runningMaximum
        self.position = position
    }

    /// Appends the row's 64 bytes to `buffer`.
    func write(into buffer: inout ByteBuffer) {
        frame.write(into: &buffer)
        let start = buffer.writerIndex
        buffer.writeInteger(runningMaximum.rawValue, endianness: .little)
        buffer.writeInteger(position, endianness: .little)
        let droppedCount = start - buffer.readerIndex
        let checksum = CRC32C.checksum(
            buffer.readableBytesSpan.extracting(droppingFirst: droppedCount)
        )
        buffer.writeInteger(checksum, endianness: .little)
    }

    /// Reads a row, without looking at the payload.
    init(parsing row: RawSpan) throws(RowProblem) {
        guard row.littleEndian(UInt32.self, at: 60) == CRC32C.checksum(row.extracting(48..<60))
        else {
            throw .row
        }
        do {
            frame = try Frame(parsing: row)
        } catch {
            throw .frame
        }
        runningMaximum = Timestamp(row.littleEndian(Int64.self, at: 48))
        position = row.littleEndian(UInt32.self, at: 56)
    }

    /// The range of the payload in its file.
    var payloadRange: Range<Int> {
        Int(position)..<Int(position) + frame.payloadByteCount
    }
}

/// What a row fails by.
enum RowProblem: Error {
    case row
    case frame
    case chain
    case payload
    case missing

    var reason: Damage.Reason {
        switch self {
        case .row: .row
        case .frame: .frame
        case .chain: .chain
        case .payload: .payload
        case .missing: .missing
        }
    }
}

extension RawSpan {
    /// The little-endian integer at `position`.
    @inline(__always)
    func littleEndian<Number: FixedWidthInteger & BitwiseCopyable>(
        _ type: Number.Type,
        at position: Int
    ) -> Number {
        precondition(
            position >= 0 && byteCount - position >= MemoryLayout<Number>.size,
            "a number is read within its bytes"
        )
        // Safe: the line above keeps the whole number within the span; every bit pattern is an
        // integer.
        return Number(
            littleEndian: unsafe unsafeLoadUnaligned(fromUncheckedByteOffset: position, as: type)
        )
    }

    /// The big-endian integer at `position`, as Kafka writes it.
    @inline(__always)
    func bigEndian<Number: FixedWidthInteger & BitwiseCopyable>(
        _ type: Number.Type,
        at position: Int
    ) -> Number {
        littleEndian(type, at: position).byteSwapped
    }
}
