import CLZ4
import CSnappy
import FlotillaEnvironment
import FlotillaRecords
import Testing

import struct NIOCore.ByteBuffer

@Suite("Codecs")
struct CodecTests {
    static let compressing: [CompressionCodec] = [.gzip, .snappy, .lz4, .zstd]
    static let sizes = [0, 1, 2, 100, 1023, 32_767, 32_768, 32_769, 65_536, 65_537, 300_000]

    static func fold(_ input: ByteBuffer, _ codec: CompressionCodec, level: Int? = nil)
        -> ByteBuffer
    {
        var output = ByteBuffer()
        Compressor().compress(input.readableBytesSpan, as: codec, level: level, into: &output)
        return output
    }

    static func unfold(
        _ input: ByteBuffer,
        _ codec: CompressionCodec,
        limit: Int = 1 << 20
    ) throws(RecordsError) -> ByteBuffer {
        try Decompressor().decompress(input.readableBytesSpan, as: codec, limit: limit)
    }

    @Test(
        "What was compressed unfolds to the same bytes",
        arguments: CompressionCodec.allCases,
        sizes
    )
    func roundTrip(codec: CompressionCodec, size: Int) throws {
        var random = SeededRandom(seed: UInt64(size))
        for alphabet in [1, 4, 256] {
            let input = random.bytes(count: size, alphabet: alphabet)
            #expect(try Self.unfold(Self.fold(input, codec), codec) == input)
        }
    }

    @Test(
        "Every level works, and levels beyond the scale are moved to its end",
        arguments: compressing
    )
    func levels(codec: CompressionCodec) throws {
        var random = SeededRandom(seed: 3)
        let input = random.bytes(count: 5000, alphabet: 4)
        for level in [Int.min, -200_000, -5, 0, 1, 3, 6, 9, 17, 22, 99, Int.max] {
            let output = Self.fold(input, codec, level: level)
            #expect(try Self.unfold(output, codec) == input, "level \(level)")
        }
    }

    @Test("One unfolder serves many inputs, good and bad in turn", arguments: compressing)
    func reuse(codec: CompressionCodec) throws {
        let compressor = Compressor()
        let decompressor = Decompressor()
        var random = SeededRandom(seed: 4)
        for size in [10, 5000, 20, 100_000] {
            let input = random.bytes(count: size, alphabet: 5)
            var output = ByteBuffer()
            compressor.compress(input.readableBytesSpan, as: codec, into: &output)
            let cut = ByteBuffer(bytes: output.array.dropLast())
            #expect(throws: RecordsError.corruptCompression(codec)) {
                try decompressor.decompress(cut.readableBytesSpan, as: codec, limit: 1 << 20)
            }
            let unfolded = try decompressor.decompress(
                output.readableBytesSpan,
                as: codec,
                limit: 1 << 20
            )
            #expect(unfolded == input)
        }
    }

    @Test(
        "The bound is exact: just enough passes, one byte less does not",
        arguments: CompressionCodec.allCases
    )
    func exactBound(codec: CompressionCodec) throws {
        var random = SeededRandom(seed: 5)
        for size in [1, 1000, 70_000] {
            let input = random.bytes(count: size, alphabet: 3)
            let output = Self.fold(input, codec)
            #expect(try Self.unfold(output, codec, limit: size) == input)
            #expect(throws: RecordsError.decompressedTooLarge(limit: size - 1)) {
                try Self.unfold(output, codec, limit: size - 1)
            }
        }
    }

    @Test("A bomb is refused at the bound", arguments: compressing)
    func bomb(codec: CompressionCodec) {
        let zeros = ByteBuffer(repeating: 0, count: 64 << 20)
        let bomb = Self.fold(zeros, codec)
        for limit in [0, 1, 4096, 1 << 20] {
            #expect(throws: RecordsError.decompressedTooLarge(limit: limit)) {
                try Self.unfold(bomb, codec, limit: limit)
            }
        }
    }

    @Test("Input cut at any byte is an error", arguments: compressing)
    func truncated(codec: CompressionCodec) {
        var random = SeededRandom(seed: 6)
        let input = random.bytes(count: 700, alphabet: 4)
        let whole = Self.fold(input, codec).array
        for count in 0..<whole.count {
            let cut = ByteBuffer(bytes: whole[..<count])
            // Xerial's framing has no end mark: its header alone is a whole stream of nothing.
            if codec == .snappy, count == 16 {
                #expect(throws: Never.self) { try Self.unfold(cut, codec) }
                continue
            }
            #expect(throws: RecordsError.corruptCompression(codec), "\(count) bytes") {
                try Self.unfold(cut, codec)
            }
        }
    }

    @Test("Arbitrary bytes are an error or stay within the bound", arguments: compressing)
    func garbage(codec: CompressionCodec) {
        var random = SeededRandom(seed: 7)
        let decompressor = Decompressor()
        let valid = Self.fold(random.bytes(count: 300, alphabet: 4), codec).array
        for _ in 0..<2000 {
            var bytes = valid
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let position = Int.random(in: 0..<bytes.count, using: &random)
                bytes[position] = UInt8.random(in: .min ... .max, using: &random)
            }
            let input = ByteBuffer(bytes: bytes)
            do {
                let output = try decompressor.decompress(
                    input.readableBytesSpan,
                    as: codec,
                    limit: 1000
                )
                #expect(output.readableBytes <= 1000)
            } catch {
                let isExpected =
                    error == .corruptCompression(codec)
                    || error == .decompressedTooLarge(limit: 1000)
                #expect(isExpected, "\(error)")
            }
        }
    }

    // MARK: What other writers make

    @Test(
        "Several gzip members, zstd frames, lz4 frames and xerial streams in a row are read",
        arguments: compressing
    )
    func concatenated(codec: CompressionCodec) throws {
        let first = Self.fold(ByteBuffer(string: "first and "), codec)
        let second = Self.fold(ByteBuffer(string: "second"), codec)
        let both = ByteBuffer(bytes: first.array + second.array)
        #expect(try Self.unfold(both, codec) == ByteBuffer(string: "first and second"))
    }

    @Test(
        "What follows a whole stream must be one too",
        arguments: [.gzip, .lz4, .zstd] as [CompressionCodec]
    )
    func trailingGarbage(codec: CompressionCodec) {
        let whole = Self.fold(ByteBuffer(string: "whole"), codec)
        let longer = ByteBuffer(bytes: whole.array + [1, 2, 3, 4, 5])
        #expect(throws: RecordsError.corruptCompression(codec)) {
            try Self.unfold(longer, codec)
        }
    }

    @Test("A snappy block without framing is read, as librdkafka writes it")
    func rawSnappy() throws {
        let input = ByteBuffer(string: String(repeating: "raw ", count: 100))
        var output = ByteBuffer()
        // Safe: libsnappy writes within the room, which is its own bound.
        unsafe input.withUnsafeReadableBytes { bytes in
            let source = unsafe bytes.assumingMemoryBound(to: CChar.self)
            let bound = snappy_max_compressed_length(bytes.count)
            unsafe output.writeWithUnsafeMutableBytes(minimumWritableBytes: bound) { room in
                var count = room.count
                let target = unsafe room.assumingMemoryBound(to: CChar.self)
                unsafe snappy_compress(source.baseAddress, source.count, target.baseAddress, &count)
                return count
            }
        }
        #expect(try Self.unfold(output, .snappy) == input)
    }

    @Test("A few bytes that announce gigabytes of snappy are refused before room is made")
    func snappyAnnouncement() {
        for hex in [
            "ffffffff0f", "8080808008 00", "82534e4150505900 00000001 00000001 00000005 ffffffff0f",
        ] {
            #expect(throws: RecordsError.corruptCompression(.snappy)) {
                try Self.unfold(ByteBuffer(hex: hex), .snappy, limit: Int(Int32.max))
            }
        }
    }

    @Test("A xerial block that runs past the end, or backwards, is refused")
    func xerialLengths() {
        for length in ["00000100", "7fffffff", "ffffffff", "80000000"] {
            let hex = "82534e4150505900 00000001 00000001 \(length) 0000"
            #expect(throws: RecordsError.corruptCompression(.snappy)) {
                try Self.unfold(ByteBuffer(hex: hex), .snappy)
            }
        }
    }

    @Test("Our snappy is xerial's framing in blocks of 32 KiB")
    func xerialForm() {
        let output = Self.fold(ByteBuffer(repeating: 1, count: 40_000), .snappy)
        #expect(
            Array(output.array[..<16])
                == ByteBuffer(hex: "82534e4150505900 00000001 00000001").array
        )
        let length = output.getInteger(at: 16, as: Int32.self).map(Int.init) ?? 0
        #expect(output.readableBytes > 20 + length, "a second block follows the first")
    }

    @Test(
        "Our lz4 is what Java's reader takes: independent blocks of 64 KiB, no checksums (FLG 0x60, BD 0x40)"
    )
    func lz4Form() {
        let output = Self.fold(ByteBuffer(repeating: 1, count: 200_000), .lz4)
        #expect(Array(output.array[..<6]) == ByteBuffer(hex: "04224d18 60 40").array)
    }

    @Test("lz4 frames with dependent blocks, checksums, content size and 4 MiB blocks are read")
    func foreignLZ4() throws {
        var random = SeededRandom(seed: 8)
        let input = random.bytes(count: 200_000, alphabet: 6)
        for isLinked in [true, false] {
            for hasChecksums in [true, false] {
                for blockSize in [LZ4F_max64KB, LZ4F_max256KB, LZ4F_max4MB] {
                    var preferences = LZ4F_preferences_t()
                    preferences.frameInfo.blockSizeID = blockSize
                    preferences.frameInfo.blockMode =
                        isLinked ? LZ4F_blockLinked : LZ4F_blockIndependent
                    preferences.frameInfo.contentSize = hasChecksums ? 200_000 : 0
                    if hasChecksums {
                        preferences.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled
                        preferences.frameInfo.blockChecksumFlag = LZ4F_blockChecksumEnabled
                    }
                    let frame = Self.lz4(input, preferences)
                    #expect(try Self.unfold(frame, .lz4) == input)
                    if hasChecksums {
                        let damaged = frame.flipping(bit: 3, ofByte: frame.readableBytes / 2)
                        #expect(throws: RecordsError.corruptCompression(.lz4)) {
                            try Self.unfold(damaged, .lz4)
                        }
                    }
                }
            }
        }
    }

    private static func lz4(_ input: ByteBuffer, _ preferences: LZ4F_preferences_t) -> ByteBuffer {
        var preferences = preferences
        var output = ByteBuffer()
        // Safe: liblz4 writes within the room, which is its own bound.
        unsafe input.withUnsafeReadableBytes { bytes in
            let bound = unsafe LZ4F_compressFrameBound(bytes.count, &preferences)
            unsafe output.writeWithUnsafeMutableBytes(minimumWritableBytes: bound) { room in
                unsafe LZ4F_compressFrame(
                    room.baseAddress,
                    room.count,
                    bytes.baseAddress,
                    bytes.count,
                    &preferences
                )
            }
        }
        return output
    }
}
