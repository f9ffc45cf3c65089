package import struct NIOCore.ByteBuffer

/// Written bytes, ready to be sent: a head in one buffer, and parts to insert between its bytes.
package struct OutputFrame: Sendable {
    /// A part that leaves before byte `position` of the head.
    struct Insert: Sendable {
        var position: Int
        var part: WirePart
    }

    /// What was written field by field.
    private let head: ByteBuffer
    /// By ascending position.
    private let inserts: [Insert]
    /// All bytes together.
    package let byteCount: Int

    init(head: ByteBuffer, inserts: [Insert], insertedByteCount: Int) {
        self.head = head
        self.inserts = inserts
        self.byteCount = head.readableBytes + insertedByteCount
    }

    /// The whole as one buffer where nothing was inserted, as with most messages; else nil.
    package var buffer: ByteBuffer? {
        inserts.isEmpty ? head : nil
    }

    /// The stretches in the order in which they must be sent; the buffers share storage.
    package var parts: [WirePart] {
        var parts: [WirePart] = []
        parts.reserveCapacity(inserts.count * 2 + 1)
        var position = 0
        for insert in inserts {
            if insert.position > position {
                parts.append(.bytes(slice(from: position, to: insert.position)))
            }
            position = insert.position
            parts.append(insert.part)
        }
        if head.readableBytes > position {
            parts.append(.bytes(slice(from: position, to: head.readableBytes)))
        }
        return parts
    }

    /// Gathers everything into one buffer.
    ///
    /// - Precondition: no part is external.
    package func contiguousBytes() -> ByteBuffer {
        guard !inserts.isEmpty else { return head }
        var bytes = ByteBuffer()
        bytes.reserveCapacity(byteCount)
        for part in parts {
            guard case .bytes(let buffer) = part else {
                preconditionFailure("external bytes are only known to who sends them")
            }
            bytes.writeImmutableBuffer(buffer)
        }
        return bytes
    }

    private func slice(from start: Int, to end: Int) -> ByteBuffer {
        guard let slice = head.getSlice(at: head.readerIndex + start, length: end - start) else {
            preconditionFailure("inserts lie within the head")
        }
        return slice
    }
}
