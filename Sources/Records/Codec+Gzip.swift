import CZlib

import struct NIOCore.ByteBuffer

// Gzip (RFC 1952) by zlib, one member or several in a row; every member must be whole.

/// 15 bits of window, and 16 for "with a gzip header".
private let gzipWindowBits: Int32 = 15 + 16

/// zlib's reading state, which must not move while it is in use.
@safe
final class Inflater {
    // Safe: allocated here, initialized by inflateInit2_, used by this instance alone, ended and
    // freed in deinit.
    let stream: UnsafeMutablePointer<z_stream>

    init() {
        unsafe stream = .allocate(capacity: 1)
        unsafe stream.initialize(to: z_stream())
        let size = unsafe Int32(MemoryLayout<z_stream>.size)
        let code = unsafe inflateInit2_(stream, gzipWindowBits, ZLIB_VERSION, size)
        precondition(code == Z_OK, "zlib has memory for a stream")
    }

    deinit {
        unsafe inflateEnd(stream)
        unsafe stream.deallocate()
    }
}

extension Decompressor {
    func unfoldGzip(_ input: RawSpan, into output: inout BoundedOutput) throws(RecordsError) {
        let inflater = inflater ?? Inflater()
        self.inflater = inflater
        let stream = unsafe inflater.stream
        unsafe inflateReset(stream)
        // Safe: zlib reads and writes only within avail_in and avail_out, which are set from the
        // buffers lent here, and it does not write to its input.
        try unsafe input.withUnsafeBytes { (bytes) throws(RecordsError) in
            let source = unsafe bytes.assumingMemoryBound(to: Bytef.self)
            unsafe stream.pointee.next_in = unsafe UnsafeMutablePointer(
                mutating: source.baseAddress
            )
            unsafe stream.pointee.avail_in = UInt32(bytes.count)
            var isFinished = false
            while !isFinished {
                var code = Z_OK
                try unsafe output.offer { room in
                    let target = unsafe room.assumingMemoryBound(to: Bytef.self)
                    unsafe stream.pointee.next_out = target.baseAddress
                    unsafe stream.pointee.avail_out = UInt32(clamping: room.count)
                    code = unsafe inflate(stream, Z_NO_FLUSH)
                    return unsafe min(room.count, Int(UInt32.max)) - Int(stream.pointee.avail_out)
                }
                switch code {
                case Z_OK:
                    // More output or more input follows; without either the next call is
                    // Z_BUF_ERROR.
                    continue
                case Z_STREAM_END where unsafe stream.pointee.avail_in > 0:
                    unsafe inflateReset(stream)
                case Z_STREAM_END:
                    isFinished = true
                default:
                    throw RecordsError.corruptCompression(.gzip)
                }
            }
        }
    }
}

extension Compressor {
    func foldGzip(_ input: RawSpan, level: Int?, into output: inout ByteBuffer) {
        let level = level.map { Int32(min(max($0, 1), 9)) } ?? Z_DEFAULT_COMPRESSION
        var stream = unsafe z_stream()
        // Safe: the stream stays in place within the closure; the room is at least deflateBound for
        // this input.
        unsafe withUnsafeMutablePointer(to: &stream) { stream in
            let size = unsafe Int32(MemoryLayout<z_stream>.size)
            let code = unsafe deflateInit2_(
                stream,
                level,
                Z_DEFLATED,
                gzipWindowBits,
                8,
                Z_DEFAULT_STRATEGY,
                ZLIB_VERSION,
                size
            )
            precondition(code == Z_OK, "zlib has memory for a stream")
            unsafe deflateWhole(input, stream, into: &output)
            unsafe deflateEnd(stream)
        }
    }

    private func deflateWhole(
        _ input: RawSpan,
        _ stream: UnsafeMutablePointer<z_stream>,
        into output: inout ByteBuffer
    ) {
        let bound = unsafe Int(deflateBound(stream, UInt(input.byteCount)))
        unsafe input.withUnsafeBytes { bytes in
            let source = unsafe bytes.assumingMemoryBound(to: Bytef.self)
            unsafe stream.pointee.next_in = unsafe UnsafeMutablePointer(
                mutating: source.baseAddress
            )
            unsafe stream.pointee.avail_in = UInt32(bytes.count)
            _ = unsafe output.writeWithUnsafeMutableBytes(minimumWritableBytes: bound) { room in
                let offered = UInt32(clamping: room.count)
                let target = unsafe room.assumingMemoryBound(to: Bytef.self)
                unsafe stream.pointee.next_out = target.baseAddress
                unsafe stream.pointee.avail_out = offered
                let code = unsafe deflate(stream, Z_FINISH)
                precondition(code == Z_STREAM_END, "a stream fits its bound")
                return unsafe Int(offered - stream.pointee.avail_out)
            }
        }
    }
}
