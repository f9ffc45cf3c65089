import FlotillaKafkaWire
import NIOCore
import Testing

/// Lengths, counts and tags that lie.
///
/// A length is refused before anything is allocated for it.
@Suite("Hostile input")
struct HostileInputTests {
    private func refused(
        _ expected: WireError,
        _ bytes: [UInt8],
        _ read: (inout WireReader) throws(WireError) -> Void,
        elementLimit: Int = WireReader.defaultElementLimit,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(throws: expected, sourceLocation: sourceLocation) {
            let buffer = ByteBuffer(bytes: bytes)
            var reader = WireReader(buffer, elementLimit: elementLimit)
            try read(&reader)
        }
    }

    @Test("Lengths beyond the bytes left, and negative ones, are refused")
    func lengths() {
        let most: [UInt8] = [0x7F, 0xFF, 0xFF, 0xFF]
        let compactMost: [UInt8] = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F]
        refused(.invalidLength(0x7FFF, left: 1), [0x7F, 0xFF, 65]) { (reader) throws(WireError) in
            _ = try reader.string(compact: false)
        }
        refused(.invalidLength(-2, left: 1), [0xFF, 0xFE, 65]) { (reader) throws(WireError) in
            _ = try reader.string(compact: false)
        }
        refused(.invalidLength(0xFFFF_FFFE, left: 0), compactMost) { (reader) throws(WireError) in
            _ = try reader.string(compact: true)
        }
        refused(.invalidLength(0x7FFF_FFFF, left: 0), most) { (reader) throws(WireError) in
            _ = try reader.bytes(compact: false)
        }
        refused(.invalidLength(0xFFFF_FFFE, left: 0), compactMost) { (reader) throws(WireError) in
            _ = try reader.optionalRecords(compact: true)
        }
        refused(.invalidLength(Int(Int32.min), left: 0), [0x80, 0, 0, 0]) {
            (reader) throws(WireError) in
            _ = try reader.integers(Int32.self, compact: false)
        }
    }

    @Test("A count is refused when its elements cannot be there")
    func counts() {
        let threeNumbers: [UInt8] = [0, 0, 0, 3] + [UInt8](repeating: 0, count: 11)
        refused(.invalidLength(3, left: 11), threeNumbers) { (reader) throws(WireError) in
            _ = try reader.integers(Int32.self, compact: false)
        }
        refused(.invalidLength(3, left: 5), [0, 0, 0, 3, 0, 0, 0, 0, 0]) {
            (reader) throws(WireError) in
            _ = try reader.strings(compact: false)
        }
        // The least topic of a Metadata request is a length of two bytes.
        let topics = ByteBuffer(bytes: [0, 0, 0, 100] + [UInt8](repeating: 0, count: 199))
        #expect(throws: WireError.invalidLength(100, left: 199)) {
            try MetadataRequest(from: topics, version: 0)
        }
    }

    @Test("Integers of variable length end within 32 bits")
    func varints() {
        for bytes: [UInt8] in [
            [0x80, 0x80, 0x80, 0x80, 0x80, 0x01], [0xFF, 0xFF, 0xFF, 0xFF, 0x1F],
        ] {
            refused(.varintTooLong, bytes) { (reader) throws(WireError) in _ = try reader.uvarint()
            }
        }
        refused(.truncated(byteCount: 1, left: 0), [0x80]) { (reader) throws(WireError) in
            _ = try reader.uvarint()
        }
    }

    @Test("Null is refused where the version does not allow it")
    func nulls() {
        refused(.unexpectedNull, [0xFF, 0xFF]) { (reader) throws(WireError) in
            _ = try reader.string(compact: false)
        }
        refused(.unexpectedNull, [0]) { (reader) throws(WireError) in
            _ = try reader.optionalStrings(compact: true, nullable: false)
        }
        #expect(throws: WireError.unexpectedNull) {
            try MetadataRequest(from: ByteBuffer(bytes: [0xFF, 0xFF, 0xFF, 0xFF]), version: 0)
        }
        #expect(throws: Never.self) {
            try MetadataRequest(from: ByteBuffer(bytes: [0xFF, 0xFF, 0xFF, 0xFF]), version: 1)
        }
    }

    @Test("A nullable struct begins with -1 or 1")
    func markers() throws {
        var bytes = try DescribeTopicPartitionsRequest(cursor: .init()).encoded(version: 0)
        let marker = bytes.readableBytes - 1 - 1 - 4 - 1 - 1
        #expect(bytes.getInteger(at: marker, as: Int8.self) == 1)
        bytes.setInteger(Int8(2), at: marker)
        #expect(throws: WireError.invalidMarker(2)) {
            try DescribeTopicPartitionsRequest(from: bytes, version: 0)
        }
    }

    @Test(
        "Tags ascend, fit, and fill their sizes",
        arguments: [
            ([2, 5, 0, 5, 0], WireError.tagOutOfOrder(5)),
            ([2, 5, 0, 4, 0], .tagOutOfOrder(4)),
            ([1, 5, 9, 0], .invalidLength(9, left: 1)),
            ([100, 5, 0], .invalidLength(100, left: 2)),
            // Tag 1 of ApiVersions is a number of eight bytes.
            ([1, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0], .tagSizeMismatch(left: 1)),
            ([1, 1, 7, 0, 0, 0, 0, 0, 0, 0, 0], .truncated(byteCount: 8, left: 7)),
        ] as [([UInt8], WireError)]
    )
    func tags(bytes: [UInt8], expected: WireError) {
        // No error, no keys, no throttling; then the tags.
        let response = ByteBuffer(bytes: [0, 0, 1, 0, 0, 0, 0] + bytes)
        #expect(throws: expected) { try ApiVersionsResponse(from: response, version: 3) }
    }

    @Test("Elements are counted over the whole message")
    func elements() {
        // Two arrays of two strings.
        let bytes: [UInt8] = [3, 1, 1, 3, 1, 1]
        refused(
            .tooManyElements(limit: 3),
            bytes,
            { (reader) throws(WireError) in
                _ = try reader.strings(compact: true)
                _ = try reader.strings(compact: true)
            },
            elementLimit: 3
        )
        let count = WireReader.defaultElementLimit + 1
        var topics = ByteBuffer(integer: Int32(count))
        topics.writeRepeatingByte(0, count: count * 3)
        #expect(throws: WireError.tooManyElements(limit: count - 1)) {
            try MetadataRequest(from: topics, version: 0)
        }
    }

    @Test(
        "A frame's length is checked before it is believed",
        arguments: [
            ([0, 0, 1, 0], 256, nil),
            ([0, 0, 1, 1], 257, WireError.frameLength(257, limit: 256)),
            ([0xFF, 0xFF, 0xFF, 0xFF], -1, .frameLength(-1, limit: 256)),
        ] as [([UInt8], Int, WireError?)]
    )
    func frameLength(bytes: [UInt8], length: Int, error: WireError?) throws {
        if let error {
            #expect(throws: error) {
                try FrameLength.read(from: ByteBuffer(bytes: bytes), limit: 256)
            }
        } else {
            #expect(try FrameLength.read(from: ByteBuffer(bytes: bytes), limit: 256) == length)
        }
        #expect(try FrameLength.read(from: ByteBuffer(bytes: bytes.dropLast()), limit: 256) == nil)
    }

    @Test("Unknown APIs and versions are named, and their prefix can be read")
    func unknown() throws {
        var unknownAPI = ByteBuffer(bytes: [0x7F, 0, 0, 1, 0, 0, 0, 9, 0, 0])
        #expect(throws: WireError.unknownAPI(0x7F00)) { try RequestHeader(consuming: &unknownAPI) }
        #expect(unknownAPI.readableBytes == 10)
        var newer = ByteBuffer(bytes: [0, 18, 0, 5, 0, 0, 0, 9, 1, 2, 3])
        #expect(throws: WireError.unsupportedVersion(message: "ApiVersionsRequest", version: 5)) {
            try RequestHeader(consuming: &newer)
        }
        let prefix = try RequestPrefix(peeking: newer)
        #expect(prefix.apiKey == 18 && prefix.apiVersion == 5 && prefix.correlationId == 9)
    }

    @Test("Malformed UTF-8 is repaired, not refused")
    func malformedText() throws {
        let reply = try SaslHandshakeRequest(from: ByteBuffer(bytes: [0, 2, 0xFF, 65]), version: 1)
        #expect(reply.mechanism == "\u{FFFD}A")
    }
}
