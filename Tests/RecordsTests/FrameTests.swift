import FlotillaModel
import FlotillaRecords
import Testing

import struct NIOCore.ByteBuffer

@Suite("Frame")
struct FrameTests {
    static let payload = ByteBuffer(string: "membership")

    static func frame(
        kind: EntryKind = .membership,
        flags: FrameFlags = .firstOfSegment,
        payload: ByteBuffer = payload
    ) -> Frame {
        Frame(
            kind: kind,
            flags: flags,
            index: LogIndex(0x0102_0304_0506_0708),
            term: Term(0x1112_1314),
            baseOffset: Offset(0x2122_2324_2526_2728),
            offsetSpan: 0,
            appendTime: Timestamp(0x3132_3334_3536_3738),
            previousChecksum: 0x4142_4344,
            payloadByteCount: payload.readableBytes,
            covering: payload.readableBytesSpan
        )
    }

    static func bytes(of frame: Frame) -> ByteBuffer {
        var buffer = ByteBuffer()
        frame.write(into: &buffer)
        return buffer
    }

    @Test("The 48 bytes lie as the table says, little endian")
    func layout() {
        let bytes = Self.bytes(of: Self.frame()).array
        let expected = ByteBuffer(
            hex: """
                0a000000 0807060504030201 14131211 02 010000 2827262524232221
                44434241 00000000 3837363534333231
                """
        ).array
        #expect(bytes.count == Frame.byteCount)
        #expect(Array(bytes[4...]) == expected)
        let covered = ByteBuffer(bytes: bytes[4...] + Self.payload.array)
        let stored = bytes[..<4].reversed().reduce(0 as UInt32) { $0 << 8 | UInt32($1) }
        #expect(stored == CRC32C.checksum(covered))
    }

    @Test(
        "What was written reads back and verifies",
        arguments: EntryKind.allCases.filter { $0 != .data }
    )
    func roundTrip(kind: EntryKind) throws {
        let frame = Self.frame(kind: kind)
        let parsed = try Frame(parsing: Self.bytes(of: frame).readableBytesSpan)
        #expect(parsed == frame)
        try parsed.verify(covering: Self.payload.readableBytesSpan)
        #expect(parsed.endOffset == frame.baseOffset)
        #expect(parsed.coveredByteCount == Self.payload.readableBytes)
        #expect(parsed.entryByteCount == 58)
    }

    @Test("Fewer than 48 bytes are no frame", arguments: 0..<Frame.byteCount)
    func truncated(count: Int) {
        let bytes = ByteBuffer(bytes: Self.bytes(of: Self.frame()).array[..<count])
        #expect(throws: RecordsError.truncated(needed: 48, found: count)) {
            try Frame(parsing: bytes.readableBytesSpan)
        }
    }

    @Test("Any turned bit of frame or payload is found", arguments: 0..<58)
    func flippedBits(position: Int) {
        let frame = Self.bytes(of: Self.frame()).array
        let whole = ByteBuffer(bytes: frame + Self.payload.array)
        for bit in 0..<8 {
            let damaged = whole.flipping(bit: bit, ofByte: position).array
            #expect(throws: RecordsError.self) {
                let parsed = try Frame(parsing: ByteBuffer(bytes: damaged[..<48]).readableBytesSpan)
                try parsed.verify(covering: ByteBuffer(bytes: damaged[48...]).readableBytesSpan)
            }
        }
    }

    @Test(
        "Numbers out of range are refused before anything is computed with them",
        arguments: [
            // Field, first byte, bytes to put there, error.
            (20, [7], .unknownEntryKind(7)),
            (20, [255], .unknownEntryKind(255)),
            (21, [3], .unknownFlags(3)),
            (21, [4], .unknownFlags(4)),
            (23, [1], .unknownFlags(0x1_0001)),
            (4, [0xFF, 0xFF, 0xFF, 0xFF], .frameFieldOutOfRange(.payloadByteCount)),
            (8, [0, 0, 0, 0, 0, 0, 0, 0], .frameFieldOutOfRange(.index)),
            (15, [0x80], .frameFieldOutOfRange(.index)),
            (19, [0x80], .frameFieldOutOfRange(.term)),
            (31, [0x80], .frameFieldOutOfRange(.baseOffset)),
            (36, [1], .frameFieldOutOfRange(.offsetSpan)),
            // Data needs a whole batch header, and takes an offset.
            (20, [0], .frameFieldOutOfRange(.payloadByteCount)),
        ] as [(Int, [UInt8], RecordsError)]
    )
    func outOfRange(position: Int, replacement: [UInt8], expected: RecordsError) {
        var bytes = Self.bytes(of: Self.frame()).array
        bytes.replaceSubrange(position..<position + replacement.count, with: replacement)
        let buffer = ByteBuffer(bytes: bytes)
        #expect(throws: expected) {
            try Frame(parsing: buffer.readableBytesSpan)
        }
    }

    @Test("A data frame's offsets cannot run past the last one")
    func offsetOverflow() {
        var bytes = Self.bytes(of: Self.frame(flags: [])).array
        bytes[20] = EntryKind.data.rawValue
        bytes.replaceSubrange(4..<8, with: [100, 0, 0, 0])
        bytes.replaceSubrange(24..<32, with: [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F])
        bytes.replaceSubrange(36..<40, with: [1, 0, 0, 0])
        let buffer = ByteBuffer(bytes: bytes)
        #expect(throws: RecordsError.frameFieldOutOfRange(.baseOffset)) {
            try Frame(parsing: buffer.readableBytesSpan)
        }
    }

    @Test("The checksum wants exactly the bytes that it covers")
    func coveredCount() {
        let frame = Self.frame()
        let short = ByteBuffer(string: "member")
        #expect(throws: RecordsError.truncated(needed: 10, found: 6)) {
            try frame.verify(covering: short.readableBytesSpan)
        }
    }
}
