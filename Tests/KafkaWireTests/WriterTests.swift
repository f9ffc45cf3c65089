import FlotillaKafkaWire
import FlotillaModel
import NIOCore
import Testing

/// Frames on their way out.
@Suite("Writing")
struct WriterTests {
    @Test("A set field that the version lacks is refused, unless it may be dropped")
    func fieldNotInVersion() throws {
        let refusal = WireError.fieldNotInVersion(
            field: "ProduceRequest.transactionalId",
            version: 2
        )
        #expect(throws: refusal) { try ProduceRequest(transactionalId: "t").encoded(version: 2) }
        // The name of a topic is dropped where its id says the same.
        let topic = ProduceRequest.TopicProduceData(name: "t", topicId: TopicID(high: 1, low: 2))
        let request = ProduceRequest(topicData: [topic])
        let written = try ProduceRequest(from: request.encoded(version: 13), version: 13)
        #expect(written.topicData.first?.name == "")
        #expect(written.topicData.first?.topicId == TopicID(high: 1, low: 2))
        var tagged = ProduceRequest()
        tagged.unknownTaggedFields = [TaggedField(tag: 3, bytes: ByteBuffer())]
        #expect(throws: WireError.self) { try tagged.encoded(version: 8) }
    }

    @Test("Null is refused where the version does not allow it")
    func nullNotAllowed() throws {
        #expect(throws: WireError.nullNotAllowed) {
            try MetadataRequest(topics: nil).encoded(version: 0)
        }
        #expect(
            try MetadataRequest(topics: nil).encoded(version: 1) == ByteBuffer(integer: Int32(-1))
        )
    }

    @Test("A string too long for its length field is refused")
    func valueTooLong() {
        let name = String(repeating: "x", count: 32_768)
        #expect(throws: WireError.valueTooLong(byteCount: 32_768)) {
            try SaslHandshakeRequest(mechanism: name).encoded(version: 1)
        }
    }

    @Test("A tag given twice is refused")
    func duplicateTag() {
        var request = ApiVersionsRequest()
        let field = TaggedField(tag: 3, bytes: ByteBuffer())
        request.unknownTaggedFields = [field, field]
        #expect(throws: WireError.tagOutOfOrder(3)) { try request.encoded(version: 3) }
    }

    @Test("Known and unknown tags leave in ascending order")
    func tagOrder() throws {
        var response = ApiVersionsResponse(finalizedFeaturesEpoch: 7)
        response.unknownTaggedFields = [
            TaggedField(tag: 9, bytes: ByteBuffer(bytes: [1])),
            TaggedField(tag: 0x80, bytes: ByteBuffer()),
        ]
        let bytes = try response.encoded(version: 3)
        #expect(
            Array(bytes.readableBytesView.suffix(17)) == [
                3, 1, 8, 0, 0, 0, 0, 0, 0, 0, 7, 9, 1, 1, 0x80, 0x01, 0,
            ]
        )
        #expect(try ApiVersionsResponse(from: bytes, version: 3) == response)
    }

    @Test("Replies follow each other in one writer, and one that fails leaves no trace")
    func severalFrames() throws {
        var writer = WireWriter()
        let records = Records(ByteBuffer(repeating: 7, count: 5000))
        let good = fetchResponse(records)
        try good.writeFrame(into: &writer, version: 11, correlationId: 1)
        let length = writer.byteCount
        var bad = good
        bad.nodeEndpoints = [.init(nodeId: 1)]
        #expect(throws: WireError.self) {
            try bad.writeFrame(into: &writer, version: 11, correlationId: 2)
        }
        #expect(writer.byteCount == length)
        try good.writeFrame(into: &writer, version: 11, correlationId: 3)
        let output = writer.finish()
        #expect(output.byteCount == 2 * length)
        #expect(output.buffer == nil)
        let bytes = output.contiguousBytes()
        let first = try #require(bytes.getSlice(at: 0, length: length))
        #expect(first == (try good.frame(version: 11, correlationId: 1).contiguousBytes()))
        let second = try #require(bytes.getSlice(at: length, length: length))
        #expect(second == (try good.frame(version: 11, correlationId: 3).contiguousBytes()))
    }

    private func fetchResponse(_ records: Records?) -> FetchResponse {
        let partition = FetchResponse.PartitionData(
            partitionIndex: 4,
            highWatermark: 9,
            records: records
        )
        return FetchResponse(responses: [.init(topic: "t", partitions: [partition])])
    }

    @Test(
        "Long records leave as they are, between the bytes written",
        arguments: [11, 12] as [Int16]
    )
    func parts(version: Int16) throws {
        let tail = ByteBuffer(repeating: 2, count: 4097)
        let response = fetchResponse(
            Records(parts: [
                .bytes(ByteBuffer(repeating: 1, count: 69)), .bytes(tail),
                .external(token: 5, byteCount: 65_536),
            ])
        )
        let output = try response.frame(version: version, correlationId: 1)
        let parts = output.parts
        // Tags follow the records in flexible versions only.
        #expect(parts.count == (version == 12 ? 4 : 3))
        #expect(parts[1] == .bytes(tail))
        #expect(parts[2] == .external(token: 5, byteCount: 65_536))
        #expect(parts.reduce(0) { $0 + $1.byteCount } == output.byteCount)

        // With the external bytes in their place it is the frame of the same records in one piece.
        var sent = ByteBuffer()
        for part in parts {
            switch part {
            case .bytes(let buffer): sent.writeImmutableBuffer(buffer)
            case .external(_, let byteCount): sent.writeRepeatingByte(3, count: byteCount)
            }
        }
        var whole = ByteBuffer(repeating: 1, count: 69)
        whole.writeImmutableBuffer(tail)
        whole.writeRepeatingByte(3, count: 65_536)
        let expected = try fetchResponse(Records(whole)).frame(version: version, correlationId: 1)
        #expect(sent == expected.contiguousBytes())
        #expect(sent.getInteger(at: 0, as: Int32.self).map { Int($0) } == sent.readableBytes - 4)
    }

    @Test("Short records are copied, so that the frame stays one buffer")
    func shortRecords() throws {
        let output = try fetchResponse(Records(ByteBuffer(repeating: 1, count: 4096)))
            .frame(version: 11, correlationId: 1)
        #expect(output.buffer?.readableBytes == output.byteCount)
        #expect(output.parts.count == 1)
    }

    @Test("Records and byte fields are slices of the request, not copies")
    func slices() throws {
        let partition = ProduceRequest.PartitionProduceData(
            records: Records(ByteBuffer(repeating: 9, count: 100_000))
        )
        let request = ProduceRequest(topicData: [.init(name: "t", partitionData: [partition])])
        let frame = try request.encoded(version: 9)
        let read = try ProduceRequest(from: frame, version: 9)
        let records = try #require(read.topicData.first?.partitionData.first?.records?.buffer)
        #expect(records.readableBytes == 100_000)
        let frameRange = addresses(frame)
        let recordsRange = addresses(records)
        #expect(frameRange.lowerBound < recordsRange.lowerBound)
        #expect(recordsRange.upperBound < frameRange.upperBound)
    }

    private func addresses(_ buffer: ByteBuffer) -> Range<UInt> {
        unsafe buffer.withUnsafeReadableBytes { bytes in
            let start = UInt(bitPattern: bytes.baseAddress)
            return start..<start + UInt(bytes.count)
        }
    }

    @Test("Records know their length and their parts")
    func records() {
        var records = Records()
        #expect(records.byteCount == 0 && records.parts.isEmpty && records.buffer == ByteBuffer())
        let first = ByteBuffer(bytes: [1, 2])
        records.append(.bytes(first))
        #expect(records.buffer == first && records.parts == [.bytes(first)])
        records.append(.external(token: 1, byteCount: 5))
        records.append(.bytes(first))
        #expect(records.byteCount == 9 && records.buffer == nil && records.parts.count == 3)
        #expect(Records(parts: [.bytes(first)]).buffer == first)
        #expect(Records(parts: []).buffer == ByteBuffer())
        #expect(Records(parts: [.external(token: 1, byteCount: 5)]).buffer == nil)
    }

    @Test("ApiVersions is answered with the oldest header, whatever the version")
    func apiVersionsHeader() throws {
        let output = try ApiVersionsResponse(errorCode: 35).frame(
            version: 3,
            correlationId: 0x0102_0304
        )
        let bytes = try #require(output.buffer)
        // Length, correlation id, and the error at once: no tagged fields between.
        #expect(Array(bytes.readableBytesView.dropFirst(4).prefix(6)) == [1, 2, 3, 4, 0, 35])
    }

    @Test("The consumer protocol is read in a newer version, a coordinator record is not")
    func versionPrefix() throws {
        let subscription = ConsumerProtocolSubscription(topics: ["a"], generationId: 3, rackId: "r")
        var bytes = try subscription.versionPrefixed(version: 3)
        bytes.setInteger(Int16(7), at: 0)
        let read = try ConsumerProtocolSubscription(versionPrefixed: bytes, acceptsNewer: true)
        #expect(read == subscription)
        #expect(throws: WireError.self) { try ConsumerProtocolSubscription(versionPrefixed: bytes) }
        let key = try GroupMetadataKey(group: "g").versionPrefixed(version: 2)
        #expect(Array(key.readableBytesView) == [0, 2, 0, 1, 103])
        #expect(throws: WireError.self) { try OffsetCommitKey(versionPrefixed: key) }
    }
}
