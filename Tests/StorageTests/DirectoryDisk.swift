import FlotillaEnvironment
import FlotillaSimulation

import struct NIOCore.ByteBuffer

/// A disk in memory on which the names of replicas' directories are lost like those of files: a
/// rename or a removal is durable when the directory above is synced, and a crash may take it back.
///
/// A directory keeps its content under a name of its own on the disk below; what is renamed and
/// removed is the name by which it is found.
final class DirectoryDisk: Disk, @unchecked Sendable {
    // Sendable because the disk below is used from one thread at a time.
    let memory: MemoryDisk
    private static let above = "data/partitions"
    private var names: [String: String] = [:]
    private var durableNames: [String: String] = [:]
    private var madeCount = 0

    init(_ memory: MemoryDisk = MemoryDisk()) {
        self.memory = memory
    }

    func crash(_ fate: MemoryDisk.CrashFate) {
        memory.crash(fate)
        switch fate {
        case .keepUnsynced: return
        case .dropUnsynced: names = durableNames
        case .tear(let seed, _):
            var random = SeededRandom(seed: seed)
            if Bool.random(using: &random) { names = durableNames }
        }
        durableNames = names
    }

    /// All files that can be found, by the names that they are found by.
    var paths: [String] {
        names.keys.sorted().flatMap { name in
            let prefix = "\(Self.above)/\(names[name] ?? name)/"
            return memory.paths.filter { $0.hasPrefix(prefix) }
                .map { "\(Self.above)/\(name)/\($0.dropFirst(prefix.count))" }
        }
    }

    func contents(_ path: String) -> ByteBuffer {
        memory.contents(resolved(path))
    }

    /// The directory that a path is, if it is one of those that are tracked.
    private func name(_ path: String) -> String? {
        guard path.hasPrefix(Self.above + "/") else { return nil }
        let name = String(path.dropFirst(Self.above.count + 1))
        return name.contains("/") ? nil : name
    }

    private func resolved(_ path: String) -> String {
        guard path.hasPrefix(Self.above + "/") else { return path }
        let parts = path.dropFirst(Self.above.count + 1).split(separator: "/", maxSplits: 1)
        let directory = "\(Self.above)/\(names[String(parts[0])] ?? "nothing")"
        return parts.count == 1 ? directory : "\(directory)/\(parts[1])"
    }

    // MARK: Disk

    func open(_ path: String, _ mode: OpenMode) throws(DiskError) -> any DiskFile {
        try memory.open(resolved(path), mode)
    }

    func list(_ directory: String) throws(DiskError) -> [String] {
        let found = try memory.list(resolved(directory))
        return directory == Self.above ? names.keys.sorted() : found
    }

    func createDirectory(_ path: String) throws(DiskError) {
        guard let name = name(path), names[name] == nil else {
            return try memory.createDirectory(resolved(path))
        }
        let made = "\(name)~\(madeCount)"
        try memory.createDirectory("\(Self.above)/\(made)")
        madeCount += 1
        names[name] = made
        durableNames[name] = made
    }

    func rename(_ source: String, to target: String) throws(DiskError) {
        guard let old = name(source), let new = name(target) else {
            return try memory.rename(resolved(source), to: resolved(target))
        }
        // Asked for the sake of faults, which count every call.
        _ = try memory.exists(resolved(source))
        guard let directory = names[old] else { throw .notFound(path: source) }
        guard names[new] == nil else { throw .exists(path: target) }
        names[old] = nil
        names[new] = directory
    }

    func remove(_ path: String) throws(DiskError) {
        try memory.remove(resolved(path))
    }

    func removeTree(_ directory: String) throws(DiskError) {
        guard let name = name(directory) else {
            return try memory.removeTree(resolved(directory))
        }
        _ = try memory.exists(resolved(directory))
        names[name] = nil
    }

    func syncDirectory(_ directory: String) throws(DiskError) {
        try memory.syncDirectory(resolved(directory))
        if directory == Self.above { durableNames = names }
    }

    func exists(_ path: String) throws(DiskError) -> Bool {
        try memory.exists(resolved(path))
    }

    func space(at path: String) throws(DiskError) -> DiskSpace {
        try memory.space(at: resolved(path))
    }
}
