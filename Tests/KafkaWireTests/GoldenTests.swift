import FlotillaEnvironment
import FlotillaKafkaWire
import Foundation
import NIOCore
import Testing

/// Frames that real clients sent and accepted.
@Suite("Golden frames")
struct GoldenTests {
    @Test("All frames are here")
    func complete() {
        #expect(Golden.all.count == 150)
        #expect(Golden.all.filter { $0.response == nil }.allSatisfy { $0.name.hasSuffix("acks0") })
    }

    @Test(
        "A client's request holds the fields of its JSON and is written back byte for byte",
        arguments: Golden.all
    )
    func request(golden: Golden) throws {
        let object = try golden.object()
        var body = golden.request
        let header = try RequestHeader(consuming: &body)
        #expect(header.requestApiKey == (object["api"] as? NSNumber)?.int16Value)
        #expect(header.requestApiVersion == (object["version"] as? NSNumber)?.int16Value)
        #expect(header.correlationId == (object["correlationId"] as? NSNumber)?.int32Value)
        #expect(header.clientId == object["clientId"] as? String)

        let api = try #require(header.api)
        let message = try MessageCatalog.request(api, version: header.requestApiVersion, body: body)
        var (codec, fields) = try golden.model("request")
        #expect(Value(reflecting: message).difference(from: codec.message(.json(fields))) == nil)

        let trailing = (object["trailingBytes"] as? NSNumber)?.intValue ?? 0
        let end = golden.request.readableBytes - trailing
        let written = try frame(
            message,
            version: header.requestApiVersion,
            correlationId: header.correlationId,
            clientId: header.clientId
        )
        #expect(written == golden.request.getSlice(at: 0, length: end))
    }

    private func frame<Request: KafkaRequest>(
        _ request: Request,
        version: Int16,
        correlationId: Int32,
        clientId: String?
    ) throws -> ByteBuffer? {
        let output = try request.frame(
            version: version,
            correlationId: correlationId,
            clientId: clientId
        )
        var bytes = output.contiguousBytes()
        #expect(bytes.readInteger(as: Int32.self).map { Int($0) } == output.byteCount - 4)
        return bytes.slice()
    }

    @Test(
        "An accepted response is what the same fields give",
        arguments: Golden.all.filter { $0.response != nil }
    )
    func response(golden: Golden) throws {
        let frame = try #require(golden.response)
        var (codec, fields) = try golden.model("response")
        let api = try #require(codec.schema.apiKey.flatMap { APIKey(rawValue: $0) })
        var body = frame
        let header = try ResponseHeader(consuming: &body, api: api, version: codec.version)
        #expect(body.readableBytesView.elementsEqual(codec.encoded(codec.message(.json(fields)))))

        let message = try MessageCatalog.response(api, version: codec.version, body: body)
        #expect(Value(reflecting: message).difference(from: codec.message(.json(fields))) == nil)
        let output = try message.frame(version: codec.version, correlationId: header.correlationId)
        #expect(output.contiguousBytes().getSlice(at: 4, length: frame.readableBytes) == frame)
        #expect(output.byteCount == frame.readableBytes + 4)
    }

    @Test("A frame cut anywhere is an error, never a trap", arguments: Golden.all)
    func truncated(golden: Golden) throws {
        let object = try golden.object()
        let trailing = (object["trailingBytes"] as? NSNumber)?.intValue ?? 0
        for length in 0..<golden.request.readableBytes - trailing {
            let cut = try #require(golden.request.getSlice(at: 0, length: length))
            #expect(throws: WireError.self, "\(length) bytes of the request") {
                try readRequest(cut)
            }
        }
        let api = try #require(APIKey(rawValue: (object["api"] as? NSNumber)?.int16Value ?? -1))
        let version = (object["version"] as? NSNumber)?.int16Value ?? -1
        for length in 0..<(golden.response?.readableBytes ?? 0) {
            let cut = try #require(golden.response?.getSlice(at: 0, length: length))
            #expect(throws: WireError.self, "\(length) bytes of the response") {
                var body = cut
                _ = try ResponseHeader(consuming: &body, api: api, version: version)
                _ = try MessageCatalog.response(api, version: version, body: body)
            }
        }
    }

    private func readRequest(_ frame: ByteBuffer) throws(WireError) {
        var body = frame
        let header = try RequestHeader(consuming: &body)
        guard let api = header.api else { throw .unknownAPI(header.requestApiKey) }
        _ = try MessageCatalog.request(api, version: header.requestApiVersion, body: body)
    }

    @Test("Random damage is refused or survives a round trip", arguments: Golden.all)
    func damaged(golden: Golden) throws {
        let object = try golden.object()
        var random = SeededRandom(seed: 7)
        for _ in 0..<100 {
            WireFuzz.request(damage(golden.request, using: &random))
            guard let response = golden.response else { continue }
            var frame = ByteBuffer(integer: (object["api"] as? NSNumber)?.int16Value ?? -1)
            frame.writeInteger((object["version"] as? NSNumber)?.int16Value ?? -1)
            let headerByteCount = 4
            frame.writeBytes(
                damage(response, using: &random).readableBytesView.dropFirst(headerByteCount)
            )
            WireFuzz.response(frame)
        }
    }

    /// A few bytes changed, cut out or put in.
    private func damage(_ frame: ByteBuffer, using random: inout SeededRandom) -> ByteBuffer {
        var bytes = Array(frame.readableBytesView)
        for _ in 0...Int.random(in: 0..<4, using: &random) where !bytes.isEmpty {
            let index = Int.random(in: 0..<bytes.count, using: &random)
            switch Int.random(in: 0..<4, using: &random) {
            case 0: bytes[index] = UInt8.random(in: 0...255, using: &random)
            case 1: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 2: bytes.remove(at: index)
            default:
                bytes.insert(
                    [0, 1, 0x7F, 0x80, 0xFF].randomElement(using: &random) ?? 0,
                    at: index
                )
            }
        }
        return ByteBuffer(bytes: bytes)
    }
}
