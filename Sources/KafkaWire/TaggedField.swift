package import struct NIOCore.ByteBuffer

/// A tagged field whose meaning our schemas do not know, kept so that it survives a round trip.
///
/// - Source: KIP-482.
package struct TaggedField: Hashable, Sendable {
    /// The tag, unique within its struct.
    package var tag: UInt32
    /// The coded value, without tag and size.
    package var bytes: ByteBuffer

    /// Keeps `bytes` under `tag`.
    package init(tag: UInt32, bytes: ByteBuffer) {
        self.tag = tag
        self.bytes = bytes
    }

    /// Keeps what `writer` wrote under `tag`.
    init(tag: UInt32, writer: consuming WireWriter) {
        self.tag = tag
        self.bytes = writer.finish().contiguousBytes()
    }
}
