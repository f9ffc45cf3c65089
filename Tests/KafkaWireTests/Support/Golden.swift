import FlotillaKafkaWire
import Foundation
import NIOCore
import Testing

/// An exchange between a real client and a scripted server, see Golden/README.md.
struct Golden: CustomTestStringConvertible, Sendable {
    var name: String
    /// The decoded exchange as JSON text.
    var json: Data
    /// The frames without their four bytes of length.
    var request: ByteBuffer
    var response: ByteBuffer?

    var testDescription: String { name }

    static let all: [Golden] = {
        let directory = URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent(
                "Golden"
            )
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
        return names.filter { $0.hasSuffix(".golden") }.sorted().compactMap { name in
            let text = try? String(
                contentsOf: directory.appendingPathComponent(name),
                encoding: .utf8
            )
            return text.flatMap { Golden(name: String(name.dropLast(7)), text: $0) }
        }
    }()

    private init?(name: String, text: String) {
        guard let request = text.range(of: "\n\nrequest\n") else { return nil }
        let response = text.range(of: "\n\nresponse\n")
        self.name = name
        self.json = Data(text[..<request.lowerBound].utf8)
        let end = response?.lowerBound ?? text.endIndex
        self.request = ByteBuffer(bytes: hex(String(text[request.upperBound..<end])).dropFirst(4))
        if let response {
            self.response = ByteBuffer(
                bytes: hex(String(text[response.upperBound...])).dropFirst(4)
            )
        }
    }

    /// The JSON as dictionaries.
    func object() throws -> [String: Any] {
        let object = try JSONSerialization.jsonObject(with: json)
        return try #require(object as? [String: Any])
    }

    /// The fields of one of the two messages as JSON, and the model that codes them.
    func model(_ section: String) throws -> (codec: SchemaCodec, fields: [String: Any]) {
        let object = try object()
        let name = try #require(object["name"] as? String)
        let schema = try #require(Schema.of(name))
        let messageSection = try #require(schema.sections[section])
        let version = try #require(object["version"] as? NSNumber).int16Value
        let codec = SchemaCodec(schema: schema, section: messageSection, version: version)
        return (codec, try #require(object[section] as? [String: Any]))
    }
}
