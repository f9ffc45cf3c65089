import CSnappy

import struct NIOCore.ByteBuffer

// Snappy, in two dresses. Java, kafka-python and aiokafka write xerial's framing: a header of 16
// bytes, then blocks of a big-endian length and a raw snappy block. librdkafka writes one raw
// block. We read both, and write xerial's: it is what Kafka's own client writes, so every reader of
// Kafka has had to know it from the start.
//
// | bytes | xerial header |
// |---|---|
// | 0-7 | 82 53 4E 41 50 50 59 00 |
// | 8-11 | version, 1 |
// | 12-15 | lowest version that can read it, 1 |

private let xerialMagic: UInt64 = 0x8253_4E41_5050_5900
private let xerialHeaderByteCount = 16
private let xerialBlockByteCount = 32 * 1024

/// No snappy block unfolds to more than 64 bytes for each three; what announces more is refused
/// before room is made.
private let snappyMaximumExpansion = 22

extension Decompressor {
    func unfoldSnappy(_ input: RawSpan, into output: inout BoundedOutput) throws(RecordsError) {
        guard Self.startsWithXerialHeader(input) else {
            return try unfoldSnappyBlock(input, into: &output)
        }
        var position = 0
        while position < input.byteCount {
            let rest = input.extracting(droppingFirst: position)
            // A stream that was appended to another one brings its own header.
            if Self.startsWithXerialHeader(rest) {
                position += xerialHeaderByteCount
                continue
            }
            guard rest.byteCount >= 4 else {
                throw .corruptCompression(.snappy)
            }
            let length = Int(rest.bigEndian(Int32.self, at: 0))
            guard length >= 0, length <= rest.byteCount - 4 else {
                throw .corruptCompression(.snappy)
            }
            try unfoldSnappyBlock(rest.extracting(4..<4 + length), into: &output)
            position += 4 + length
        }
    }

    private static func startsWithXerialHeader(_ bytes: RawSpan) -> Bool {
        bytes.byteCount >= xerialHeaderByteCount
            && bytes.bigEndian(UInt64.self, at: 0) == xerialMagic
    }

    private func unfoldSnappyBlock(_ input: RawSpan, into output: inout BoundedOutput)
        throws(RecordsError)
    {
        // Safe: libsnappy reads and writes only within the counts passed; the room is the length it
        // announces itself.
        try unsafe input.withUnsafeBytes { (bytes) throws(RecordsError) in
            let source = unsafe bytes.assumingMemoryBound(to: CChar.self)
            var length = 0
            let announced = unsafe snappy_uncompressed_length(
                source.baseAddress,
                source.count,
                &length
            )
            guard announced == SNAPPY_OK, length <= bytes.count * snappyMaximumExpansion else {
                throw RecordsError.corruptCompression(.snappy)
            }
            guard length <= output.remaining else {
                throw RecordsError.decompressedTooLarge(limit: output.limit)
            }
            var code = SNAPPY_OK
            try unsafe output.offer(minimum: max(1, length)) { room in
                let target = unsafe room.assumingMemoryBound(to: CChar.self)
                var writtenCount = room.count
                code = unsafe snappy_uncompress(
                    source.baseAddress,
                    source.count,
                    target.baseAddress,
                    &writtenCount
                )
                return code == SNAPPY_OK ? writtenCount : 0
            }
            guard code == SNAPPY_OK else {
                throw RecordsError.corruptCompression(.snappy)
            }
        }
    }
}

extension Compressor {
    func foldSnappy(_ input: RawSpan, into output: inout ByteBuffer) {
        output.writeInteger(xerialMagic)
        output.writeInteger(Int32(1))
        output.writeInteger(Int32(1))
        var position = 0
        while position < input.byteCount {
            let end = min(position + xerialBlockByteCount, input.byteCount)
            foldSnappyBlock(input.extracting(position..<end), into: &output)
            position = end
        }
    }

    private func foldSnappyBlock(_ input: RawSpan, into output: inout ByteBuffer) {
        let lengthPosition = output.writerIndex
        output.writeInteger(Int32(0))
        let bound = snappy_max_compressed_length(input.byteCount)
        // Safe: the room is at least the bound that libsnappy itself names for this input.
        let count = unsafe input.withUnsafeBytes { bytes in
            let source = unsafe bytes.assumingMemoryBound(to: CChar.self)
            return unsafe output.writeWithUnsafeMutableBytes(minimumWritableBytes: bound) { room in
                let target = unsafe room.assumingMemoryBound(to: CChar.self)
                var writtenCount = room.count
                let code = unsafe snappy_compress(
                    source.baseAddress,
                    source.count,
                    target.baseAddress,
                    &writtenCount
                )
                precondition(code == SNAPPY_OK, "a block fits its bound")
                return writtenCount
            }
        }
        output.setInteger(Int32(count), at: lengthPosition)
    }
}
