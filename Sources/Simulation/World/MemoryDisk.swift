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
    /// Asked before every write that is not refused: after so many bytes it breaks off, for want of
    /// room or with `breakOffError`.
    package var breakOff: ((DiskOperation) -> Int?)?
    /// Why writes break off; nil for want of room.
    var breakOffError: DiskError?
    /// Says where a write really lands, given its file and position; nil for nowhere.
    package var misdirect: ((_ path: String, _ position: Int64) -> Int64?)?
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
    /// How many crashes there were: handles from before a crash are dead.
    private(set) var life = 0

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

    /// Whether anything on it was ever changed or taken away behind its user's back.
    var isTampered = false

    /// The content that a read would see.
    package func contents(_ path: String) -> ByteBuffer {
        guard let node = names[path] else {
            preconditionFailure("\(path) is there")
        }
        return node.content
    }

    /// The length of a file; 0 where there is none.
    func byteCount(of path: String) -> Int { names[path]?.content.readableBytes ?? 0 }

    /// Flips bits of a byte, on the medium and in memory, behind everybody's back.
    package func flip(_ path: String, at position: Int64, mask: UInt8 = 0x01) {
        guard let node = names[path] else {
            preconditionFailure("\(path) is there")
        }
        node.flip(at: Int(position), mask: mask)
        isTampered = true
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
        for path in Array(durableNames.keys) where path.hasPrefix(prefix) {
            let rest = path.dropFirst(prefix.count)
            let slash = rest.utf8.firstIndex(of: UInt8(ascii: "/"))
            if slash.map({ directories.contains(prefix + rest[..<$0]) }) != true {
                durableNames[path] = nil
            }
        }
        for (path, node) in names where path.hasPrefix(directory) && parent(path) == directory {
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

    /// Where a write lands; nil for nowhere.
    func place(of path: String, _ position: Int64) -> Int64? {
        guard let misdirect else { return position }
        let place = misdirect(path, position)
        if place != position { isTampered = true }
        return place
    }

    func note(_ operation: DiskOperation) throws(DiskError) {
        if isRecording {
            operations.append(operation)
        }
        if let error = fault?(operation) {
            throw error
        }
    }

    private func parent(_ path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else {
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
