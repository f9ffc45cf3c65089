import CFlotilla
package import FlotillaEnvironment
import Glibc
package import struct NIOCore.ByteBuffer

/// A read-only, shared mapping of bytes that were written before and never change.
///
/// Only complete ranges are mapped, and segment files are never cut, so a fault finds a page or a
/// broken medium; `populate(_:)` asks the second question where the answer is an error and not a
/// signal.
@safe
package final class PosixMapping: FileMapping, @unchecked Sendable {
    // Sendable because the memory is read-only and lives as long as this object.
    private let address: UnsafeMutableRawPointer
    package let byteCount: Int
    private let path: String

    /// Takes over a mapping that `flotilla_map` made.
    init(path: String, address: UnsafeMutableRawPointer, byteCount: Int) {
        self.path = path
        unsafe self.address = unsafe address
        self.byteCount = byteCount
    }

    deinit {
        _ = unsafe flotilla_unmap(address, byteCount)
    }

    package func withBytes<Result, Failure: Error>(
        _ range: Range<Int>,
        _ body: (RawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        check(range)
        // Safe: `check` keeps the range inside the mapping, which lives while `self` does.
        let bytes = unsafe UnsafeRawBufferPointer(
            start: address.advanced(by: range.lowerBound),
            count: range.count
        )
        defer { extendLifetime(self) }
        return try body(unsafe bytes.bytes)
    }

    package func isResident(_ range: Range<Int>) -> Bool {
        guard !range.isEmpty else {
            return true
        }
        let pages = wholePages(of: range)
        // Safe: whole pages of a range inside the mapping; the kernel rounds the last one up
        // itself.
        return unsafe flotilla_is_resident(address.advanced(by: pages.lowerBound), pages.count) == 1
    }

    package func populate(_ range: Range<Int>) throws(DiskError) {
        guard !range.isEmpty else {
            return
        }
        let pages = wholePages(of: range)
        // Safe: as above.
        let result = unsafe flotilla_populate(address.advanced(by: pages.lowerBound), pages.count)
        if result == -EINVAL {
            // Kernels before 5.14 cannot say: read a byte of each page, at the price of a signal if
            // the medium fails.
            touch(pages)
        } else {
            try checked(result, "madvise", path)
        }
    }

    package func buffer(_ range: Range<Int>) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(range.count)
        withBytes(range) { bytes in
            // Safe: the span is read only inside the closure.
            _ = unsafe bytes.withUnsafeBytes { unsafe buffer.writeBytes($0) }
        }
        return buffer
    }

    private func touch(_ pages: Range<Int>) {
        var sum: UInt8 = 0
        withBytes(pages) { bytes in
            for position in stride(from: 0, to: bytes.byteCount, by: 4096) {
                // Safe: the position is inside the span.
                sum &+= unsafe bytes.unsafeLoad(fromByteOffset: position, as: UInt8.self)
            }
        }
        Self.keep(sum)
    }

    /// Takes a result that nobody needs, so that the loads behind it stay.
    @inline(never)
    private static func keep(_ byte: UInt8) {}

    private func wholePages(of range: Range<Int>) -> Range<Int> {
        check(range)
        return range.lowerBound / 4096 * 4096..<range.upperBound
    }

    private func check(_ range: Range<Int>) {
        precondition(
            range.lowerBound >= 0 && range.upperBound <= byteCount,
            "bytes lie inside the mapping"
        )
    }
}
