package import struct NIOCore.ByteBuffer

/// A stretch of bytes on its way out: in memory, or named by a token and fetched by whoever sends it.
package enum WirePart: Hashable, Sendable {
    /// Bytes in memory.
    case bytes(ByteBuffer)
    /// `byteCount` bytes that the sender knows by `token`, such as a range of a segment for sendfile.
    case external(token: Int, byteCount: Int)

    /// The length of the stretch.
    package var byteCount: Int {
        switch self {
        case .bytes(let buffer): buffer.readableBytes
        case .external(_, let byteCount): byteCount
        }
    }
}

/// The `records` field of Produce and Fetch: record batches back to back.
///
/// Reading gives one slice of the request's buffer, without a copy (`ByteBuffer` copies a slice that
/// begins beyond 16 MiB of its storage: larger frames are better held in pieces). Writing takes any
/// number of parts, which leave as they are.
package struct Records: Hashable, Sendable {
    /// One part is by far the commonest, and costs no array.
    private enum Storage: Hashable, Sendable {
        case one(ByteBuffer)
        case many([WirePart])
    }

    private var storage: Storage

    /// No records: zero bytes, which is not null.
    package init() {
        storage = .one(ByteBuffer())
    }

    /// The readable bytes of `buffer`.
    package init(_ buffer: ByteBuffer) {
        storage = .one(buffer)
    }

    /// `parts` in their order.
    package init(parts: [WirePart]) {
        storage = .many(parts)
    }

    /// The pieces in their order.
    package var parts: [WirePart] {
        switch storage {
        case .one(let buffer): buffer.readableBytes == 0 ? [] : [.bytes(buffer)]
        case .many(let parts): parts
        }
    }

    /// The bytes of all parts together.
    package var byteCount: Int {
        switch storage {
        case .one(let buffer): buffer.readableBytes
        case .many(let parts): parts.reduce(0) { $0 + $1.byteCount }
        }
    }

    /// The bytes where they are one piece in memory, as after reading; nil where there are several parts.
    package var buffer: ByteBuffer? {
        switch storage {
        case .one(let buffer): buffer
        case .many(let parts):
            switch parts.first {
            case nil: ByteBuffer()
            case .bytes(let buffer) where parts.count == 1: buffer
            default: nil
            }
        }
    }

    /// Adds a part at the end.
    package mutating func append(_ part: WirePart) {
        switch storage {
        case .one(let buffer) where buffer.readableBytes == 0:
            if case .bytes(let only) = part {
                storage = .one(only)
            } else {
                storage = .many([part])
            }
        case .one(let buffer):
            storage = .many([.bytes(buffer), part])
        case .many(var parts):
            storage = .one(ByteBuffer())
            parts.append(part)
            storage = .many(parts)
        }
    }
}
