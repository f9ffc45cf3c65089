import FlotillaClient
import Glibc
import NIOCore
import Synchronization

/// Data on standard output, gathered into large writes.
final class StandardOutput: Sendable {
    private let pending = Mutex(ByteBuffer())
    private static let chunk = 64 << 10

    /// Adds bytes; they leave when enough has gathered.
    func write(_ body: (inout ByteBuffer) -> Void) throws(CommandFailure) {
        let isDone = pending.withLock { pending in
            body(&pending)
            return pending.readableBytes < Self.chunk || Self.drain(&pending)
        }
        if !isDone { throw Self.failure }
    }

    /// Writes what has gathered.
    func flush() throws(CommandFailure) {
        if !pending.withLock({ Self.drain(&$0) }) { throw Self.failure }
    }

    private static var failure: CommandFailure { .failed("standard output is closed") }

    /// False where nobody reads any more.
    private static func drain(_ pending: inout ByteBuffer) -> Bool {
        while pending.readableBytes > 0 {
            // Safe: the call reads within the bytes, which live until it returns.
            let count = unsafe pending.withUnsafeReadableBytes { bytes in
                unsafe Glibc.write(STDOUT_FILENO, bytes.baseAddress, bytes.count)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            pending.moveReaderIndex(forwardBy: count)
        }
        pending.clear()
        return true
    }
}

/// Lines of standard input as they come, without their end.
struct LineReader {
    private let delimiter: UInt8
    private let descriptor: Int32
    private var pending = ByteBuffer()
    private var scanned = 0
    private var isAtEnd = false

    init(delimiter: UInt8 = UInt8(ascii: "\n"), descriptor: Int32 = STDIN_FILENO) {
        self.delimiter = delimiter
        self.descriptor = descriptor
    }

    /// Opens a file; nil where it cannot be read.
    static func open(_ path: String) -> Int32? {
        // Safe: the path is passed as a C string that lives until the call returns.
        let descriptor = unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC)
        return descriptor < 0 ? nil : descriptor
    }

    /// The next line; nil after the last one.
    ///
    /// Blocks.
    mutating func next() -> ByteBuffer? {
        while true {
            let view = pending.readableBytesView
            if let end = view.dropFirst(scanned).firstIndex(of: delimiter) {
                scanned = 0
                let line = pending.readSlice(length: end - pending.readerIndex)
                pending.moveReaderIndex(forwardBy: 1)
                return line
            }
            scanned = view.count
            if isAtEnd {
                guard pending.readableBytes > 0 else { return nil }
                scanned = 0
                return pending.readSlice(length: pending.readableBytes)
            }
            fill()
        }
    }

    private mutating func fill() {
        // Lines handed out share the storage: what is left moves to fresh bytes.
        var fresh = ByteBuffer()
        fresh.reserveCapacity(pending.readableBytes + 64 << 10)
        fresh.writeBuffer(&pending)
        // Safe: the call writes within the room, and says how much.
        let count = unsafe fresh.writeWithUnsafeMutableBytes(minimumWritableBytes: 64 << 10) {
            room in
            var count = 0
            repeat {
                count = unsafe read(descriptor, room.baseAddress, room.count)
            } while count < 0 && errno == EINTR
            return max(count, 0)
        }
        if count == 0 { isAtEnd = true }
        pending = fresh
    }
}
