package import FlotillaServer
import Glibc

/// A directory of a benchmark's own on a real disk.
///
/// It lies in `FLOTILLA_BENCH_DIR`, else in `.build` of the working directory: a directory for temporary files may be
/// memory, where a sync costs nothing.
package struct ScratchDirectory: Sendable {
    /// The directory.
    package let path: String
    /// The machine's disk.
    package let disk = PosixDisk()

    /// Makes the directory; it is empty.
    ///
    /// - Throws: what the disk says.
    package init(_ name: String) throws {
        path = "\(Self.root)/\(name)"
        try disk.removeTree(path)
        try disk.createDirectory(path)
    }

    /// Removes every directory of this process; a benchmark's last act.
    ///
    /// - Throws: what the disk says.
    package static func removeAll() throws {
        try PosixDisk().removeTree(root)
    }

    private static var root: String {
        // Safe: the environment is only read, and nobody changes it.
        let base = unsafe getenv("FLOTILLA_BENCH_DIR").map { unsafe String(cString: $0) }
        return "\(base ?? ".build")/bench-\(getpid())"
    }
}
