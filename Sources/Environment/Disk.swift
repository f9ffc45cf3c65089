package import struct NIOCore.ByteBuffer

/// What the core may do with files; the real one makes system calls, the simulated one injects faults.
///
/// Every call blocks its caller. It is made at start-up, on the journal's thread or in a job of `Workers`, never on a
/// shard while it serves. Paths are absolute or relative to the process; `/` separates.
package protocol Disk: AnyObject, Sendable {
    /// Opens a file.
    func open(_ path: String, _ mode: OpenMode) throws(DiskError) -> any DiskFile

    /// The names of the entries of a directory, without `.` and `..`, sorted by their bytes.
    func list(_ directory: String) throws(DiskError) -> [String]

    /// Makes a directory and those above it; one that exists is fine.
    func createDirectory(_ path: String) throws(DiskError)

    /// Renames within one file system, replacing `target`; durable after both directories are synced.
    func rename(_ source: String, to target: String) throws(DiskError)

    /// Removes a file; one that is not there is fine.
    func remove(_ path: String) throws(DiskError)

    /// Removes a directory and what is in it; one that is not there is fine.
    func removeTree(_ directory: String) throws(DiskError)

    /// Makes creations, renames and removals in `directory` durable.
    func syncDirectory(_ directory: String) throws(DiskError)

    /// Whether something is there.
    func exists(_ path: String) throws(DiskError) -> Bool

    /// Free and total bytes of the file system that holds `path`.
    func space(at path: String) throws(DiskError) -> DiskSpace
}

extension Disk {
    /// Makes a directory that a power failure does not take away again, and those above it.
    ///
    /// A new directory is a name in the one above, which is durable when that one is synced. One that is there may be
    /// what a process made that ended before the sync, so it is synced too, unless it was given to us in a place that we
    /// may not open.
    package func createLastingDirectory(_ path: String) throws(DiskError) {
        let above = Self.directory(above: path)
        let isThere = try exists(path)
        if !isThere, above != path {
            let isAboveThere = try exists(above)
            if !isAboveThere { try createLastingDirectory(above) }
        }
        try createDirectory(path)
        do throws(DiskError) {
            try syncDirectory(above)
        } catch {
            guard isThere, case .denied = error else { throw error }
        }
    }

    private static func directory(above path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}

/// How a file is opened.
package enum OpenMode: Hashable, Sendable {
    /// Must exist; may only be read.
    case read
    /// Must exist.
    case readWrite
    /// Is made when it is not there.
    case create
    /// Must not exist.
    case createNew
}

/// The room on a file system, in bytes.
package struct DiskSpace: Hashable, Sendable {
    /// Bytes that an unprivileged process may still write.
    package var freeByteCount: Int64
    /// The size of the file system.
    package var totalByteCount: Int64

    /// States the room of a file system.
    package init(freeByteCount: Int64, totalByteCount: Int64) {
        self.freeByteCount = freeByteCount
        self.totalByteCount = totalByteCount
    }
}

/// An open file; closed when the last reference goes.
///
/// Positions and lengths are in bytes. Reads and writes at different positions may run on different threads at once.
package protocol DiskFile: AnyObject, Sendable {
    /// Where the file was opened.
    var path: String { get }

    /// The descriptor, for `sendfile`; nil on a simulated disk.
    var descriptor: Int32? { get }

    /// The file's length.
    func byteCount() throws(DiskError) -> Int64

    /// Reads up to `count` bytes from `position`; fewer only at the end of the file.
    func read(at position: Int64, count: Int) throws(DiskError) -> ByteBuffer

    /// Reads like `read(at:count:)`, but from the medium and past the page cache where the file system allows it.
    func readUncached(at position: Int64, count: Int) throws(DiskError) -> ByteBuffer

    /// Writes all buffers one after the other from `position`, with as few calls as possible.
    ///
    /// - Throws: on any error; what then lies on the disk is unknown between `position` and the end of the write.
    func write(_ buffers: [ByteBuffer], at position: Int64) throws(DiskError)

    /// Gives the file this length; a shorter one cuts, a longer one reads as zeros.
    func truncate(to byteCount: Int64) throws(DiskError)

    /// Reserves blocks for a range, so that later writes into it need no allocation.
    func allocate(_ range: Range<Int64>) throws(DiskError)

    /// Makes content (and length) durable. An error is final: the caller must stop the process.
    func sync() throws(DiskError)

    /// Starts writing a range back without waiting; it promises nothing.
    func startWriteback(_ range: Range<Int64>) throws(DiskError)

    /// Maps bytes that are already written and never change again.
    ///
    /// `range`: starts at a multiple of 4096 and ends within the file.
    func map(_ range: Range<Int64>) throws(DiskError) -> any FileMapping
}

/// A read-only view of a range of a file; unmapped when the last reference goes.
package protocol FileMapping: AnyObject, Sendable {
    /// The number of bytes mapped.
    var byteCount: Int { get }

    /// Lends the bytes of `range` (counted from the mapping's start) for the duration of `body`.
    ///
    /// A page that is not in memory is read by the fault; call `populate(_:)` first, away from a shard.
    func withBytes<Result, Failure: Error>(
        _ range: Range<Int>,
        _ body: (RawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result

    /// Whether every page of the range is in memory, so that reading it does not block.
    func isResident(_ range: Range<Int>) -> Bool

    /// Reads the range into memory; reports an error where a page fault would kill the process.
    func populate(_ range: Range<Int>) throws(DiskError)

    /// Bytes of `range` as a buffer that needs no copy where the implementation can lend its memory.
    func buffer(_ range: Range<Int>) -> ByteBuffer
}

/// Why the disk refused; each says what was tried.
package enum DiskError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Nothing is at this path.
    case notFound(path: String)
    /// Something is at this path already.
    case exists(path: String)
    /// No room is left on the file system or in the quota.
    case noSpace(path: String)
    /// No more files may be opened by this process or machine.
    case tooManyOpenFiles(path: String)
    /// The path may not be used by this user.
    case denied(path: String)
    /// The medium or the driver failed; what was written may be lost.
    case failed(operation: String, path: String, errno: Int32)

    /// The error as a sentence.
    package var description: String {
        switch self {
        case .notFound(let path): "\(path): not found"
        case .exists(let path): "\(path): exists already"
        case .noSpace(let path): "\(path): no space left on the disk"
        case .tooManyOpenFiles(let path): "\(path): too many open files; raise the descriptor limit"
        case .denied(let path): "\(path): permission denied"
        case .failed(let operation, let path, let errno):
            "\(path): \(operation) failed (errno \(errno))"
        }
    }
}
