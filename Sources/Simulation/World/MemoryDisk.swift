package import FlotillaEnvironment
package import struct NIOCore.ByteBuffer

/// A disk in memory that forgets what was not synced.
///
/// Every file has two contents: what reads see, and what a power failure leaves. `sync()` on a file
/// makes its content and length durable, `syncDirectory(_:)` the names in a directory, those of
/// directories made there included; only a directory at the root is durable when made.
/// `crash(_:)` ends all open handles and applies one of three fates to what was not synced.
///
/// Sendable because a test uses its disk from one thread at a time.
package final class MemoryDisk: Disk, @unchecked Sendable {
    /// Bytes that all files together may take; growth beyond it is `.noSpace`.
    package var capacity: Int64 = .max
    /// Asked before every call; an answer is thrown instead of doing the work.
    package var fault: ((DiskOperation) -> DiskError?)?
    /// Asked before every write that is not refused: after so many bytes it breaks off for want of
    /// room.
    package var breakOff: ((DiskOperation) -> Int?)?
    /// What was done, in order, while `isRecording`.
    package private(set) var operations: [DiskOperation] = []
    /// Whether `operations` grows.
    package var isRecording = false

    private var names: [String: MemoryNode] = [:]
    private var durableNames: [String: MemoryNode] = [:]
    private var directories: Set<String> = ["", "/"]
    /// Those whose name the directory above has not made durable.
    private var unsyncedDirectories: Set<String> = []
    /// Directories that got another name, which the directory above has not made durable; in order.
    private var unsyncedRenames: [(source: String, target: String)] = []
    fileprivate private(set) var life = 0

    /// An empty disk of unlimited size.
    package init() {}

    /// What a crash does with content and names that were not synced.
    package enum CrashFate {
        /// All of it is gone: the power failed before anything was written back.
        case dropUnsynced
        /// All of it is kept, and stays unsynced: the process was killed, the machine lives on.
        case keepUnsynced
        /// Each unsynced block of `grain` bytes (a multiple of 512) is kept or lost by itself,
        /// names by directory.
        case tear(seed: UInt64, grain: Int)
    }

    package func crash(_ fate: CrashFate) {
        life += 1
        switch fate {
        case .keepUnsynced:
            return
        case .dropUnsynced:
            takeBackRenames { _ in true }
            names = durableNames
            loseDirectories { _ in true }
            directories.formUnion(names.keys.flatMap(ancestors))
            for path in names.keys.sorted() {
                names[path]?.dropUnsynced()
            }
        case .tear(let seed, let grain):
            var random = SeededRandom(seed: seed)
            takeBackRenames { _ in Bool.random(using: &random) }
            let parents = Set(names.keys.map(parent)).union(durableNames.keys.map(parent))
            for directory in parents.sorted() where Bool.random(using: &random) {
                restoreNames(in: directory)
            }
            loseDirectories { _ in Bool.random(using: &random) }
            directories.formUnion(names.keys.flatMap(ancestors))
            for path in names.keys.sorted() {
                names[path]?.tear(grain: grain, using: &random)
            }
        }
        durableNames = names
        unsyncedRenames.removeAll()
    }

    /// Gives directories their old names again, the last renamed first.
    private func takeBackRenames(_ isTakenBack: (String) -> Bool) {
        for (source, target) in unsyncedRenames.reversed() {
            if isTakenBack(target) {
                names = moving(names, from: target, to: source)
                directories = Set(directories.map { moved($0, from: target, to: source) })
                unsyncedDirectories = Set(
                    unsyncedDirectories.map { moved($0, from: target, to: source) }
                )
            } else {
                durableNames = moving(durableNames, from: source, to: target)
            }
        }
        unsyncedRenames.removeAll()
    }

    private func moving(
        _ names: [String: MemoryNode],
        from source: String,
        to target: String
    ) -> [String: MemoryNode] {
        Dictionary(uniqueKeysWithValues: names.map { (moved($0, from: source, to: target), $1) })
    }

    private func moved(_ path: String, from source: String, to target: String) -> String {
        path == source || path.hasPrefix(source + "/")
            ? target + path.dropFirst(source.count) : path
    }

    private func ancestors(_ path: String) -> [String] {
        var found: [String] = []
        var directory = parent(path)
        while !directory.isEmpty {
            found.append(directory)
            directory = parent(directory)
        }
        return found
    }

    /// Takes directories away that were never durable, with all that is in them.
    private func loseDirectories(_ isLost: (String) -> Bool) {
        for directory in unsyncedDirectories.sorted() where isLost(directory) {
            let prefix = directory + "/"
            names = names.filter { !$0.key.hasPrefix(prefix) }
            directories = directories.filter { $0 != directory && !$0.hasPrefix(prefix) }
        }
        unsyncedDirectories.removeAll()
    }

    private func restoreNames(in directory: String) {
        names = names.filter { parent($0.key) != directory }
        for (path, node) in durableNames where parent(path) == directory {
            names[path] = node
        }
    }

    // MARK: Tampering

    /// The content that a read would see.
    package func contents(_ path: String) -> ByteBuffer {
        guard let node = names[path] else {
            preconditionFailure("\(path) is there")
        }
        return node.content
    }

    /// Flips bits of a byte, on the medium and in memory, behind everybody's back.
    package func flip(_ path: String, at position: Int64, mask: UInt8 = 0x01) {
        guard let node = names[path] else {
            preconditionFailure("\(path) is there")
        }
        node.flip(at: Int(position), mask: mask)
    }

    /// Replaces a file, durably.
    package func put(_ path: String, _ content: ByteBuffer) {
        let node = MemoryNode()
        node.write(content, at: 0)
        node.sync()
        names[path] = node
        durableNames[path] = node
        var directory = parent(path)
        while !directory.isEmpty {
            directories.insert(directory)
            unsyncedDirectories.remove(directory)
            directory = parent(directory)
        }
    }

    /// All files, sorted by path.
    package var paths: [String] {
        names.keys.sorted()
    }

    /// A second disk with the same durable and cached content; neither sees the other's changes.
    package func copy() -> MemoryDisk {
        let twin = MemoryDisk()
        twin.capacity = capacity
        twin.directories = directories
        twin.unsyncedDirectories = unsyncedDirectories
        twin.unsyncedRenames = unsyncedRenames
        var copies: [ObjectIdentifier: MemoryNode] = [:]
        func copied(_ node: MemoryNode) -> MemoryNode {
            let copy = copies[ObjectIdentifier(node)] ?? node.copy()
            copies[ObjectIdentifier(node)] = copy
            return copy
        }
        twin.names = names.mapValues(copied)
        twin.durableNames = durableNames.mapValues(copied)
        return twin
    }

    package func forgetOperations() {
        operations.removeAll()
    }

    // MARK: Disk

    package func open(_ path: String, _ mode: OpenMode) throws(DiskError) -> any DiskFile {
        try note(.open(path: path))
        if let node = names[path] {
            guard mode != .createNew else {
                throw .exists(path: path)
            }
            return MemoryFile(path: path, node: node, disk: self, isWritable: mode != .read)
        }
        guard mode == .create || mode == .createNew, directories.contains(parent(path)) else {
            throw .notFound(path: path)
        }
        let node = MemoryNode()
        names[path] = node
        return MemoryFile(path: path, node: node, disk: self, isWritable: true)
    }

    package func list(_ directory: String) throws(DiskError) -> [String] {
        try note(.list(directory: directory))
        guard directories.contains(directory) else {
            throw .notFound(path: directory)
        }
        let prefix = directory + "/"
        let files = names.keys.filter { parent($0) == directory }
        let folders = directories.filter { $0.hasPrefix(prefix) && parent($0) == directory }
        return (files + folders).map { String($0.dropFirst(prefix.count)) }.sorted()
    }

    package func createDirectory(_ path: String) throws(DiskError) {
        try note(.createDirectory(path: path))
        var directory = path
        while !directory.isEmpty, directories.insert(directory).inserted {
            let above = parent(directory)
            if !above.isEmpty { unsyncedDirectories.insert(directory) }
            directory = above
        }
    }

    package func rename(_ source: String, to target: String) throws(DiskError) {
        try note(.rename(source: source, target: target))
        if let node = names.removeValue(forKey: source) {
            names[target] = node
            return
        }
        guard directories.remove(source) != nil else {
            throw .notFound(path: source)
        }
        directories.insert(target)
        unsyncedRenames.append((source, target))
        if unsyncedDirectories.remove(source) != nil { unsyncedDirectories.insert(target) }
        let prefix = source + "/"
        for path in names.keys.sorted() where path.hasPrefix(prefix) {
            names[target + "/" + path.dropFirst(prefix.count)] = names.removeValue(forKey: path)
        }
        for directory in directories.sorted() where directory.hasPrefix(prefix) {
            directories.remove(directory)
            let renamed = target + "/" + directory.dropFirst(prefix.count)
            directories.insert(renamed)
            if unsyncedDirectories.remove(directory) != nil { unsyncedDirectories.insert(renamed) }
        }
    }

    package func remove(_ path: String) throws(DiskError) {
        try note(.remove(path: path))
        names[path] = nil
    }

    package func removeTree(_ directory: String) throws(DiskError) {
        try note(.remove(path: directory))
        let prefix = directory + "/"
        names = names.filter { !$0.key.hasPrefix(prefix) }
        directories = directories.filter { $0 != directory && !$0.hasPrefix(prefix) }
        unsyncedDirectories.formIntersection(directories)
    }

    package func syncDirectory(_ directory: String) throws(DiskError) {
        try note(.syncDirectory(path: directory))
        for (source, target) in unsyncedRenames where parent(target) == directory {
            durableNames = moving(
                durableNames.filter { !$0.key.hasPrefix(target + "/") },
                from: source,
                to: target
            )
        }
        unsyncedRenames.removeAll { parent($0.target) == directory }
        // With a directory's name everything in it goes for good.
        let prefix = directory + "/"
        durableNames = durableNames.filter { path, _ in
            guard path.hasPrefix(prefix) else { return true }
            let rest = path.dropFirst(prefix.count)
            guard let slash = rest.firstIndex(of: "/") else { return false }
            return directories.contains(prefix + rest[..<slash])
        }
        for (path, node) in names where parent(path) == directory {
            durableNames[path] = node
        }
        unsyncedDirectories = unsyncedDirectories.filter { parent($0) != directory }
    }

    package func exists(_ path: String) throws(DiskError) -> Bool {
        try note(.exists(path: path))
        return names[path] != nil || directories.contains(path)
    }

    package func space(at path: String) throws(DiskError) -> DiskSpace {
        DiskSpace(freeByteCount: capacity - usedByteCount, totalByteCount: capacity)
    }

    /// The sum of all files' lengths.
    package var usedByteCount: Int64 {
        names.values.reduce(0) { $0 + Int64($1.content.readableBytes) }
    }

    fileprivate func note(_ operation: DiskOperation) throws(DiskError) {
        if isRecording {
            operations.append(operation)
        }
        if let error = fault?(operation) {
            throw error
        }
    }

    private func parent(_ path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else {
            return ""
        }
        return String(path[..<slash])
    }
}

/// A call on a `MemoryDisk`, for faults and for tests of what is done in which order.
package enum DiskOperation: Equatable {
    case open(path: String)
    case list(directory: String)
    case createDirectory(path: String)
    case rename(source: String, target: String)
    case remove(path: String)
    case syncDirectory(path: String)
    case exists(path: String)
    case read(path: String, position: Int64, count: Int)
    case write(path: String, position: Int64, count: Int)
    case truncate(path: String, byteCount: Int64)
    case allocate(path: String, range: Range<Int64>)
    case sync(path: String)
    case startWriteback(path: String)
    case map(path: String, range: Range<Int64>)
    case populate(path: String)
}

/// A file's two contents: what reads see, and what survives.
private final class MemoryNode {
    static let sector = 512

    var content = ByteBuffer()
    var durable = ByteBuffer()
    var dirtySectors: Set<Int> = []

    func write(_ bytes: ByteBuffer, at position: Int) {
        guard bytes.readableBytes > 0 else {
            return
        }
        grow(to: position + bytes.readableBytes)
        content.setBuffer(bytes, at: position)
        markDirty(position..<position + bytes.readableBytes)
    }

    func truncate(to byteCount: Int) {
        if byteCount < content.readableBytes {
            content.moveWriterIndex(to: byteCount)
            dirtySectors = dirtySectors.filter { $0 * Self.sector < byteCount }
        } else {
            grow(to: byteCount)
        }
    }

    func grow(to byteCount: Int) {
        let missing = byteCount - content.readableBytes
        if missing > 0 {
            markDirty(content.readableBytes..<byteCount)
            content.writeRepeatingByte(0, count: missing)
        }
    }

    func markDirty(_ range: Range<Int>) {
        for sector in range.lowerBound / Self.sector...(range.upperBound - 1) / Self.sector {
            dirtySectors.insert(sector)
        }
    }

    func sync() {
        setDurableLength(content.readableBytes)
        for sector in dirtySectors {
            keep(sector * Self.sector, count: Self.sector)
        }
        dirtySectors.removeAll(keepingCapacity: true)
    }

    func dropUnsynced() {
        content = ByteBuffer()
        content.writeBytes(durable.readableBytesSpan)
        dirtySectors.removeAll()
    }

    func tear(grain: Int, using random: inout SeededRandom) {
        if content.readableBytes != durable.readableBytes, Bool.random(using: &random) {
            setDurableLength(content.readableBytes)
        }
        let blocks = Set(dirtySectors.map { $0 * Self.sector / grain })
        for block in blocks.sorted() where Bool.random(using: &random) {
            keep(block * grain, count: grain)
        }
        dropUnsynced()
    }

    func flip(at position: Int, mask: UInt8) {
        for path in [\MemoryNode.content, \MemoryNode.durable] {
            if let byte = self[keyPath: path].getInteger(at: position, as: UInt8.self) {
                self[keyPath: path].setInteger(byte ^ mask, at: position)
            }
        }
    }

    func copy() -> MemoryNode {
        let twin = MemoryNode()
        twin.content.writeBytes(content.readableBytesSpan)
        twin.durable.writeBytes(durable.readableBytesSpan)
        twin.dirtySectors = dirtySectors
        return twin
    }

    private func setDurableLength(_ byteCount: Int) {
        if byteCount < durable.readableBytes {
            durable.moveWriterIndex(to: byteCount)
        } else {
            durable.writeRepeatingByte(0, count: byteCount - durable.readableBytes)
        }
    }

    private func keep(_ position: Int, count: Int) {
        let count = min(count, content.readableBytes - position, durable.readableBytes - position)
        if count > 0, let bytes = content.getSlice(at: position, length: count) {
            durable.setBuffer(bytes, at: position)
        }
    }
}

/// An open file of a `MemoryDisk`; dead after a crash.
private final class MemoryFile: DiskFile, @unchecked Sendable {
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
        try reserve(upTo: position + Int64(min(count, limit ?? count)))
        var target = Int(position)
        var rest = limit ?? count
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
        if limit != nil {
            throw .noSpace(path: path)
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
