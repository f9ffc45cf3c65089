import NIOCore

/// How large the blocks are that a connection is read in: small ones until one is filled, large ones from then on.
///
/// A block stays with its connection. Most connections send no more than a heartbeat or a fetch at a time, and thousands of them
/// would hold large blocks for nothing; who sends batches fills the small block at once.
struct ReceiveBlocks: RecvByteBufferAllocator {
    /// Larger than any request without records.
    private static let smallByteCount = 8 << 10

    private let largeByteCount: Int
    private var byteCount: Int

    /// `largeByteCount`: the size of the large ones.
    init(largeByteCount: Int) {
        self.largeByteCount = largeByteCount
        byteCount = min(Self.smallByteCount, largeByteCount)
    }

    func nextBufferSize() -> Int? { byteCount }

    func buffer(allocator: ByteBufferAllocator) -> ByteBuffer {
        allocator.buffer(capacity: byteCount)
    }

    mutating func record(actualReadBytes: Int) -> Bool {
        guard actualReadBytes >= byteCount, byteCount < largeByteCount else { return false }
        byteCount = largeByteCount
        return true
    }
}
