package import FlotillaModel
import FlotillaRecords
package import struct NIOCore.ByteBuffer

// A shipment is the log's sealed segments and the `.state` behind them, on the way to a replica
// whose next entry cannot be sent any more. First the manifest travels, then every byte of every
// file in the manifest's order, in chunks. Little endian:
//
//   manifest                                   chunk
//    2  version, 1                              4  CRC32C over the rest
//    8  Raft index of the last entry            4  number of the file in the manifest
//    4  its term                                8  position of the first byte in the file
//    4  its frame CRC                           .  the bytes
//    8  the Kafka offset after it
//    4  bytes of the `.state`
//    4  number of segments, each:
//       8 base offset, 8 first Raft index, 4 entries, 4 bytes of `.log`, 4 bytes of `.control`

/// What a shipment consists of.
package struct ShipmentManifest: Hashable, Sendable {
    /// A sealed segment.
    package struct Segment: Hashable, Sendable {
        /// Its name.
        package var name: SegmentName
        /// How many entries it has.
        package var entryCount: Int
        /// The bytes of its `.log`.
        package var logByteCount: Int
        /// The bytes of its `.control`.
        package var controlByteCount: Int
    }

    /// One file, by its place in the shipment.
    package struct File: Hashable, Sendable {
        /// Whose file it is.
        package var name: SegmentName
        /// Which of its files.
        package var kind: SegmentFileKind
        /// Its length.
        package var byteCount: Int
    }

    /// The last entry of the shipment; it is committed.
    package var position: LogPosition
    /// That entry's frame CRC.
    package var checksum: UInt32
    /// The Kafka offset after it.
    package var endOffset: Offset
    /// The length of the `.state`.
    package var stateByteCount: Int
    /// The segments in order, without a gap.
    package var segments: [Segment]

    /// The `.state` first, since the rows are compared with it; then each segment's files.
    package var files: [File] {
        let state = File(name: end, kind: .state, byteCount: stateByteCount)
        return [state]
            + segments.flatMap { segment in
                let rows = FrameTableHeader.byteCount + segment.entryCount * FrameRow.byteCount
                return [
                    File(name: segment.name, kind: .frames, byteCount: rows),
                    File(name: segment.name, kind: .log, byteCount: segment.logByteCount),
                    File(name: segment.name, kind: .control, byteCount: segment.controlByteCount),
                ]
            }
    }

    /// All bytes of all files.
    package var byteCount: Int {
        files.reduce(0) { $0 + $1.byteCount }
    }

    /// The name of the segment that follows, which is the name of the `.state`.
    var end: SegmentName {
        SegmentName(baseOffset: endOffset, firstIndex: position.index.next)
    }

    /// The most segments that one shipment may have.
    package static let maximumSegmentCount = 1 << 20
    private static let version: UInt16 = 1
}

extension ShipmentManifest {
    /// The manifest as bytes.
    package var bytes: ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeInteger(Self.version, endianness: .little)
        buffer.writeInteger(position.index.rawValue, endianness: .little)
        buffer.writeInteger(position.term.rawValue, endianness: .little)
        buffer.writeInteger(checksum, endianness: .little)
        buffer.writeInteger(endOffset.rawValue, endianness: .little)
        buffer.writeInteger(UInt32(stateByteCount), endianness: .little)
        buffer.writeInteger(UInt32(segments.count), endianness: .little)
        for segment in segments {
            buffer.writeInteger(segment.name.baseOffset.rawValue, endianness: .little)
            buffer.writeInteger(segment.name.firstIndex.rawValue, endianness: .little)
            buffer.writeInteger(UInt32(segment.entryCount), endianness: .little)
            buffer.writeInteger(UInt32(segment.logByteCount), endianness: .little)
            buffer.writeInteger(UInt32(segment.controlByteCount), endianness: .little)
        }
        return buffer
    }

    /// Reads a manifest; nil for bytes that are none, or that describe no log: segments that do not
    /// follow one another, or do not end where the manifest does.
    package init?(parsing bytes: ByteBuffer) {
        var rest = bytes
        guard rest.readInteger(endianness: .little, as: UInt16.self) == Self.version,
            let index = rest.readInteger(endianness: .little, as: UInt64.self), index > 0,
            index < UInt64(Int64.max),
            let term = rest.readInteger(endianness: .little, as: UInt32.self),
            let checksum = rest.readInteger(endianness: .little, as: UInt32.self),
            let endOffset = rest.readInteger(endianness: .little, as: Int64.self), endOffset >= 0,
            let stateByteCount = rest.readInteger(endianness: .little, as: UInt32.self),
            let count = rest.readInteger(endianness: .little, as: UInt32.self),
            count <= Self.maximumSegmentCount
        else { return nil }
        position = LogPosition(term: Term(term), index: LogIndex(index))
        self.checksum = checksum
        self.endOffset = Offset(endOffset)
        self.stateByteCount = Int(stateByteCount)
        segments = []
        for _ in 0..<count {
            guard let segment = Self.readSegment(&rest) else { return nil }
            segments.append(segment)
        }
        guard rest.readableBytes == 0, isOneLog else { return nil }
    }

    private static func readSegment(_ buffer: inout ByteBuffer) -> Segment? {
        guard let offset = buffer.readInteger(endianness: .little, as: Int64.self), offset >= 0,
            let index = buffer.readInteger(endianness: .little, as: UInt64.self), index > 0,
            index < UInt64(Int64.max),
            let entryCount = buffer.readInteger(endianness: .little, as: UInt32.self),
            let logByteCount = buffer.readInteger(endianness: .little, as: UInt32.self),
            let controlByteCount = buffer.readInteger(endianness: .little, as: UInt32.self)
        else { return nil }
        return Segment(
            name: SegmentName(baseOffset: Offset(offset), firstIndex: LogIndex(index)),
            entryCount: Int(entryCount),
            logByteCount: Int(logByteCount),
            controlByteCount: Int(controlByteCount)
        )
    }

    private var isOneLog: Bool {
        var next = segments.first?.name ?? end
        for segment in segments {
            guard segment.entryCount > 0, segment.name.firstIndex == next.firstIndex,
                segment.name.baseOffset >= next.baseOffset
            else { return false }
            next.firstIndex = next.firstIndex + UInt64(segment.entryCount)
            next.baseOffset = segment.name.baseOffset
        }
        return next.firstIndex == end.firstIndex && next.baseOffset <= end.baseOffset
    }
}

/// A place in a shipment: a byte of a file.
package struct ShipmentPlace: Hashable, Sendable {
    /// The number of the file in the manifest.
    package var file: Int
    /// The byte in the file.
    package var position: Int

    /// Names a place.
    package init(file: Int, position: Int) {
        self.file = file
        self.position = position
    }
}

extension ShipmentManifest {
    /// Where a shipment begins; nil when it has no byte.
    package var start: ShipmentPlace? {
        place(ShipmentPlace(file: 0, position: 0))
    }

    /// The place after a chunk; nil at the end.
    package func place(after chunk: ShipmentChunk) -> ShipmentPlace? {
        place(
            ShipmentPlace(
                file: chunk.place.file,
                position: chunk.place.position + chunk.bytes.readableBytes
            )
        )
    }

    /// The next byte at or behind a place; empty files have none.
    private func place(_ place: ShipmentPlace) -> ShipmentPlace? {
        let files = files
        var place = place
        while place.file < files.count, place.position >= files[place.file].byteCount {
            place = ShipmentPlace(file: place.file + 1, position: 0)
        }
        return place.file < files.count ? place : nil
    }
}

/// Bytes of one file of a shipment.
package struct ShipmentChunk: Hashable, Sendable {
    /// Where they belong.
    package var place: ShipmentPlace
    /// What lies there.
    package var bytes: ByteBuffer
    /// CRC32C over place and bytes, as the sender read them.
    package var checksum: UInt32

    /// A chunk for the way, with its checksum.
    package init(place: ShipmentPlace, bytes: ByteBuffer) {
        self.place = place
        self.bytes = bytes
        checksum = 0
        checksum = computedChecksum
    }

    /// Whether the bytes are those that the sender read.
    package var isSound: Bool {
        checksum == computedChecksum
    }

    /// The chunk as bytes, head and content apart so that the content is not copied.
    package var parts: [ByteBuffer] {
        var head = ByteBuffer()
        head.writeInteger(checksum, endianness: .little)
        head.writeImmutableBuffer(placeBytes)
        return [head, bytes]
    }

    /// Reads a chunk, whose checksum is not compared yet; nil for bytes that are none.
    package init?(parsing bytes: ByteBuffer) {
        var rest = bytes
        guard let checksum = rest.readInteger(endianness: .little, as: UInt32.self),
            let file = rest.readInteger(endianness: .little, as: UInt32.self),
            let position = rest.readInteger(endianness: .little, as: UInt64.self),
            let place = Int(exactly: position), rest.readableBytes > 0
        else { return nil }
        self.place = ShipmentPlace(file: Int(file), position: place)
        self.checksum = checksum
        self.bytes = rest.slice()
    }

    private var placeBytes: ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeInteger(UInt32(place.file), endianness: .little)
        buffer.writeInteger(UInt64(place.position), endianness: .little)
        return buffer
    }

    private var computedChecksum: UInt32 {
        var checksum = CRC32C()
        checksum.update(placeBytes)
        checksum.update(bytes)
        return checksum.value
    }
}

/// Why received files are not what a leader's log consists of.
package enum ShipmentProblem: Hashable, Sendable, CustomStringConvertible {
    /// A chunk is not the next one.
    case unexpectedPlace
    /// A chunk's bytes changed on the way.
    case chunk
    /// The `.state` is not readable, or is not the one that the manifest promises.
    case state
    /// The rows do not fill the files, or do not end where the manifest does.
    case extent(SegmentName)
    /// A row, its payload or its place in the chain is not sound.
    case damaged(Damage)

    /// The problem as words that follow the name of a directory.
    package var description: String {
        switch self {
        case .unexpectedPlace: "a chunk came out of order"
        case .chunk: "a chunk changed on its way"
        case .state: "the state does not belong to the files"
        case .extent(let name): "segment \(name) does not fill its place"
        case .damaged(let damage): "\(damage)"
        }
    }
}
