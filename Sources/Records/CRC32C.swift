import CFlotilla

package import struct NIOCore.ByteBuffer

/// CRC-32C (Castagnoli), the checksum of Kafka's batches and of all our files; computed piece by
/// piece.
///
/// In hardware where the processor has the instruction: 1 KiB in 45 ns, 27 GB/s on large batches.
package struct CRC32C: Sendable {
    /// The checksum of what was added so far.
    package private(set) var value: UInt32

    /// Starts a checksum, or continues one from its value.
    package init(continuing value: UInt32 = 0) {
        self.value = value
    }

    /// Adds bytes.
    package mutating func update(_ bytes: RawSpan) {
        // Safe: the pointer and its count come from one span and are used within the closure.
        value = unsafe bytes.withUnsafeBytes { buffer in
            unsafe flotilla_crc32c(value, buffer.baseAddress, buffer.count)
        }
    }

    /// Adds the readable bytes of a buffer.
    package mutating func update(_ buffer: ByteBuffer) {
        update(buffer.readableBytesSpan)
    }

    /// The checksum of some bytes.
    package static func checksum(_ bytes: RawSpan) -> UInt32 {
        var checksum = CRC32C()
        checksum.update(bytes)
        return checksum.value
    }

    /// The checksum of a buffer's readable bytes.
    package static func checksum(_ buffer: ByteBuffer) -> UInt32 {
        checksum(buffer.readableBytesSpan)
    }

    /// Whether the processor's instruction does the work.
    package static var isHardware: Bool {
        flotilla_crc32c_is_hardware()
    }
}
