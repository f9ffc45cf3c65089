import FlotillaEnvironment
import FlotillaRecords

import struct NIOCore.ByteBuffer

/// Where a journal ended when it was closed: the next start need not search behind that place.
///
/// A start after a crash looks at every block behind the last round, since a later round would
/// prove that one is damaged. After a clean stop there is none. The marker, `journal.clean`, is
/// removed durably before the next round is written, so it never outlives what it says; and it is
/// believed only if the round that it names is the last one found.
///
/// 64 bytes, little endian:
///
/// | bytes | field |
/// |---|---|
/// | 0-7 | magic `FlotCln\n` |
/// | 8-9 | version |
/// | 10-15 | zero |
/// | 16-23 | the journal's key |
/// | 24-31 | generation of the file that the last round lies in |
/// | 32-39 | where that round ends |
/// | 40-47 | its number |
/// | 48-59 | zero |
/// | 60-63 | CRC32C over bytes 0-59 |
struct JournalCleanMarker: Hashable, Sendable {
    static let byteCount = 64
    static let magic: UInt64 = 0x0A6E_6C43_746F_6C46
    static let fileName = "journal.clean"

    var key: UInt64
    var generation: UInt64
    var endPosition: Int
    var number: UInt64

    init(key: UInt64, generation: UInt64, endPosition: Int, number: UInt64) {
        self.key = key
        self.generation = generation
        self.endPosition = endPosition
        self.number = number
    }

    /// Reads a directory's marker; nil when there is none that can be believed.
    init?(in directory: String, disk: any Disk, key: UInt64) throws(StorageError) {
        let path = directory + "/" + Self.fileName
        let content: ByteBuffer
        do {
            content = try disk.open(path, .read).read(at: 0, count: Self.byteCount + 1)
        } catch {
            guard case .notFound = error else {
                throw .disk(error)
            }
            return nil
        }
        guard
            content.readableBytes == Self.byteCount, content.journalWord(at: 0) == Self.magic,
            content.journalChecksumHolds(at: 0, count: Self.byteCount),
            content.journalWord(at: 16) == key
        else {
            return nil
        }
        try JournalFormat.checkVersion(content.journalHalf(at: 8), of: path)
        self.key = key
        generation = content.journalWord(at: 24)
        endPosition = Int(truncatingIfNeeded: content.journalWord(at: 32))
        number = content.journalWord(at: 40)
    }

    func write(in directory: String, disk: any Disk) throws(DiskError) {
        var buffer = ByteBuffer()
        buffer.writeInteger(Self.magic, endianness: .little)
        buffer.writeInteger(JournalLayout.version, endianness: .little)
        buffer.writeRepeatingByte(0, count: 6)
        for word in [key, generation, UInt64(endPosition), number] {
            buffer.writeInteger(word, endianness: .little)
        }
        buffer.writeRepeatingByte(0, count: 12)
        buffer.writeInteger(CRC32C.checksum(buffer), endianness: .little)
        let file = try disk.open(directory + "/" + Self.fileName, .create)
        try file.write([buffer], at: 0)
        try file.sync()
        try disk.syncDirectory(directory)
    }
}
