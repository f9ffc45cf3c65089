import FlotillaEnvironment
import Glibc

extension DiskError {
    /// The error that `errno` means for a call on `path`.
    static func from(errno: Int32, operation: String, path: String) -> DiskError {
        switch errno {
        case ENOENT: .notFound(path: path)
        case EEXIST: .exists(path: path)
        case ENOSPC, EDQUOT: .noSpace(path: path)
        case EMFILE, ENFILE: .tooManyOpenFiles(path: path)
        case EACCES, EPERM, EROFS: .denied(path: path)
        default: .failed(operation: operation, path: path, errno: errno)
        }
    }
}

/// Runs a call that answers -1 and sets `errno`, again while it is interrupted.
///
/// - Returns: what the call returned, never below zero.
@discardableResult
func systemCall<Result: FixedWidthInteger & SignedInteger>(
    _ operation: String,
    _ path: String,
    _ call: () -> Result
) throws(DiskError) -> Result {
    while true {
        let result = call()
        if result >= 0 {
            return result
        }
        let code = errno
        if code != EINTR {
            throw .from(errno: code, operation: operation, path: path)
        }
    }
}

/// Reads the answer of a call of `CFlotilla`: below zero it is `-errno`.
@discardableResult
func checked<Result: FixedWidthInteger & SignedInteger>(
    _ result: Result,
    _ operation: String,
    _ path: String
) throws(DiskError) -> Result {
    guard result >= 0 else {
        throw .from(errno: Int32(-result), operation: operation, path: path)
    }
    return result
}

/// An open descriptor, closed when its owner goes.
struct OwnedDescriptor: ~Copyable {
    /// The number that system calls take.
    let number: Int32

    /// Takes over an open descriptor.
    init(taking number: Int32) {
        self.number = number
    }

    deinit {
        // An error of `close` says nothing about data: what must last was synced before.
        _ = close(number)
    }
}
