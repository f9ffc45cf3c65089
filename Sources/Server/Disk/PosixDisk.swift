import CFlotilla
package import FlotillaEnvironment
import Glibc

/// The machine's own file systems, through plain system calls.
///
/// Calls block; the page cache is used except where a call says otherwise.
package final class PosixDisk: Disk {
    /// Files are readable by the owner and the group: a log may hold secrets.
    private static let fileMode: mode_t = 0o640
    private static let directoryMode: mode_t = 0o750

    /// Makes the disk; nothing is touched until the first call.
    package init() {}

    package func open(_ path: String, _ mode: OpenMode) throws(DiskError) -> any DiskFile {
        let flags: Int32 =
            switch mode {
            case .read: O_RDONLY
            case .readWrite: O_RDWR
            case .create: O_RDWR | O_CREAT
            case .createNew: O_RDWR | O_CREAT | O_EXCL
            }
        let number = try systemCall("open", path) {
            unsafe Glibc.open(path, flags | O_CLOEXEC, Self.fileMode)
        }
        return PosixFile(path: path, descriptor: OwnedDescriptor(taking: number))
    }

    package func list(_ directory: String) throws(DiskError) -> [String] {
        guard let stream = unsafe opendir(directory) else {
            throw .from(errno: errno, operation: "opendir", path: directory)
        }
        defer { _ = unsafe closedir(stream) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = unsafe readdir(stream) else {
                guard errno == 0 else {
                    throw .from(errno: errno, operation: "readdir", path: directory)
                }
                break
            }
            // Safe: the kernel ends `d_name` with a zero byte inside the entry, which lives until
            // the next `readdir`.
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { field in
                unsafe field.withMemoryRebound(to: CChar.self, capacity: 256) { text in
                    unsafe String(cString: text)
                }
            }
            if name != ".", name != ".." {
                names.append(name)
            }
        }
        return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    package func createDirectory(_ path: String) throws(DiskError) {
        do {
            try systemCall("mkdir", path) { unsafe mkdir(path, Self.directoryMode) }
        } catch .exists {
            guard try isDirectory(path) else {
                throw .exists(path: path)
            }
        } catch .notFound {
            let parent = Self.parent(of: path)
            guard parent != path else {
                throw .notFound(path: path)
            }
            try createDirectory(parent)
            try createDirectory(path)
        }
    }

    package func rename(_ source: String, to target: String) throws(DiskError) {
        try systemCall("rename", source) { unsafe Glibc.rename(source, target) }
    }

    package func remove(_ path: String) throws(DiskError) {
        do {
            try systemCall("unlink", path) { unsafe unlink(path) }
        } catch .notFound {
            return
        }
    }

    package func removeTree(_ directory: String) throws(DiskError) {
        let names: [String]
        do {
            names = try list(directory)
        } catch .notFound {
            return
        }
        for name in names {
            let path = directory + "/" + name
            if try isDirectory(path) {
                try removeTree(path)
            } else {
                try remove(path)
            }
        }
        do {
            try systemCall("rmdir", directory) { unsafe rmdir(directory) }
        } catch .notFound {
            return
        }
    }

    package func syncDirectory(_ directory: String) throws(DiskError) {
        let number = try systemCall("open", directory) {
            unsafe Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        }
        let descriptor = OwnedDescriptor(taking: number)
        try checked(flotilla_sync_all(descriptor.number), "fsync", directory)
    }

    package func exists(_ path: String) throws(DiskError) -> Bool {
        do {
            _ = try isDirectory(path)
            return true
        } catch .notFound {
            return false
        }
    }

    package func space(at path: String) throws(DiskError) -> DiskSpace {
        var free: Int64 = 0
        var total: Int64 = 0
        try checked(unsafe flotilla_space(path, &free, &total), "statvfs", path)
        return DiskSpace(freeByteCount: free, totalByteCount: total)
    }

    /// Whether the path itself is a directory: a symbolic link is not followed, so that no tree
    /// outside is ever removed.
    private func isDirectory(_ path: String) throws(DiskError) -> Bool {
        try checked(unsafe flotilla_is_directory(path), "lstat", path) == 1
    }

    private static func parent(of path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else {
            return "."
        }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}
