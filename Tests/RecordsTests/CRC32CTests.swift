import CFlotilla
import FlotillaEnvironment
import FlotillaRecords
import Testing

import struct NIOCore.ByteBuffer

@Suite("CRC32C")
struct CRC32CTests {
    /// - Source: RFC 3720, appendix B.4, and the check value of the polynomial's catalogue entry.
    @Test(
        "Published vectors",
        arguments: [
            (Array("123456789".utf8), 0xE306_9283),
            ([UInt8](repeating: 0x00, count: 32), 0x8A91_36AA),
            ([UInt8](repeating: 0xFF, count: 32), 0x62A8_AB43),
            ([UInt8](0..<32), 0x46DD_794E),
            ([UInt8]((0..<32).reversed()), 0x113F_DB5C),
            ([], 0),
        ] as [([UInt8], UInt32)]
    )
    func vectors(bytes: [UInt8], expected: UInt32) {
        #expect(CRC32C.checksum(ByteBuffer(bytes: bytes)) == expected)
        #expect(Self.byTable(bytes) == expected)
    }

    @Test("Hardware and table agree at every length up to three long lanes, at every alignment")
    func hardwareAgainstTable() {
        var random = SeededRandom(seed: 1)
        let bytes = random.bytes(count: 26_000).array
        let lengths =
            Array(0...1100) + stride(from: 1101, through: 25_900, by: 1237) + [
                12_287, 12_288, 12_289,
            ]
        for length in lengths {
            let start = length % 13
            let piece = Array(bytes[start..<start + length])
            #expect(
                CRC32C.checksum(ByteBuffer(bytes: piece)) == Self.byTable(piece),
                "length \(length)"
            )
        }
    }

    @Test("Pieces give the checksum of the whole, wherever it is cut")
    func pieces() {
        var random = SeededRandom(seed: 2)
        let bytes = random.bytes(count: 3000).array
        let whole = CRC32C.checksum(ByteBuffer(bytes: bytes))
        for cut in stride(from: 0, through: bytes.count, by: 37) {
            let first = ByteBuffer(bytes: bytes[..<cut])
            let second = ByteBuffer(bytes: bytes[cut...])
            var checksum = CRC32C()
            checksum.update(first)
            checksum.update(second)
            #expect(checksum.value == whole)
            var continued = CRC32C(continuing: CRC32C.checksum(first))
            continued.update(second)
            #expect(continued.value == whole)
            let joined = flotilla_crc32c_concatenate(
                CRC32C.checksum(first),
                CRC32C.checksum(second),
                UInt64(second.readableBytes)
            )
            #expect(joined == whole)
        }
    }

    private static func byTable(_ bytes: [UInt8]) -> UInt32 {
        // Safe: pointer and count come from one array and are used within the closure.
        unsafe bytes.withUnsafeBytes { buffer in
            unsafe flotilla_crc32c_by_table(0, buffer.baseAddress, buffer.count)
        }
    }
}
