package import struct NIOCore.ByteBuffer

/// Unfolds compressed records within a bound, and keeps the codecs' working memory from one call to
/// the next.
///
/// One caller at a time: a shard or a worker's job owns one. A frame of an attacker's making costs
/// at most the bound: room grows with what was unfolded, not with what the frame announces.
@safe
package final class Decompressor {
    // Safe: each context is made on first use, used by this instance alone and freed once, in
    // deinit.
    var lz4: OpaquePointer?
    var zstd: OpaquePointer?
    var inflater: Inflater?

    /// An unfolder without working memory yet.
    package init() {}

    deinit {
        unsafe Self.freeLZ4(lz4)
        unsafe Self.freeZstd(zstd)
    }

    /// The bytes that `input` unfolds to.
    ///
    /// `limit`: the most bytes to return, and about the most to allocate.
    ///
    /// - Throws: `.corruptCompression`, `.decompressedTooLarge`.
    package func decompress(
        _ input: RawSpan,
        as codec: CompressionCodec,
        limit: Int
    ) throws(RecordsError) -> ByteBuffer {
        precondition(limit >= 0 && limit <= Frame.maximumPayloadByteCount, "a bound fits a batch")
        guard input.byteCount <= Frame.maximumPayloadByteCount else {
            throw .corruptCompression(codec)
        }
        var output = BoundedOutput(limit: limit, expecting: input.byteCount)
        switch codec {
        case .none:
            guard input.byteCount <= limit else {
                throw .decompressedTooLarge(limit: limit)
            }
            output.append(input)
        case .gzip:
            try unfoldGzip(input, into: &output)
        case .snappy:
            try unfoldSnappy(input, into: &output)
        case .lz4:
            try unfoldLZ4(input, into: &output)
        case .zstd:
            try unfoldZstd(input, into: &output)
        }
        return output.buffer
    }
}

/// Room for unfolded bytes that grows up to a limit and not beyond.
struct BoundedOutput {
    /// What was unfolded so far.
    private(set) var buffer: ByteBuffer
    /// The most bytes.
    let limit: Int

    /// Prepares for input of this size; JSON under lz4 or zstd unfolds to three or four times as
    /// much.
    init(limit: Int, expecting inputByteCount: Int) {
        self.limit = limit
        buffer = ByteBuffer()
        buffer.reserveCapacity(min(limit, max(256, inputByteCount * 4)))
    }

    /// Bytes that may still come.
    var remaining: Int {
        limit - buffer.readableBytes
    }

    /// Adds bytes that are known to fit.
    mutating func append(_ bytes: RawSpan) {
        precondition(bytes.byteCount <= remaining, "bytes that fit were counted before")
        buffer.writeBytes(bytes)
    }

    /// Lends free room to `body`, which says how much of it it filled.
    ///
    /// At the limit the room is one byte that does not count: a codec that fills it has more than
    /// the bound.
    ///
    /// `minimum`: how much room `body` wants at least; no more than `remaining`, except 1.
    ///
    /// - Throws: `.decompressedTooLarge`.
    mutating func offer(
        minimum: Int = 1,
        _ body: (UnsafeMutableRawBufferPointer) -> Int
    ) throws(RecordsError) {
        guard remaining > 0 else {
            var overflow: UInt8 = 0
            let count = unsafe withUnsafeMutableBytes(of: &overflow) { room in
                unsafe body(room)
            }
            guard count == 0 else {
                throw .decompressedTooLarge(limit: limit)
            }
            return
        }
        if buffer.writableBytes < minimum {
            let wanted = max(buffer.readableBytes + minimum, buffer.readableBytes * 2, 4096)
            buffer.reserveCapacity(min(wanted, limit))
        }
        let offered = remaining
        // Safe: the room is cut to what the limit leaves, and codecs report no more than they were
        // lent.
        unsafe buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: 1) { room in
            unsafe body(UnsafeMutableRawBufferPointer(rebasing: room.prefix(offered)))
        }
    }
}
