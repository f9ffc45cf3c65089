package import CFlotilla
package import FlotillaEnvironment
import Glibc
package import struct NIOCore.ByteBuffer

/// An open file of the machine.
///
/// Every call names its position, so calls on several threads do not disturb each other.
package final class PosixFile: DiskFile {
    package let path: String
    private let owned: OwnedDescriptor

    /// The kernel takes at most this many pieces in one write (`IOV_MAX`).
    static let maximumPieceCount = 1024
    /// Direct reads want memory, position and length in multiples of the medium's block.
    static let directAlignment = 4096
    private static let directChunk = 1 << 20

    /// Takes over an open descriptor of the file at `path`.
    init(path: String, descriptor: consuming OwnedDescriptor) {
        self.path = path
        self.owned = descriptor
    }

    package var descriptor: Int32? {
        owned.number
    }

    package func byteCount() throws(DiskError) -> Int64 {
        try checked(flotilla_file_length(owned.number), "fstat", path)
    }

    package func read(at position: Int64, count: Int) throws(DiskError) -> ByteBuffer {
        precondition(position >= 0 && count >= 0, "a read names a range of the file")
        var buffer = ByteBuffer()
        buffer.reserveCapacity(count)
        while buffer.readableBytes < count {
            let start = position + Int64(buffer.readableBytes)
            let missing = count - buffer.readableBytes
            var result = 0
            var code: Int32 = 0
            // Safe: the kernel writes at most `missing` bytes, and that many are reserved.
            _ = unsafe buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: missing) { room in
                result = unsafe pread(owned.number, room.baseAddress, missing, Int(start))
                code = errno
                return max(result, 0)
            }
            if result < 0, code != EINTR {
                throw .from(errno: code, operation: "pread", path: path)
            }
            if result == 0 {
                break
            }
        }
        return buffer
    }

    package func readUncached(at position: Int64, count: Int) throws(DiskError) -> ByteBuffer {
        precondition(position >= 0 && count >= 0, "a read names a range of the file")
        // Opened through the descriptor: the path may name another file by now.
        let direct = unsafe flotilla_open_direct("/proc/self/fd/\(owned.number)")
        guard direct >= 0 else {
            // A file system without direct reads (tmpfs, some overlays): drop the clean pages and
            // read those again.
            let alignment = Int64(Self.directAlignment)
            let start = position / alignment * alignment
            _ = flotilla_drop_cache(owned.number, start, position - start + Int64(count))
            return try read(at: position, count: count)
        }
        return try readDirect(OwnedDescriptor(taking: direct), at: position, count: count)
    }

    private func readDirect(
        _ direct: consuming OwnedDescriptor,
        at position: Int64,
        count: Int
    ) throws(DiskError) -> ByteBuffer {
        let number = direct.number
        let alignment = Self.directAlignment
        let block = UnsafeMutableRawBufferPointer.allocate(
            byteCount: Self.directChunk,
            alignment: alignment
        )
        defer { unsafe block.deallocate() }
        var buffer = ByteBuffer()
        buffer.reserveCapacity(count)
        while buffer.readableBytes < count {
            let wanted = position + Int64(buffer.readableBytes)
            let start = wanted / Int64(alignment) * Int64(alignment)
            let skipped = Int(wanted - start)
            let missing = skipped + count - buffer.readableBytes
            let length = min((missing + alignment - 1) / alignment * alignment, Self.directChunk)
            // Safe: `length` never exceeds the block, and what is copied out lies below what was
            // read.
            let received = try systemCall("pread", path) {
                unsafe pread(number, block.baseAddress, length, Int(start))
            }
            guard received > skipped else {
                break
            }
            let end = min(received, missing)
            unsafe buffer.writeBytes(UnsafeRawBufferPointer(rebasing: block[skipped..<end]))
            if received < length {
                break
            }
        }
        return buffer
    }

    package func write(_ buffers: [ByteBuffer], at position: Int64) throws(DiskError) {
        precondition(position >= 0, "a write starts inside the file")
        var pieces: [flotilla_piece] = unsafe []
        unsafe pieces.reserveCapacity(buffers.count)
        for buffer in buffers where buffer.readableBytes > 0 {
            // Safe: the storage is a heap object that `buffers` keeps alive and unchanged until
            // this function ends.
            unsafe buffer.withUnsafeReadableBytes { bytes in
                unsafe pieces.append(flotilla_piece(base: bytes.baseAddress, count: bytes.count))
            }
        }
        try withExtendedLifetime(buffers) { () throws(DiskError) in
            try unsafe writeAll(&pieces, at: position)
        }
    }

    /// Writes the pieces, in as many calls as the kernel's limits ask for, going on after a short
    /// write.
    private func writeAll(_ pieces: inout [flotilla_piece], at position: Int64) throws(DiskError) {
        var position = position
        var first = 0
        while unsafe first < pieces.count {
            let count = unsafe min(pieces.count - first, Self.maximumPieceCount)
            // Safe: `first + count` does not exceed the array.
            let written = unsafe pieces.withUnsafeBufferPointer { all in
                unsafe flotilla_write_pieces(
                    owned.number,
                    all.baseAddress?.advanced(by: first),
                    Int32(count),
                    position
                )
            }
            try checked(written, "pwritev", path)
            guard written > 0 else {
                throw .failed(operation: "pwritev", path: path, errno: EIO)
            }
            position += written
            unsafe Self.advance(&pieces, &first, by: Int(written))
        }
    }

    /// Steps over `count` bytes that were written: whole pieces, and the front of the one that was
    /// cut.
    package static func advance(_ pieces: inout [flotilla_piece], _ first: inout Int, by count: Int)
    {
        var rest = count
        while rest > 0 {
            let length = unsafe pieces[first].count
            guard rest < length else {
                rest -= length
                first += 1
                continue
            }
            // Safe: `rest` is below the piece's length.
            unsafe pieces[first].base = pieces[first].base.advanced(by: rest)
            unsafe pieces[first].count = length - rest
            rest = 0
        }
    }

    package func truncate(to byteCount: Int64) throws(DiskError) {
        try systemCall("ftruncate", path) { ftruncate(owned.number, Int(byteCount)) }
    }

    package func allocate(_ range: Range<Int64>) throws(DiskError) {
        guard !range.isEmpty else {
            return
        }
        let count = range.upperBound - range.lowerBound
        let result = flotilla_allocate(owned.number, range.lowerBound, count)
        if result == -EOPNOTSUPP {
            // The C library's form touches every block instead; it returns the error and leaves
            // `errno` alone.
            let code = posix_fallocate(owned.number, Int(range.lowerBound), Int(count))
            try checked(-code, "posix_fallocate", path)
        } else {
            try checked(result, "fallocate", path)
        }
    }

    package func sync() throws(DiskError) {
        try checked(flotilla_sync_data(owned.number), "fdatasync", path)
    }

    package func startWriteback(_ range: Range<Int64>) throws(DiskError) {
        guard !range.isEmpty else {
            return
        }
        let count = range.upperBound - range.lowerBound
        try checked(
            flotilla_start_writeback(owned.number, range.lowerBound, count),
            "sync_file_range",
            path
        )
    }

    package func map(_ range: Range<Int64>) throws(DiskError) -> any FileMapping {
        precondition(range.lowerBound % 4096 == 0, "a mapping starts at a page")
        let length = try byteCount()
        guard !range.isEmpty, range.upperBound <= length else {
            // A page beyond the end of the file would kill the process when it is touched.
            throw .failed(operation: "mmap", path: path, errno: EINVAL)
        }
        var code: Int32 = 0
        let count = Int(range.upperBound - range.lowerBound)
        guard let address = unsafe flotilla_map(owned.number, range.lowerBound, count, &code) else {
            throw .from(errno: code, operation: "mmap", path: path)
        }
        return unsafe PosixMapping(path: path, address: address, byteCount: count)
    }
}
