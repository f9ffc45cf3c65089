import FlotillaRecords

import struct NIOCore.ByteBuffer

/// What all formats of the journal share.
enum JournalFormat {
    /// Refuses every version but ours: a format is never guessed.
    static func checkVersion(_ version: UInt16, of file: String) throws(StorageError) {
        guard version == JournalLayout.version else {
            throw .unsupportedVersion(
                file: file,
                found: Int(version),
                supported: Int(JournalLayout.version)
            )
        }
    }
}

/// Little-endian fields at places that the caller has checked to lie within the buffer.
extension ByteBuffer {
    func journalWord(at index: Int) -> UInt64 {
        journalInteger(at: index)
    }

    func journalNumber(at index: Int) -> UInt32 {
        journalInteger(at: index)
    }

    func journalHalf(at index: Int) -> UInt16 {
        journalInteger(at: index)
    }

    /// The `count` bytes from `index` on, of which the last four are the CRC32C over the others.
    func journalChecksumHolds(at index: Int, count: Int) -> Bool {
        guard let bytes = getSlice(at: index, length: count - 4) else {
            return false
        }
        return CRC32C.checksum(bytes) == journalNumber(at: index + count - 4)
    }

    func journalShape(at index: Int) -> JournalRoundShape {
        JournalRoundShape(
            headsByteCount: Int(journalNumber(at: index)),
            headsChecksum: journalNumber(at: index + 4),
            payloadByteCount: Int(truncatingIfNeeded: journalWord(at: index + 8)),
            echoByteCount: Int(journalNumber(at: index + 16)),
            recordCount: Int(journalNumber(at: index + 20))
        )
    }

    mutating func writeShape(_ shape: JournalRoundShape) {
        writeInteger(UInt32(shape.headsByteCount), endianness: .little)
        writeInteger(shape.headsChecksum, endianness: .little)
        writeInteger(UInt64(shape.payloadByteCount), endianness: .little)
        writeInteger(UInt32(shape.echoByteCount), endianness: .little)
        writeInteger(UInt32(shape.recordCount), endianness: .little)
    }

    private func journalInteger<Number: FixedWidthInteger>(at index: Int) -> Number {
        guard let number = getInteger(at: index, endianness: .little, as: Number.self) else {
            preconditionFailure("a field lies within its buffer")
        }
        return number
    }
}
