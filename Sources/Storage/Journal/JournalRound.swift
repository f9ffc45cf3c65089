import FlotillaModel
import FlotillaRecords

import struct NIOCore.ByteBuffer

/// What a round consists of; part of its own header, and repeated in the next round's.
///
/// Little endian:
///
/// | bytes | field |
/// |---|---|
/// | 0-3 | bytes of the record heads, which follow the header |
/// | 4-7 | CRC32C over the record heads |
/// | 8-15 | bytes of the payloads, which follow the record heads |
/// | 16-19 | bytes of the echo (its 64-byte head included), 0 for none |
/// | 20-23 | number of records |
struct JournalRoundShape: Hashable, Sendable {
    static let byteCount = 24

    var headsByteCount = 0
    var headsChecksum: UInt32 = 0
    var payloadByteCount = 0
    var echoByteCount = 0
    var recordCount = 0

    /// Where the echo begins, counted from the round's start: always in a block after all record
    /// heads.
    var echoPosition: Int {
        JournalLayout.padded(JournalRoundHeader.byteCount + headsByteCount + payloadByteCount)
    }

    /// The size of the round on the disk.
    var roundByteCount: Int {
        echoPosition + JournalLayout.padded(echoByteCount)
    }
}

/// The block grid on which files, rounds and echoes lie.
enum JournalLayout {
    /// Rounds begin and end at multiples of this.
    static let blockByteCount = 4096
    /// Rounds begin after the two copies of the file's header.
    static let firstRoundPosition = 2 * blockByteCount
    /// Every format of the journal is in this version.
    static let version: UInt16 = 1

    static func padded(_ byteCount: Int) -> Int {
        (byteCount + blockByteCount - 1) / blockByteCount * blockByteCount
    }
}

/// The head of a round: one gathered write and one sync.
///
/// A round is a header, the heads of its records, the payloads of their entries, zeros up to a
/// multiple of 4096 and, when it holds more than entries and commit hints, an echo: those other
/// records once more in blocks of their own. Round n+1 is written only after n is durable, so a
/// valid header n+1 proves that n was whole once (it *seals* n), and it repeats what n consisted
/// of, so one bad block never hides how long a sealed round is or whether it held a vote.
///
/// 128 bytes, little endian:
///
/// | bytes | field |
/// |---|---|
/// | 0-7 | magic `FlotRnd\n` |
/// | 8-9 | version |
/// | 10-11 | flags: bit 0 begins a file, bit 1 clean stop, bit 2 first after a start |
/// | 12-15 | zero |
/// | 16-23 | the journal's key: stale blocks of another journal are not ours |
/// | 24-31 | generation of the file: stale blocks of the file's former life are not ours |
/// | 32-39 | position of the round in the file: a block copied elsewhere is not a round |
/// | 40-47 | round number: grows over all files, never used twice |
/// | 48-55 | number of the round before; numbers between belong to rounds that were cut |
/// | 56-63 | generation of the oldest file that is still needed |
/// | 64-87 | shape of this round |
/// | 88-111 | shape of the round before |
/// | 112-123 | zero |
/// | 124-127 | CRC32C over bytes 0-123 |
///
/// Magic, version and checksum keep their places in every version.
struct JournalRoundHeader: Hashable, Sendable {
    static let byteCount = 128
    static let magic: UInt64 = 0x0A64_6E52_746F_6C46

    var isFileStart = false
    var isCleanStop = false
    /// Whether the journal was opened before this round: what a crash did to the one before is no
    /// damage.
    var isOpening = false
    var key: UInt64
    var generation: UInt64
    var position: Int
    var number: UInt64
    var previousNumber: UInt64
    var oldestGeneration: UInt64
    var shape: JournalRoundShape
    var previousShape: JournalRoundShape

    /// Where the next round of the file begins.
    var endPosition: Int {
        position + shape.roundByteCount
    }

    func encoded() -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(Self.byteCount)
        buffer.writeInteger(Self.magic, endianness: .little)
        buffer.writeInteger(JournalLayout.version, endianness: .little)
        let flags: UInt16 = (isFileStart ? 1 : 0) | (isCleanStop ? 2 : 0) | (isOpening ? 4 : 0)
        buffer.writeInteger(flags, endianness: .little)
        buffer.writeInteger(0, as: UInt32.self)
        for word in [key, generation, UInt64(position), number, previousNumber, oldestGeneration] {
            buffer.writeInteger(word, endianness: .little)
        }
        buffer.writeShape(shape)
        buffer.writeShape(previousShape)
        buffer.writeRepeatingByte(0, count: 12)
        buffer.writeInteger(CRC32C.checksum(buffer), endianness: .little)
        return buffer
    }

    /// Reads a header at the start of a block.
    ///
    /// - Returns: nil for anything that is not a valid header.
    /// - Throws: `.unsupportedVersion` for a valid header of another version.
    init?(block: ByteBuffer, file: String) throws(StorageError) {
        let start = block.readerIndex
        guard
            block.readableBytes >= Self.byteCount, block.journalWord(at: start) == Self.magic,
            block.journalChecksumHolds(at: start, count: Self.byteCount)
        else {
            return nil
        }
        try JournalFormat.checkVersion(block.journalHalf(at: start + 8), of: file)
        let flags = block.journalHalf(at: start + 10)
        isFileStart = flags & 1 != 0
        isCleanStop = flags & 2 != 0
        isOpening = flags & 4 != 0
        key = block.journalWord(at: start + 16)
        generation = block.journalWord(at: start + 24)
        position = Int(truncatingIfNeeded: block.journalWord(at: start + 32))
        number = block.journalWord(at: start + 40)
        previousNumber = block.journalWord(at: start + 48)
        oldestGeneration = block.journalWord(at: start + 56)
        shape = block.journalShape(at: start + 64)
        previousShape = block.journalShape(at: start + 88)
    }

    init(
        key: UInt64,
        generation: UInt64,
        position: Int,
        number: UInt64,
        previousNumber: UInt64,
        oldestGeneration: UInt64,
        shape: JournalRoundShape,
        previousShape: JournalRoundShape
    ) {
        self.key = key
        self.generation = generation
        self.position = position
        self.number = number
        self.previousNumber = previousNumber
        self.oldestGeneration = oldestGeneration
        self.shape = shape
        self.previousShape = previousShape
    }
}

/// The head of an echo: the second copy of a round's votes and states, in blocks of its own.
///
/// 64 bytes, little endian, followed by the records:
///
/// | bytes | field |
/// |---|---|
/// | 0-7 | magic `FlotEch\n` |
/// | 8-9 | version |
/// | 10-15 | zero |
/// | 16-23 | the journal's key |
/// | 24-31 | generation of the file |
/// | 32-39 | position of the echo in the file |
/// | 40-47 | number of the round that it belongs to |
/// | 48-51 | bytes of the records |
/// | 52-55 | CRC32C over the records |
/// | 56-59 | zero |
/// | 60-63 | CRC32C over bytes 0-59 |
struct JournalEchoHeader: Hashable, Sendable {
    static let byteCount = 64
    static let magic: UInt64 = 0x0A68_6345_746F_6C46

    var key: UInt64
    var generation: UInt64
    var position: Int
    var number: UInt64
    var recordsByteCount: Int
    var recordsChecksum: UInt32

    func encoded() -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(Self.byteCount)
        buffer.writeInteger(Self.magic, endianness: .little)
        buffer.writeInteger(JournalLayout.version, endianness: .little)
        buffer.writeRepeatingByte(0, count: 6)
        for word in [key, generation, UInt64(position), number] {
            buffer.writeInteger(word, endianness: .little)
        }
        buffer.writeInteger(UInt32(recordsByteCount), endianness: .little)
        buffer.writeInteger(recordsChecksum, endianness: .little)
        buffer.writeInteger(0, as: UInt32.self)
        buffer.writeInteger(CRC32C.checksum(buffer), endianness: .little)
        return buffer
    }

    init(
        key: UInt64,
        generation: UInt64,
        position: Int,
        number: UInt64,
        recordsByteCount: Int,
        recordsChecksum: UInt32
    ) {
        self.key = key
        self.generation = generation
        self.position = position
        self.number = number
        self.recordsByteCount = recordsByteCount
        self.recordsChecksum = recordsChecksum
    }

    /// Reads a header at the start of a block; nil for anything else, `.unsupportedVersion` for
    /// another version's.
    init?(block: ByteBuffer, file: String) throws(StorageError) {
        let start = block.readerIndex
        guard
            block.readableBytes >= Self.byteCount, block.journalWord(at: start) == Self.magic,
            block.journalChecksumHolds(at: start, count: Self.byteCount)
        else {
            return nil
        }
        try JournalFormat.checkVersion(block.journalHalf(at: start + 8), of: file)
        key = block.journalWord(at: start + 16)
        generation = block.journalWord(at: start + 24)
        position = Int(truncatingIfNeeded: block.journalWord(at: start + 32))
        number = block.journalWord(at: start + 40)
        recordsByteCount = Int(block.journalNumber(at: start + 48))
        recordsChecksum = block.journalNumber(at: start + 52)
    }
}
