import struct NIOCore.ByteBuffer

extension RawSpan {
    /// The big-endian integer at `position`, as Kafka writes it.
    @inline(__always)
    func bigEndian<Number: FixedWidthInteger & BitwiseCopyable>(_ type: Number.Type, at position: Int) -> Number {
        Number(bigEndian: load(type, at: position))
    }

    /// The little-endian integer at `position`, as our own formats write it.
    @inline(__always)
    func littleEndian<Number: FixedWidthInteger & BitwiseCopyable>(_ type: Number.Type, at position: Int) -> Number {
        Number(littleEndian: load(type, at: position))
    }

    @inline(__always)
    private func load<Number: FixedWidthInteger & BitwiseCopyable>(_ type: Number.Type, at position: Int) -> Number {
        precondition(
            position >= 0 && position <= byteCount && byteCount - position >= MemoryLayout<Number>.size,
            "a number is read within its bytes"
        )
        // Safe: the line above keeps the whole number within the span; every bit pattern is an integer.
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
