import FlotillaEnvironment
import struct NIOCore.ByteBuffer

/// An open file of a `MemoryDisk`; dead after a crash.
final class MemoryFile: DiskFile, @unchecked Sendable {
    // Sendable because its disk is.
    let path: String
    private let node: MemoryNode
    private let disk: MemoryDisk
    private let isWritable: Bool
    private let life: Int

    init(path: String, node: MemoryNode, disk: MemoryDisk, isWritable: Bool) {
        self.path = path
        self.node = node
        self.disk = disk
        self.isWritable = isWritable
        life = disk.life
    }

    var descriptor: Int32? {
        nil
    }

    func byteCount() throws(DiskError) -> Int64 {
        Int64(node.content.readableBytes)
    }

    func read(at position: Int64, count: Int) throws(DiskError) -> ByteBuffer {
        try begin(.read(path: path, position: position, count: count))
        return bytes(position, count, of: node.content)
    }

    func readUncached(at position: Int64, count: Int) throws(DiskError) -> ByteBuffer {
        try begin(.read(path: path, position: position, count: count))
        return bytes(position, count, of: node.durable)
    }

    func write(_ buffers: [ByteBuffer], at position: Int64) throws(DiskError) {
        let count = buffers.reduce(0) { $0 + $1.readableBytes }
        try begin(.write(path: path, position: position, count: count), changes: true)
        let limit = disk.breakOff?(.write(path: path, position: position, count: count))
        let written = min(count, limit ?? count)
        try reserve(upTo: position + Int64(written))
        node.grow(to: Int(position) + written)
        if let place = disk.place(of: path, position),
            place + Int64(written) <= Int64(node.content.readableBytes)
        {
            write(written, of: buffers, at: Int(place))
        }
        if limit != nil {
            throw disk.breakOffError ?? .noSpace(path: path)
        }
    }

    private func write(_ byteCount: Int, of buffers: [ByteBuffer], at place: Int) {
        var target = place
        var rest = byteCount
        for buffer in buffers {
            let part = buffer.getSlice(
                at: buffer.readerIndex,
                length: min(rest, buffer.readableBytes)
            )
            guard let part else { break }
            node.write(part, at: target)
            target += part.readableBytes
            rest -= part.readableBytes
        }
    }

    func truncate(to byteCount: Int64) throws(DiskError) {
        try begin(.truncate(path: path, byteCount: byteCount), changes: true)
        try reserve(upTo: byteCount)
        node.truncate(to: Int(byteCount))
    }

    func allocate(_ range: Range<Int64>) throws(DiskError) {
        try begin(.allocate(path: path, range: range), changes: true)
        try reserve(upTo: range.upperBound)
        node.grow(to: Int(range.upperBound))
    }

    func sync() throws(DiskError) {
        try begin(.sync(path: path))
        node.sync()
    }

    func startWriteback(_ range: Range<Int64>) throws(DiskError) {
        try begin(.startWriteback(path: path))
    }

    func map(_ range: Range<Int64>) throws(DiskError) -> any FileMapping {
        try begin(.map(path: path, range: range))
        precondition(range.lowerBound % 4096 == 0, "a mapping starts at a page")
        precondition(
            range.upperBound <= Int64(node.content.readableBytes),
            "a mapping ends within the file"
        )
        return MemoryMapping(
            path: path,
            node: node,
            disk: disk,
            start: Int(range.lowerBound),
            byteCount: range.count
        )
    }

    private func bytes(_ position: Int64, _ count: Int, of content: ByteBuffer) -> ByteBuffer {
        let available = max(0, min(count, content.readableBytes - Int(position)))
        var copy = ByteBuffer()
        if available > 0 {
            copy.reserveCapacity(available)
            copy.writeBytes(
                content.readableBytesSpan.extracting(Int(position)..<Int(position) + available)
            )
        }
        return copy
    }

    private func begin(_ operation: DiskOperation, changes: Bool = false) throws(DiskError) {
        precondition(isWritable || !changes, "a file opened for reading is not written")
        guard life == disk.life else {
            throw .failed(operation: "use after the crash", path: path, errno: 5)
        }
        try disk.note(operation)
    }

    private func reserve(upTo byteCount: Int64) throws(DiskError) {
        guard disk.capacity < .max else { return }
        let growth = byteCount - Int64(node.content.readableBytes)
        guard growth <= 0 || disk.capacity - disk.usedByteCount >= growth else {
            throw .noSpace(path: path)
        }
    }
}

/// A mapping of a `MemoryDisk`'s file; it sees later writes, as a shared mapping does.
private final class MemoryMapping: FileMapping, @unchecked Sendable {
    // Sendable because its disk is.
    let byteCount: Int
    private let path: String
    private let node: MemoryNode
    private let disk: MemoryDisk
    private let start: Int

    init(path: String, node: MemoryNode, disk: MemoryDisk, start: Int, byteCount: Int) {
        self.path = path
        self.node = node
        self.disk = disk
        self.start = start
        self.byteCount = byteCount
    }

    func withBytes<Result, Failure: Error>(
        _ range: Range<Int>,
        _ body: (RawSpan) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        precondition(range.upperBound <= byteCount, "bytes are lent within the mapping")
        let content = node.content
        return try body(
            content.readableBytesSpan.extracting(
                start + range.lowerBound..<start + range.upperBound
            )
        )
    }

    func isResident(_ range: Range<Int>) -> Bool {
        true
    }

    func populate(_ range: Range<Int>) throws(DiskError) {
        try disk.note(.populate(path: path))
    }

    func buffer(_ range: Range<Int>) -> ByteBuffer {
        withBytes(range) { bytes in
            var copy = ByteBuffer()
            copy.writeBytes(bytes)
            return copy
        }
    }
}
