import FlotillaEnvironment
import FlotillaServer
import Glibc

/// A directory of a test's own, removed when the last reference goes.
final class Scratch: Sendable {
    let path: String
    let disk = PosixDisk()

    init() throws {
        var template = Array("\(Self.root)/flotilla-test-XXXXXX".utf8CString)
        let made = unsafe template.withUnsafeMutableBufferPointer { text in
            unsafe text.baseAddress.flatMap { unsafe mkdtemp($0) }.map {
                unsafe String(cString: $0)
            }
        }
        guard let made else {
            throw DiskError.failed(operation: "mkdtemp", path: Self.root, errno: errno)
        }
        path = made
    }

    deinit {
        do {
            try disk.removeTree(path)
        } catch {
            print("a test's directory stays behind: \(error)")
        }
    }

    func file(_ name: String) -> String {
        path + "/" + name
    }

    private static var root: String {
        unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? "/tmp"
    }
}
