import FlotillaRecords
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
        writer.integer(CRC32C.checksum(writer.buffer))
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
        guard CRC32C.checksum(Self.covered(bytes)) == checksum else {
            throw .checksumMismatch(format: name)
        }
        return (written, body)
    }

    /// All but the checksum.
    private static func covered(_ bytes: ByteBuffer) -> ByteBuffer {
        var covered = bytes
        covered.moveWriterIndex(to: bytes.writerIndex - 4)
        return covered
    }

    private var magicNumber: UInt32 {
        var number: UInt32 = 0
        for (place, byte) in magic.description.utf8.enumerated() where place < 4 {
            number |= UInt32(byte) << UInt32(8 * place)
        }
        return number
    }
}
