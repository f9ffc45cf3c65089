import struct NIOCore.ByteBuffer

/// The frame around every snapshot of this target; all numbers little endian.
///
/// | bytes | field |
/// |---|---|
/// | 0-3 | magic, four letters that name the format |
/// | 4-5 | version |
/// | 6-9 | byte count of the body |
/// | 10… | body |
/// | last 4 | CRC32C of everything before |
struct SnapshotEnvelope {
    /// The four letters at the start.
    var magic: StaticString
    /// The version that is written.
    var version: UInt16
    /// The oldest version that is read.
    var oldestVersion: UInt16
    /// The format's name in messages.
    var name: String

    /// Describes a format; by default no version but the one that is written is read.
    init(magic: StaticString, version: UInt16, oldestVersion: UInt16? = nil, name: String) {
        self.magic = magic
        self.version = version
        self.oldestVersion = oldestVersion ?? version
        self.name = name
    }

    /// Puts the frame around a body.
    func seal(_ body: ByteWriter) -> ByteBuffer {
        var writer = ByteWriter()
        writer.integer(magicNumber)
        writer.integer(version)
        writer.sized(body)
        writer.integer(Checksum.crc32c(writer.buffer.readableBytesView))
        return writer.buffer
    }

    /// Checks the frame and gives the body and the version that it was written in.
    func open(_ bytes: ByteBuffer) throws(CoordinationError) -> (
        version: UInt16, body: ByteReader
    ) {
        var reader = ByteReader(bytes)
        guard try reader.integer(name, as: UInt32.self) == magicNumber else {
            throw .foreignFormat(expected: name)
        }
        let written = try reader.integer(name, as: UInt16.self)
        guard oldestVersion...version ~= written else {
            throw .unsupportedVersion(format: name, version: Int(written))
        }
        let byteCount = Int(try reader.integer(name, as: UInt32.self))
        let body = try reader.slice(name, byteCount: byteCount)
        let checksum = try reader.integer(name, as: UInt32.self)
        try reader.finish(name)
        guard Checksum.crc32c(bytes.readableBytesView.dropLast(4)) == checksum else {
            throw .checksumMismatch(format: name)
        }
        return (written, body)
    }

    private var magicNumber: UInt32 {
        var number: UInt32 = 0
        for (place, byte) in magic.description.utf8.enumerated() where place < 4 {
            number |= UInt32(byte) << UInt32(8 * place)
        }
        return number
    }
}

/// CRC32C for snapshots: a few kilobytes now and then, so a table is fast enough and nothing below is needed.
///
/// - Source: RFC 3720, appendix B.4 (reflected polynomial 0x82F63B78).
enum Checksum {
    private static let table: [UInt32] = (0..<256).map { index in
        var remainder = UInt32(index)
        for _ in 0..<8 {
            remainder = remainder & 1 == 1 ? remainder >> 1 ^ 0x82F6_3B78 : remainder >> 1
        }
        return remainder
    }

    /// The checksum of the bytes.
    static func crc32c(_ bytes: some Sequence<UInt8>) -> UInt32 {
        var remainder = UInt32.max
        for byte in bytes {
            remainder = table[Int((remainder ^ UInt32(byte)) & 0xFF)] ^ remainder >> 8
        }
        return ~remainder
    }
}
