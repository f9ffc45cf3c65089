import CZstd

import struct NIOCore.ByteBuffer

// Zstandard frames by libzstd, one or several in a row. The content size may be absent. The window
// that a frame may ask for stays at libzstd's default of 128 MiB, which level 22 of a streaming
// writer announces even for few bytes; its memory is touched only as far as bytes are unfolded, so
// the bound holds for it too.

extension Decompressor {
    static func freeZstd(_ context: OpaquePointer?) {
        unsafe ZSTD_freeDCtx(context)
    }

    func unfoldZstd(_ input: RawSpan, into output: inout BoundedOutput) throws(RecordsError) {
        let context = unsafe zstdContext()
        unsafe ZSTD_DCtx_reset(context, ZSTD_reset_session_only)
        // Safe: libzstd reads and writes only within the sizes passed, which are those of the
        // buffers lent here.
        try unsafe input.withUnsafeBytes { (bytes) throws(RecordsError) in
            var source = unsafe ZSTD_inBuffer(src: bytes.baseAddress, size: bytes.count, pos: 0)
            var expected = 1
            while unsafe source.pos < source.size || expected != 0 {
                let before = unsafe source.pos
                var writtenCount = 0
                try unsafe output.offer { room in
                    var target = unsafe ZSTD_outBuffer(
                        dst: room.baseAddress,
                        size: room.count,
                        pos: 0
                    )
                    expected = unsafe ZSTD_decompressStream(context, &target, &source)
                    writtenCount = unsafe target.pos
                    return ZSTD_isError(expected) == 0 ? writtenCount : 0
                }
                // No step forward means that the input ends within a frame.
                let isAdvanced = unsafe source.pos > before || writtenCount > 0
                guard ZSTD_isError(expected) == 0, isAdvanced else {
                    throw RecordsError.corruptCompression(.zstd)
                }
            }
        }
    }

    private func zstdContext() -> OpaquePointer {
        if let context = unsafe zstd {
            return unsafe context
        }
        guard let context = unsafe ZSTD_createDCtx() else {
            preconditionFailure("libzstd has memory for a context")
        }
        unsafe zstd = context
        return unsafe context
    }
}

extension Compressor {
    static func freeZstd(_ context: OpaquePointer?) {
        unsafe ZSTD_freeCCtx(context)
    }

    func foldZstd(_ input: RawSpan, level: Int?, into output: inout ByteBuffer) {
        let context = unsafe zstdContext()
        let level = Int32(min(max(level ?? 3, -131_072), 22))
        let bound = ZSTD_compressBound(input.byteCount)
        // Safe: the room is at least the bound that libzstd itself names for this input.
        unsafe input.withUnsafeBytes { bytes in
            _ = unsafe output.writeWithUnsafeMutableBytes(minimumWritableBytes: bound) { room in
                let count = unsafe ZSTD_compressCCtx(
                    context,
                    room.baseAddress,
                    room.count,
                    bytes.baseAddress,
                    bytes.count,
                    level
                )
                precondition(ZSTD_isError(count) == 0, "a frame fits its bound")
                return count
            }
        }
    }

    private func zstdContext() -> OpaquePointer {
        if let context = unsafe zstd {
            return unsafe context
        }
        guard let context = unsafe ZSTD_createCCtx() else {
            preconditionFailure("libzstd has memory for a context")
        }
        unsafe zstd = context
        return unsafe context
    }
}
