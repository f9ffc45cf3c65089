import CLZ4

import struct NIOCore.ByteBuffer

// LZ4 frames (magic 0x184D2204) by liblz4. We write what Kafka's Java client writes: independent
// blocks of at most 64 KiB, no checksums, no content size (FLG 0x60); its reader refuses dependent
// blocks. We read every legal frame, and several in a row.

extension Decompressor {
    static func freeLZ4(_ context: OpaquePointer?) {
        unsafe LZ4F_freeDecompressionContext(context)
    }

    func unfoldLZ4(_ input: RawSpan, into output: inout BoundedOutput) throws(RecordsError) {
        let context = unsafe lz4Context()
        unsafe LZ4F_resetDecompressionContext(context)
        // Safe: liblz4 reads and writes only within the counts passed, which are those of the
        // buffers lent here.
        try unsafe input.withUnsafeBytes { (bytes) throws(RecordsError) in
            var consumed = 0
            var expected = 1
            while consumed < bytes.count || expected != 0 {
                var readCount = bytes.count - consumed
                var writtenCount = 0
                try unsafe output.offer { room in
                    writtenCount = room.count
                    let source = unsafe bytes.baseAddress.map { unsafe $0 + consumed }
                    expected = unsafe LZ4F_decompress(
                        context,
                        room.baseAddress,
                        &writtenCount,
                        source,
                        &readCount,
                        nil
                    )
                    return LZ4F_isError(expected) == 0 ? writtenCount : 0
                }
                // No step forward means that the input ends within a frame.
                guard LZ4F_isError(expected) == 0, readCount > 0 || writtenCount > 0 else {
                    throw RecordsError.corruptCompression(.lz4)
                }
                consumed += readCount
            }
        }
    }

    private func lz4Context() -> OpaquePointer {
        if let context = unsafe lz4 {
            return unsafe context
        }
        let code = unsafe LZ4F_createDecompressionContext(&lz4, UInt32(LZ4F_VERSION))
        guard LZ4F_isError(code) == 0, let context = unsafe lz4 else {
            preconditionFailure("liblz4 has memory for a context")
        }
        return unsafe context
    }
}

extension Compressor {
    func foldLZ4(_ input: RawSpan, level: Int?, into output: inout ByteBuffer) {
        var preferences = LZ4F_preferences_t()
        preferences.frameInfo.blockSizeID = LZ4F_max64KB
        preferences.frameInfo.blockMode = LZ4F_blockIndependent
        preferences.compressionLevel = Int32(min(max(level ?? 0, 0), 17))
        let bound = unsafe LZ4F_compressFrameBound(input.byteCount, &preferences)
        // Safe: the room is at least the bound that liblz4 itself names for this input.
        unsafe input.withUnsafeBytes { bytes in
            _ = unsafe output.writeWithUnsafeMutableBytes(minimumWritableBytes: bound) { room in
                let count = unsafe LZ4F_compressFrame(
                    room.baseAddress,
                    room.count,
                    bytes.baseAddress,
                    bytes.count,
                    &preferences
                )
                precondition(LZ4F_isError(count) == 0, "a frame fits its bound")
                return count
            }
        }
    }
}
