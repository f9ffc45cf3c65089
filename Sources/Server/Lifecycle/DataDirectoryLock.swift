import CFlotilla
package import FlotillaEnvironment
import Glibc

/// Why a data directory cannot be used.
package enum DataDirectoryError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Another process has it.
    case inUse(directory: String, by: String)
    /// It cannot be made or opened.
    case disk(DiskError)

    /// The error as a sentence.
    package var description: String {
        switch self {
        case .inUse(let directory, let holder):
            "\(directory): in use by another broker (process \(holder)); stop it or choose another data.dir"
        case .disk(let error): "\(error)"
        }
    }
}

/// The lock on a data directory: two brokers that write one journal would destroy it.
///
/// The kernel gives the lock back when the process ends, however it ends; the file `LOCK` stays,
/// with the last holder's number.
package final class DataDirectoryLock: Sendable {
    private let descriptor: OwnedDescriptor

    /// Makes the directory where it is missing, and takes its lock.
    ///
    /// - Throws: `.inUse` without waiting when another process holds it.
    package init(directory: String) throws(DataDirectoryError) {
        let path = directory + "/LOCK"
        do {
            try PosixDisk().createLastingDirectory(directory)
            let number = try systemCall("open", path) {
                unsafe Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o640)
            }
            descriptor = OwnedDescriptor(taking: number)
        } catch {
            throw .disk(error)
        }
        let result = flotilla_lock_file(descriptor.number)
        if result == -EWOULDBLOCK {
            throw .inUse(directory: directory, by: Self.holder(descriptor.number))
        }
        guard result == 0 else {
            throw .disk(.from(errno: -result, operation: "flock", path: path))
        }
        Self.note(getpid(), in: descriptor.number)
    }

    /// The number that the holder wrote; for people only, so what cannot be read is a question
    /// mark.
    private static func holder(_ descriptor: Int32) -> String {
        var bytes = [UInt8](repeating: 0, count: 16)
        // Safe: the array's own bounds.
        let count = unsafe bytes.withUnsafeMutableBytes {
            unsafe pread(descriptor, $0.baseAddress, $0.count, 0)
        }
        let digits = bytes.prefix(max(0, count)).filter { $0 >= 0x30 && $0 <= 0x39 }
        return digits.isEmpty ? "?" : String(decoding: digits, as: UTF8.self)
    }

    private static func note(_ process: pid_t, in descriptor: Int32) {
        let text = Array("\(process)\n".utf8)
        _ = ftruncate(descriptor, 0)
        // Safe: the array's own bounds. The number is for people: the lock holds without it.
        _ = unsafe text.withUnsafeBytes { unsafe pwrite(descriptor, $0.baseAddress, $0.count, 0) }
    }
}
