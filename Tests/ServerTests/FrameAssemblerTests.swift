import FlotillaEnvironment
import FlotillaServer
import NIOCore
import Testing

@Suite("Frames from blocks")
struct FrameAssemblerTests {
    @Test("Frames come out as they went in, wherever the blocks are cut", arguments: 1...60)
    func anyCut(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        let frames = (0..<20).map { _ in
            (0..<Int.random(in: 0...40, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
        }
        let stream = frames.flatMap { RawClient.prefix($0.count) + $0 }
        var assembler = FrameAssembler(maximumFrameByteCount: 40)
        var received: [[UInt8]] = []
        var rest = stream[...]
        while !rest.isEmpty {
            let block = rest.prefix(Int.random(in: 1...30, using: &random))
            rest = rest.dropFirst(block.count)
            assembler.append(ByteBuffer(bytes: block))
            // Sometimes blocks pile up, as they do while reading is paused.
            if Bool.random(using: &random) || rest.isEmpty {
                while let frame = try assembler.next() {
                    received.append(Array(frame.readableBytesView))
                }
            }
        }
        #expect(received == frames)
        #expect(assembler.heldByteCount == 0)
    }

    @Test(
        "A negative or too large length is refused before anything is kept for it",
        arguments: [-1, Int(Int32.min), 1001, Int(Int32.max)]
    )
    func badLength(length: Int) throws {
        var assembler = FrameAssembler(maximumFrameByteCount: 1000)
        assembler.append(ByteBuffer(bytes: RawClient.prefix(length)))
        #expect(throws: FrameTooLarge.self) { try assembler.next() }
    }

    @Test("A peer's length is little endian and unsigned, also when it is cut", arguments: 1...7)
    func peerPrefix(cut: Int) throws {
        var assembler = FrameAssembler(maximumFrameByteCount: 300, lengthPrefix: .peer)
        let stream: [UInt8] = [3, 0, 0, 0, 7, 8, 9]
        assembler.append(ByteBuffer(bytes: stream.prefix(cut)))
        let early = try assembler.next()
        assembler.append(ByteBuffer(bytes: stream.dropFirst(cut)))
        #expect(try early ?? assembler.next() == ByteBuffer(bytes: [7, 8, 9]))
        #expect(assembler.heldByteCount == 0)
        assembler.append(ByteBuffer(bytes: [0, 0, 0, 0x80]))
        let error = #expect(throws: FrameTooLarge.self) { try assembler.next() }
        #expect(error?.announced == 0x8000_0000)
    }

    @Test("A TLS client's first bytes look like a frame of hundreds of megabytes")
    func tlsHello() throws {
        var assembler = FrameAssembler(maximumFrameByteCount: 100 << 20)
        assembler.append(ByteBuffer(bytes: [0x16, 0x03, 0x01, 0x02, 0x00, 0x01]))
        let error = #expect(throws: FrameTooLarge.self) { try assembler.next() }
        #expect(error?.announced == 0x1603_0102)
    }

    @Test("A large frame that drips costs what has arrived, not what was announced")
    func drip() throws {
        var assembler = FrameAssembler(maximumFrameByteCount: 100 << 20)
        assembler.append(ByteBuffer(bytes: RawClient.prefix(100 << 20)))
        for byte in 0..<10 {
            assembler.append(ByteBuffer(bytes: [UInt8(byte)]))
            #expect(try assembler.next() == nil)
        }
        #expect(assembler.heldByteCount == 10)
    }

    @Test("A frame of several megabytes across many blocks is whole")
    func large() throws {
        let frame = (0..<5_000_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        var assembler = FrameAssembler(maximumFrameByteCount: 5_000_000)
        let stream = ByteBuffer(bytes: RawClient.prefix(frame.count) + frame)
        var received: ByteBuffer?
        for start in stride(from: 0, to: stream.readableBytes, by: 262_144) {
            let length = min(262_144, stream.readableBytes - start)
            assembler.append(stream.getSlice(at: start, length: length) ?? ByteBuffer())
            if let complete = try assembler.next() {
                received = complete
            }
        }
        #expect(received == ByteBuffer(bytes: frame))
    }
}
