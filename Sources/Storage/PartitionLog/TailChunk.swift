import FlotillaModel
import FlotillaRecords
import struct NIOCore.ByteBuffer

/// A block of the shard's tail ring: small payloads of all its logs, one after the other.
///
/// Payloads that follow each other in a chunk are one slice for whoever reads a run of them. Bytes
/// are only ever added behind all slices that were given out.
final class TailChunk {
    /// The size of a chunk; what one stuck entry can keep in memory until it is moved out.
    static let byteCapacity = 256 << 10

    private var buffer: ByteBuffer
    /// Who has payloads here, in order; a log that appends twice in a row stands once.
    private(set) var holders: [Holder] = []

    /// A log's window, and the last index whose payload lies in the chunk.
    struct Holder {
        var window: TailWindow
        var lastIndex: LogIndex
    }

    init() {
        buffer = ByteBuffer()
        buffer.reserveCapacity(Self.byteCapacity)
    }

    /// Whether so many more bytes fit.
    func hasRoom(for byteCount: Int) -> Bool {
        Self.byteCapacity - buffer.writerIndex >= byteCount
    }

    /// Copies a payload behind the others and gives its position.
    func append(head: ByteBuffer, body: ByteBuffer, index: LogIndex, of window: TailWindow) -> Int {
        let position = buffer.writerIndex
        copy(head)
        copy(body)
        if let last = holders.last, last.window === window {
            holders[holders.count - 1].lastIndex = index
        } else {
            holders.append(Holder(window: window, lastIndex: index))
        }
        return position
    }

    /// A slice of payloads that were appended.
    func slice(_ range: Range<Int>) -> ByteBuffer {
        guard let slice = buffer.getSlice(at: range.lowerBound, length: range.count) else {
            preconditionFailure("payloads lie within their chunk")
        }
        return slice
    }

    /// Writes behind the readable bytes without asking who else holds the block: a write through
    /// `ByteBuffer` would copy all of it whenever a slice is on its way to a consumer.
    private func copy(_ source: ByteBuffer) {
        let count = source.readableBytes
        guard count > 0 else { return }
        let start = buffer.writerIndex
        precondition(hasRoom(for: count), "a chunk is asked for room before it is filled")
        // Safe: the block has `byteCapacity` bytes; those from the writer index on were never part
        // of a slice, so nobody reads them, and this chunk's shard is the only one that writes.
        unsafe buffer.withVeryUnsafeBytes { block in
            unsafe source.withUnsafeReadableBytes { bytes in
                guard let target = block.baseAddress, let origin = bytes.baseAddress else { return }
                unsafe UnsafeMutableRawPointer(mutating: target).advanced(by: start)
                    .copyMemory(from: origin, byteCount: count)
            }
        }
        buffer.moveWriterIndex(forwardBy: count)
    }
}
