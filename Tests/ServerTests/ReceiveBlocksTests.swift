import NIOCore
import Testing

@testable import FlotillaServer

@Suite("Receive blocks")
struct ReceiveBlocksTests {
    @Test("Blocks are small until one is full, and large from then on")
    func growth() {
        var blocks = ReceiveBlocks(largeByteCount: 256 << 10)
        let small = blocks.nextBufferSize() ?? 0
        #expect(small == 8 << 10)
        let growsEarly = blocks.record(actualReadBytes: small - 1)
        #expect(!growsEarly)
        #expect(blocks.buffer(allocator: ByteBufferAllocator()).capacity < 256 << 10)
        let grows = blocks.record(actualReadBytes: small)
        #expect(grows)
        #expect(blocks.nextBufferSize() == 256 << 10)
        let growsAgain = blocks.record(actualReadBytes: 1)
        #expect(!growsAgain)
        #expect(blocks.buffer(allocator: ByteBufferAllocator()).capacity >= 256 << 10)
    }

    @Test("Where large blocks are wanted no larger than small ones, all are equal")
    func small() {
        var blocks = ReceiveBlocks(largeByteCount: 100)
        #expect(blocks.nextBufferSize() == 100)
        let grows = blocks.record(actualReadBytes: 100)
        #expect(!grows)
        #expect(blocks.nextBufferSize() == 100)
    }
}
