package import struct NIOCore.ByteBuffer

/// The first eight bytes of every request: enough to refuse an API or a version that nobody can parse.
package struct RequestPrefix: Hashable, Sendable {
    /// The API, perhaps unknown.
    package var apiKey: Int16
    /// The version of the body that follows.
    package var apiVersion: Int16
    /// What the answer must repeat.
    package var correlationId: Int32

    /// Reads the prefix of a frame (without its length) and leaves the frame as it is.
    package init(peeking frame: ByteBuffer) throws(WireError) {
        var reader = WireReader(frame)
        apiKey = try reader.int16()
        apiVersion = try reader.int16()
        correlationId = try reader.int32()
    }
}

extension RequestHeader {
    /// Reads the header of a frame (without its length) and moves the frame's reader index to the body.
    ///
    /// - Throws: `.unknownAPI` and `.unsupportedVersion` where no schema covers the body: the header's own
    ///   layout is then unknown too. For ApiVersions use `RequestPrefix`, and answer in version 0.
    package init(consuming frame: inout ByteBuffer) throws(WireError) {
        let prefix = try RequestPrefix(peeking: frame)
        guard let api = APIKey(rawValue: prefix.apiKey) else { throw .unknownAPI(prefix.apiKey) }
        guard api.versions.contains(prefix.apiVersion) else {
            throw .unsupportedVersion(message: "\(api.name)Request", version: prefix.apiVersion)
        }
        var reader = WireReader(frame)
        try self.init(from: &reader, version: api.requestHeaderVersion(prefix.apiVersion))
        frame.moveReaderIndex(forwardBy: reader.position)
    }

    /// The API, nil where no schema knows it.
    package var api: APIKey? {
        APIKey(rawValue: requestApiKey)
    }
}

extension ResponseHeader {
    /// Reads the header of the answer to `api` in `version` and moves the frame's reader index to the body.
    package init(
        consuming frame: inout ByteBuffer,
        api: APIKey,
        version: Int16
    ) throws(WireError) {
        var reader = WireReader(frame)
        try self.init(from: &reader, version: api.responseHeaderVersion(version))
        frame.moveReaderIndex(forwardBy: reader.position)
    }
}

extension APIKey {
    /// Whether `version` codes lengths compactly and has tagged fields.
    package func isFlexible(_ version: Int16) -> Bool {
        guard let first = firstFlexibleVersion else { return false }
        return version >= first
    }

    /// The layout of the request header: 2 with tagged fields, 1 without.
    package func requestHeaderVersion(_ version: Int16) -> Int16 {
        isFlexible(version) ? 2 : 1
    }

    /// The layout of the response header: 1 with tagged fields, 0 without.
    ///
    /// ApiVersions answers with 0 always: the client does not know yet what the broker can speak.
    package func responseHeaderVersion(_ version: Int16) -> Int16 {
        self != .apiVersions && isFlexible(version) ? 1 : 0
    }
}

/// The length that precedes every request and response.
package enum FrameLength {
    /// Bytes of the length itself.
    package static let byteCount = 4

    /// The length of the frame that begins at `buffer`'s reader index, nil before all four bytes are there.
    ///
    /// - Throws: `.frameLength` for a negative length or one above `limit`: close, and allocate nothing.
    package static func read(from buffer: ByteBuffer, limit: Int) throws(WireError) -> Int? {
        let prefix = buffer.getInteger(at: buffer.readerIndex, as: Int32.self)
        guard let length = prefix else { return nil }
        guard length >= 0, Int(length) <= limit else {
            throw .frameLength(Int(length), limit: limit)
        }
        return Int(length)
    }
}
