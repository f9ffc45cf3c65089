package import struct NIOCore.ByteBuffer

/// A struct of the protocol: a message, or an element of one.
package protocol WireStruct: Equatable, Sendable {
    /// Reads the fields that `version` has; the others keep their defaults.
    ///
    /// - Throws: `WireError` where the bytes are malformed; the reader is then of no further use.
    init(from reader: inout WireReader, version: Int16) throws(WireError)

    /// Writes the fields that `version` has.
    ///
    /// - Throws: `.fieldNotInVersion` where a field that matters is set and `version` lacks it.
    func encode(into writer: inout WireWriter, version: Int16) throws(WireError)
}

/// A whole message: the body of a request or response, a header, or what is embedded in byte fields.
package protocol KafkaMessage: WireStruct {
    /// The type's name, for errors and logs.
    static var name: String { get }
    /// The versions that the schema covers.
    static var validVersions: ClosedRange<Int16> { get }
    /// From here on lengths are compact and structs end with tagged fields; nil where no version does.
    static var firstFlexibleVersion: Int16? { get }
}

/// The body of a request.
package protocol KafkaRequest: KafkaMessage {
    /// The body of its answer.
    associatedtype Response: KafkaResponse
    /// The API it belongs to.
    static var apiKey: APIKey { get }
}

/// The body of a response.
package protocol KafkaResponse: KafkaMessage {
    /// The API it belongs to.
    static var apiKey: APIKey { get }
}

extension KafkaMessage {
    /// Reads a message from the readable bytes of `body`.
    ///
    /// Bytes after it are ignored, as Kafka ignores them. Byte fields and records stay slices of `body`.
    package init(from body: ByteBuffer, version: Int16) throws(WireError) {
        var reader = WireReader(body)
        try self.init(from: &reader, version: version)
    }

    /// The coded body alone, without header and length, in one buffer.
    ///
    /// - Precondition: no records are external.
    package func encoded(version: Int16) throws(WireError) -> ByteBuffer {
        var writer = WireWriter()
        try encode(into: &writer, version: version)
        return writer.finish().contiguousBytes()
    }

    /// Reads what begins with its own version (or record type) as two bytes: coordinator records and
    /// the consumer protocol inside JoinGroup and SyncGroup.
    ///
    /// With `acceptsNewer` a newer version is read as the newest that we know, which is right for the
    /// consumer protocol (its versions only append) and wrong for records.
    package init(
        versionPrefixed bytes: ByteBuffer,
        acceptsNewer: Bool = false
    ) throws(WireError) {
        var reader = WireReader(bytes)
        let version = try reader.int16()
        let newest = Self.validVersions.upperBound
        try self.init(from: &reader, version: acceptsNewer ? min(version, newest) : version)
    }

    /// The version as two bytes, then the coded message.
    package func versionPrefixed(version: Int16) throws(WireError) -> ByteBuffer {
        var writer = WireWriter()
        writer.int16(version)
        try encode(into: &writer, version: version)
        return writer.finish().contiguousBytes()
    }

    /// Refuses a version that the schema does not cover.
    static func requireVersion(_ version: Int16) throws(WireError) {
        guard validVersions.contains(version) else {
            throw .unsupportedVersion(message: name, version: version)
        }
    }
}

extension KafkaRequest {
    /// Writes length, header and body: what goes over the wire.
    package func writeFrame(
        into writer: inout WireWriter,
        version: Int16,
        correlationId: Int32,
        clientId: String?
    ) throws(WireError) {
        let header = RequestHeader(
            requestApiKey: Self.apiKey.rawValue,
            requestApiVersion: version,
            correlationId: correlationId,
            clientId: clientId
        )
        try writer.frame { (writer: inout WireWriter) throws(WireError) in
            try header.encode(into: &writer, version: Self.apiKey.requestHeaderVersion(version))
            try encode(into: &writer, version: version)
        }
    }

    /// Length, header and body: what goes over the wire.
    package func frame(
        version: Int16,
        correlationId: Int32,
        clientId: String?
    ) throws(WireError) -> OutputFrame {
        var writer = WireWriter()
        try writeFrame(
            into: &writer,
            version: version,
            correlationId: correlationId,
            clientId: clientId
        )
        return writer.finish()
    }
}

extension KafkaResponse {
    /// Writes length, header and body: what goes over the wire.
    ///
    /// Several replies may follow each other in one writer; one that throws leaves no trace.
    package func writeFrame(
        into writer: inout WireWriter,
        version: Int16,
        correlationId: Int32
    ) throws(WireError) {
        let header = ResponseHeader(correlationId: correlationId)
        try writer.frame { (writer: inout WireWriter) throws(WireError) in
            try header.encode(into: &writer, version: Self.apiKey.responseHeaderVersion(version))
            try encode(into: &writer, version: version)
        }
    }

    /// Length, header and body: what goes over the wire.
    package func frame(version: Int16, correlationId: Int32) throws(WireError) -> OutputFrame {
        var writer = WireWriter()
        try writeFrame(into: &writer, version: version, correlationId: correlationId)
        return writer.finish()
    }
}
