import FlotillaModel

import struct NIOCore.ByteBuffer

/// What a hello and its answer share: the first 16 bytes, the limits, and the reading of fields.
package struct PeerGreeting {
    /// The version that this program writes, and the only one it reads.
    package static let version: UInt16 = 3
    /// The most bytes of a cluster id.
    package static let clusterIDLimit = 64
    /// The most bytes of a refusal's sentence.
    package static let sentenceLimit = 4096
    /// The most bytes of a body.
    package static let bodyLimit = 64 << 10

    /// Bytes whose meaning no version changes.
    static let headByteCount = 16
    /// The shortest hello and answer: one without text and body.
    static let minimumByteCount = 48
    /// The longest, and the most that is kept of one.
    package static let maximumByteCount =
        minimumByteCount + clusterIDLimit + sentenceLimit + bodyLimit

    /// Bytes 10 and 11, which mean different things in the two.
    let first: UInt8
    let second: UInt8
    private var fields: ByteBuffer

    // MARK: Reading

    /// Takes a complete greeting off the front of `stream`.
    ///
    /// Foreign bytes are known by their first eight, and a length that no greeting has before
    /// anything is kept for it.
    static func take(
        from stream: inout ByteBuffer,
        _ magic: UInt64
    ) throws(PeerHelloError) -> PeerGreeting? {
        let start = stream.readerIndex
        guard let found = stream.getInteger(at: start, endianness: .little, as: UInt64.self) else {
            return nil
        }
        guard found == magic else { throw .foreignBytes }
        guard stream.readableBytes >= headByteCount,
            let length = stream.getInteger(at: start + 12, endianness: .little, as: UInt32.self)
        else { return nil }
        guard minimumByteCount...maximumByteCount ~= Int(length) else {
            throw .lengthOutOfBounds(field: "length", length: Int(length))
        }
        guard var bytes = stream.readSlice(length: Int(length)) else { return nil }
        bytes.moveReaderIndex(forwardBy: 8)
        guard
            let (version, first, second, _) = bytes.readMultipleIntegers(
                endianness: .little,
                as: (UInt16, UInt8, UInt8, UInt32).self
            )
        else { throw .lengthOutOfBounds(field: "length", length: Int(length)) }
        guard version == Self.version else { throw .unsupportedVersion(version) }
        return PeerGreeting(first: first, second: second, fields: bytes)
    }

    mutating func integer<T: FixedWidthInteger>(_ type: T.Type) throws(PeerHelloError) -> T {
        guard let value = fields.readInteger(endianness: .little, as: type) else {
            throw .lengthOutOfBounds(field: "length", length: fields.readableBytes)
        }
        return value
    }

    mutating func incarnation() throws(PeerHelloError) -> BrokerIncarnation {
        let high = try integer(UInt64.self)
        return BrokerIncarnation(high: high, low: try integer(UInt64.self))
    }

    mutating func bytes(
        _ field: String,
        _ length: Int,
        _ limit: Int
    ) throws(PeerHelloError) -> ByteBuffer {
        guard length <= limit, let bytes = fields.readSlice(length: length) else {
            throw .lengthOutOfBounds(field: field, length: length)
        }
        return bytes
    }

    mutating func text(
        _ field: String,
        _ length: Int,
        _ limit: Int
    ) throws(PeerHelloError) -> String {
        let bytes = try bytes(field, length, limit)
        guard let text = String(validating: bytes.readableBytesView, as: UTF8.self) else {
            throw .malformedText(field: field)
        }
        return text
    }

    func finish() throws(PeerHelloError) {
        guard fields.readableBytes == 0 else {
            throw .lengthOutOfBounds(field: "length", length: fields.readableBytes)
        }
    }

    // MARK: Writing

    /// The first 16 bytes, with a length that `setLength(of:)` sets.
    static func head(_ magic: UInt64, _ first: UInt8, _ second: UInt8) -> ByteBuffer {
        var bytes = ByteBuffer()
        bytes.writeInteger(magic, endianness: .little)
        bytes.writeInteger(version, endianness: .little)
        bytes.writeInteger(first)
        bytes.writeInteger(second)
        bytes.writeInteger(UInt32(0))
        return bytes
    }

    static func write(_ incarnation: BrokerIncarnation, to bytes: inout ByteBuffer) {
        bytes.writeInteger(incarnation.high, endianness: .little)
        bytes.writeInteger(incarnation.low, endianness: .little)
    }

    static func setLength(of bytes: inout ByteBuffer) {
        let length = UInt32(bytes.readableBytes)
        bytes.setInteger(length, at: bytes.readerIndex + 12, endianness: .little)
    }

    static func checkLimits(clusterID: String, body: ByteBuffer) {
        precondition(clusterID.utf8.count <= clusterIDLimit, "a cluster id keeps its limit")
        precondition(body.readableBytes <= bodyLimit, "a hello's body keeps its limit")
    }

    /// As many whole characters of a sentence as its limit allows.
    static func cut(_ sentence: String) -> String {
        var byteCount = 0
        let scalars = sentence.unicodeScalars.prefix { scalar in
            byteCount += UTF8.width(scalar)
            return byteCount <= sentenceLimit
        }
        return String(scalars)
    }
}

/// Why the first bytes of a peer connection could not be taken; the connection is closed then.
package enum PeerHelloError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Whoever is there does not speak this protocol.
    case foreignBytes
    /// A broker of another version.
    case unsupportedVersion(UInt16)
    /// A length that no field of its kind has, or that the bytes cannot hold.
    case lengthOutOfBounds(field: String, length: Int)
    /// A number without a meaning.
    case valueOutOfBounds(field: String, value: UInt8)
    /// Text that is not UTF-8.
    case malformedText(field: String)

    /// The error as a sentence.
    package var description: String {
        switch self {
        case .foreignBytes:
            "what is there is no peer listener of Flotilla; check the port in the address"
        case .unsupportedVersion(let version):
            "the peer speaks version \(version) of the peer protocol and this broker version \(PeerGreeting.version); upgrade the older one"
        case .lengthOutOfBounds(let field, let length):
            "peer hello: \(field) of \(length) bytes is more than allowed or than is there"
        case .valueOutOfBounds(let field, let value):
            "peer hello: \(field) \(value) has no meaning"
        case .malformedText(let field):
            "peer hello: \(field) is not valid UTF-8"
        }
    }
}
