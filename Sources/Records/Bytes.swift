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

extension ByteBuffer {
    /// Appends a zigzag varint, one to ten bytes; small numbers of either sign are short.
    ///
    /// - Source: `kafka/PROTOCOL.md` §5.1; the coding is Protocol Buffers' `sint64`.
    mutating func writeVarint(_ number: Int64) {
        var rest = UInt64(bitPattern: (number << 1) ^ (number >> 63))
        while rest >= 0x80 {
            writeInteger(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        writeInteger(UInt8(truncatingIfNeeded: rest))
    }

    /// Appends bytes behind their length as a varint; nothing becomes length -1.
    mutating func writeNullableBytes(_ bytes: ByteBuffer?) {
        guard let bytes else {
            writeVarint(-1)
            return
        }
        writeVarint(Int64(bytes.readableBytes))
        writeBytes(bytes.readableBytesSpan)
    }
}

/// The size of `number` as a zigzag varint, 1 to 10 bytes.
func varintByteCount(_ number: Int64) -> Int {
    let zigzag = UInt64(bitPattern: (number << 1) ^ (number >> 63))
    return max(1, (70 - zigzag.leadingZeroBitCount) / 7)
}
