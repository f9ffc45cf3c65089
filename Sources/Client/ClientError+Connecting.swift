import Glibc
import NIOCore
import NIOPosix

extension ClientError {
    /// Why a connection did not come about, in few words.
    package static func reason(_ error: any Error) -> String {
        if let system = error as? IOError {
            // Safe: the text is static, or a thread's own, and copied at once.
            return unsafe String(cString: strerror(system.errnoCode))
        }
        switch error {
        case let failure as NIOConnectionError:
            if let last = failure.connectionErrors.last { return reason(last.error) }
            return (failure.dnsAError ?? failure.dnsAAAAError).map { reason($0) }
                ?? "the name has no address"
        case ChannelError.connectTimeout: return "no answer in time"
        case SocketAddressError.unknown, is SocketAddressError.UnknownHost:
            return "the name is not known"
        default: return "\(error)"
        }
    }

    /// Whether a connection failed because nobody is there, which was known at once.
    static func isRefusal(_ error: any Error) -> Bool {
        switch error {
        case let system as IOError: return system.errnoCode == ECONNREFUSED
        case let failure as NIOConnectionError:
            return failure.connectionErrors.allSatisfy { isRefusal($0.error) }
        default: return error is SocketAddressError || error is SocketAddressError.UnknownHost
        }
    }
}
