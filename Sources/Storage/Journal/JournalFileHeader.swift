import FlotillaRecords

import struct NIOCore.ByteBuffer

/// The head of a journal file, written when the file is made ready for its next generation, before
/// its first round.
///
/// Bytes 0-4095 and 4096-8191 of a file hold one copy each: 128 bytes, little endian, then zeros.
///
/// | bytes | field |
/// |---|---|
/// | 0-7 | magic `FlotJrn\n` |
/// | 8-9 | version |
/// | 10-15 | zero |
/// | 16-31 | the journal's id |
/// | 32-47 | the data directory's id |
/// | 48-55 | generation: grows with every use of any file of the journal |
/// | 56-123 | zero |
/// | 124-127 | CRC32C over bytes 0-123 |
struct JournalFileHeader: Hashable, Sendable {
    static let byteCount = 128
    static let magic: UInt64 = 0x0A6E_724A_746F_6C46

    var identity: JournalIdentity
    var generation: UInt64

    /// Both copies with their padding: what precedes the first round.
    func encodedTwice() -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(JournalLayout.firstRoundPosition)
        let copy = encoded()
        for _ in 0..<2 {
            buffer.writeImmutableBuffer(copy)
            buffer.writeRepeatingByte(0, count: JournalLayout.blockByteCount - Self.byteCount)
        }
        return buffer
    }

    private func encoded() -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeInteger(Self.magic, endianness: .little)
        buffer.writeInteger(JournalLayout.version, endianness: .little)
        buffer.writeRepeatingByte(0, count: 6)
        buffer.writeIdentity(identity)
        buffer.writeInteger(generation, endianness: .little)
        buffer.writeRepeatingByte(0, count: 68)
        buffer.writeInteger(CRC32C.checksum(buffer), endianness: .little)
        return buffer
    }

    init(identity: JournalIdentity, generation: UInt64) {
        self.identity = identity
        self.generation = generation
    }

    /// Reads one copy; nil when it is not valid, `.unsupportedVersion` when another version wrote
    /// it.
    init?(copyAt index: Int, of buffer: ByteBuffer, file: String) throws(StorageError) {
        guard
            buffer.readableBytes >= index + Self.byteCount,
            buffer.journalWord(at: index) == Self.magic,
            buffer.journalChecksumHolds(at: index, count: Self.byteCount)
        else {
            return nil
        }
        try JournalFormat.checkVersion(buffer.journalHalf(at: index + 8), of: file)
        identity = buffer.journalIdentity(at: index + 16)
        generation = buffer.journalWord(at: index + 48)
    }
}
