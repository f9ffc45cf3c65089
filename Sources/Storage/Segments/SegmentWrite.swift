import FlotillaEnvironment
import FlotillaModel
import struct NIOCore.ByteBuffer

/// Committed entries on their way to a segment; one per log at a time.
///
/// Everything is decided on the shard; `perform()` runs on a worker and its result goes to the
/// log's `finish(_:)`. A failed write leaves garbage at most behind what was written before, and is
/// offered again at the same place.
package struct SegmentWrite: Sendable {
    /// What has to happen before the first entry of a segment may be written.
    struct Beginning: Sendable {
        /// The segment that ends; nil at the start of a log.
        var previous: SegmentName?
        var previousFiles: SegmentFiles?
        /// The `.state` before the segment; nil at the start of a log, where it says nothing.
        var state: StateWrite?
        /// The header of `.frames`.
        var header: ByteBuffer
    }

    /// Where bytes of one file go.
    struct Piece: Sendable {
        var position: Int
        var buffers: [ByteBuffer]
    }

    let disk: any Disk
    let directory: String
    let name: SegmentName
    let files: SegmentFiles?
    let beginning: Beginning?
    let log: Piece
    let control: Piece
    let frames: Piece
    /// How far the segment is filled afterwards.
    let extent: SegmentExtent
    /// The last entry written.
    let lastMark: LogMark

    /// The bytes that go to the disk.
    package var byteCount: Int {
        [log, control, frames].reduce(0) { $0 + $1.buffers.reduce(0) { $0 + $1.readableBytes } }
    }

    /// Does the work; blocks.
    package func perform() -> SegmentWriteResult {
        do throws(StorageError) {
            if let beginning { try begin(beginning) }
            let files = try open(name, files, .create)
            try write(log, to: files.log)
            try write(control, to: files.control)
            try write(frames, to: files.frames)
            return SegmentWriteResult(write: self, outcome: .success(files))
        } catch {
            return SegmentWriteResult(write: self, outcome: .failure(error))
        }
    }

    /// Ends the segment before: its content becomes durable, then the state that promises it, then
    /// the new files.
    private func begin(_ beginning: Beginning) throws(StorageError) {
        if let previous = beginning.previous {
            let files = try open(previous, beginning.previousFiles, .readWrite)
            do {
                try files.sync()
            } catch {
                throw .syncFailed(error)
            }
        } else {
            try wrapped { () throws(DiskError) in try disk.createDirectory(directory) }
            try syncDirectory(parent(of: directory))
            // The first replica of a broker makes the directory above, which is a name like any other.
            try syncDirectory(parent(of: parent(of: directory)))
        }
        try beginning.state?.perform()
        let files = try open(name, nil, .create)
        try wrapped { () throws(DiskError) in try files.frames.write([beginning.header], at: 0) }
        try syncDirectory(directory)
    }

    /// A file that damage took is made again: its lost rows stay told, and what follows them is
    /// kept.
    private func open(_ name: SegmentName, _ known: SegmentFiles?, _ mode: OpenMode)
        throws(StorageError) -> SegmentFiles
    {
        if let known { return known }
        return try wrapped { () throws(DiskError) in
            try SegmentFiles.open(name, in: directory, on: disk, mode)
        }
    }

    private func write(_ piece: Piece, to file: any DiskFile) throws(StorageError) {
        guard !piece.buffers.isEmpty else { return }
        try wrapped { () throws(DiskError) in
            let start = Int64(piece.position)
            try file.write(piece.buffers, at: start)
            let count = piece.buffers.reduce(0) { $0 + $1.readableBytes }
            if count >= Self.writebackByteCount {
                try file.startWriteback(start..<start + Int64(count))
            }
        }
    }

    /// Smaller writes are left to the sync: a page that fills in steps would go to the disk at each
    /// of them.
    private static let writebackByteCount = 256 << 10

    private func wrapped<Value>(_ body: () throws(DiskError) -> Value) throws(StorageError) -> Value
    {
        do {
            return try body()
        } catch {
            throw StorageError(error, writing: byteCount, to: directory, on: disk)
        }
    }

    private func syncDirectory(_ path: String) throws(StorageError) {
        do {
            try disk.syncDirectory(path)
        } catch {
            throw StorageError(syncing: error)
        }
    }
}

/// What became of a `SegmentWrite`.
package struct SegmentWriteResult: Sendable {
    let write: SegmentWrite
    let outcome: Result<SegmentFiles, StorageError>
}

/// A `.state` file on its way to the disk: written beside, synced, renamed, and the directory
/// synced.
struct StateWrite: Sendable {
    let disk: any Disk
    let directory: String
    let name: SegmentName
    let bytes: ByteBuffer

    func perform() throws(StorageError) {
        let path = "\(directory)/\(name.fileName(.state))"
        let staged = path + Self.stagedSuffix
        let file: any DiskFile
        do {
            file = try disk.open(staged, .create)
            try file.truncate(to: 0)
            try file.write([bytes], at: 0)
        } catch {
            throw StorageError(error, writing: bytes.readableBytes, to: directory, on: disk)
        }
        do {
            try file.sync()
        } catch {
            throw .syncFailed(error)
        }
        do {
            try disk.rename(staged, to: path)
        } catch {
            throw StorageError(error, writing: bytes.readableBytes, to: directory, on: disk)
        }
        do {
            try disk.syncDirectory(directory)
        } catch {
            throw StorageError(syncing: error)
        }
    }

    /// Files with this ending were never finished; recovery removes them.
    static let stagedSuffix = ".new"
}

extension StorageError {
    /// Sorts a disk's refusal: a full disk is told apart, since it is an answer and not a fault.
    init(_ error: DiskError, writing byteCount: Int, to directory: String, on disk: any Disk) {
        guard case .noSpace = error else {
            self = .disk(error)
            return
        }
        let free = (try? disk.space(at: directory))?.freeByteCount ?? 0
        self = .volumeFull(directory: directory, bytesNeeded: byteCount, bytesFree: Int(free))
    }

    /// Sorts the refusal to sync a directory: one that could not be opened, because too many files
    /// are, was not synced and lost nothing; the same call may be made again.
    init(syncing error: DiskError) {
        if case .tooManyOpenFiles = error {
            self = .disk(error)
        } else {
            self = .syncFailed(error)
        }
    }
}

/// The directory that holds a path.
func parent(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return String(path[..<slash])
}
