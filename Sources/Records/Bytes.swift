import struct NIOCore.ByteBuffer

extension RawSpan {
    /// The big-endian integer at `position`, as Kafka writes it.
    @inline(__always)
    func bigEndian<Number: FixedWidthInteger & BitwiseCopyable>(
        _ type: Number.Type,
        at position: Int
    ) -> Number {
        Number(bigEndian: load(type, at: position))
    }

    /// The little-endian integer at `position`, as our own formats write it.
    @inline(__always)
    func littleEndian<Number: FixedWidthInteger & BitwiseCopyable>(
        _ type: Number.Type,
        at position: Int
    ) -> Number {
        Number(littleEndian: load(type, at: position))
    }

    @inline(__always)
    private func load<Number: FixedWidthInteger & BitwiseCopyable>(
        _ type: Number.Type,
        at position: Int
    ) -> Number {
        precondition(
            position >= 0 && position <= byteCount
                && byteCount - position >= MemoryLayout<Number>.size,
            "a number is read within its bytes"
        )
        // Safe: the line above keeps the whole number within the span; every bit pattern is an
        // integer.
        return unsafe unsafeLoadUnaligned(fromUncheckedByteOffset: position, as: type)
    }
}

extension ByteBuffer {
    /// The readable bytes of `range`, counted from the reader, without a copy.
    func piece(_ range: Range<Int>) -> ByteBuffer {
        guard let slice = getSlice(at: readerIndex + range.lowerBound, length: range.count) else {
            preconditionFailure("a slice lies within its buffer")
        }
        return slice
    }

    /// The readable bytes from `start` to the end, without a copy.
    func piece(from start: Int) -> ByteBuffer {
        piece(start..<readableBytes)
    }
}

/// Writes a record into room of a known size, many times faster than a buffer's own calls per field.
@safe
struct RecordWriter: ~Copyable {
    // Safe: lives no longer than the closure that lends the room; every write is compared with it.
    private let room: UnsafeMutableRawBufferPointer
    /// The bytes written so far.
    private(set) var count = 0

    /// Starts at the room's first byte.
    init(_ room: UnsafeMutableRawBufferPointer) {
        unsafe self.room = room
    }

    /// Writes one byte.
    @inline(__always)
    mutating func byte(_ byte: UInt8) {
        unsafe precondition(count < room.count, "a record fits the room made for it")
        unsafe room[count] = byte
        count += 1
    }

    /// Writes a zigzag varint, one to ten bytes; small numbers of either sign are short.
    ///
    /// - Source: `kafka/PROTOCOL.md` §5.1; the coding is Protocol Buffers' `sint64`.
    @inline(__always)
    mutating func varint(_ number: Int64) {
        var rest = UInt64(bitPattern: (number << 1) ^ (number >> 63))
        while rest >= 0x80 {
            byte(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        byte(UInt8(truncatingIfNeeded: rest))
    }

    /// Writes bytes behind their length; nothing becomes length -1.
    mutating func nullable(_ buffer: ByteBuffer?) {
        guard let buffer else {
            return varint(-1)
        }
        varint(Int64(buffer.readableBytes))
        bytes(buffer.readableBytesSpan)
    }

    /// Writes bytes.
    mutating func bytes(_ bytes: RawSpan) {
        unsafe precondition(
            bytes.byteCount <= room.count - count,
            "a record fits the room made for it"
        )
        // Safe: the line above; and what is written lies in no buffer that a record is made of.
        unsafe bytes.withUnsafeBytes { source in
            unsafe UnsafeMutableRawBufferPointer(rebasing: room[count...]).copyMemory(from: source)
        }
        count += bytes.byteCount
    }
}

/// The size of `number` as a zigzag varint, 1 to 10 bytes.
func varintByteCount(_ number: Int64) -> Int {
    let zigzag = UInt64(bitPattern: (number << 1) ^ (number >> 63))
    return max(1, (70 - zigzag.leadingZeroBitCount) / 7)
}
