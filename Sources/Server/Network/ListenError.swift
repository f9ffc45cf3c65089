package import FlotillaEnvironment
import NIOCore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// An address cannot be listened on.
package struct ListenError: Error, CustomStringConvertible {
    /// The address.
    package let address: NetworkAddress
    /// Who was to be listened to, in words.
    package let purpose: String
    private let cause: any Error

    init(_ address: NetworkAddress, for purpose: String, _ cause: any Error) {
        self.address = address
        self.purpose = purpose
        self.cause = cause
    }

    package var description: String {
        "cannot listen on \(address) for \(purpose): \(reason)"
    }

    private var reason: String {
        guard let error = cause as? IOError else { return "\(cause)" }
        return switch error.errnoCode {
        case EADDRINUSE: "the port is in use"
        case EADDRNOTAVAIL: "this machine does not have the address"
        case EACCES: "not permitted"
        default: "\(error)"
        }
    }
}
