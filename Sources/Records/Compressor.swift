package import struct NIOCore.ByteBuffer

/// Compresses records, and keeps the codecs' working memory from one call to the next; one caller
/// at a time.
@safe
package final class Compressor {
    // Safe: made on first use, used by this instance alone and freed once, in deinit.
    var zstd: OpaquePointer?

    /// A compressor without working memory yet.
    package init() {}

    deinit {
        unsafe Self.freeZstd(zstd)
    }

    /// Appends `input`, compressed, to `output`.
    ///
    /// `level`: the codec's own scale (gzip 1 to 9, lz4 1 to 17, zstd -131072 to 22); nil is its
    /// default; numbers outside are moved to the nearest end. Snappy has no levels.
    package func compress(
        _ input: RawSpan,
        as codec: CompressionCodec,
        level: Int? = nil,
        into output: inout ByteBuffer
    ) {
        precondition(input.byteCount <= Frame.maximumPayloadByteCount, "records fit a batch")
        switch codec {
        case .none: output.writeBytes(input)
        case .gzip: foldGzip(input, level: level, into: &output)
        case .snappy: foldSnappy(input, into: &output)
        case .lz4: foldLZ4(input, level: level, into: &output)
        case .zstd: foldZstd(input, level: level, into: &output)
        }
    }
}
