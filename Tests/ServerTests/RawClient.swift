import FlotillaEnvironment
import Glibc

/// A client at the level of the socket: says exactly the bytes that it is told to, and no others.
final class RawClient {
    struct Failed: Error {
        let operation: String
        let code: Int32
    }

    private let descriptor: Int32

    /// Connects over IPv4 to this machine; every call gives up after ten seconds.
    init(port: Int, receiveBuffer: Int32? = nil) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var timeout = timeval(tv_sec: 10, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, size)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &timeout, size)
        if var receiveBuffer {
            unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receiveBuffer, socklen_t(MemoryLayout<Int32>.size))
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(UInt16(port).bigEndian)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let length = socklen_t(MemoryLayout<sockaddr_in>.size)
        // Safe: the address outlives the call and its size is given.
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe connect(descriptor, $0, length) }
        }
        guard result == 0 else {
            throw Failed(operation: "connect", code: errno)
        }
    }

    deinit {
        _ = close(descriptor)
    }

    func send(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let rest = bytes.count - sent
            // Safe: the range ends where the array does.
            let count = unsafe bytes.withUnsafeBytes { all in
                unsafe Glibc.send(descriptor, all.baseAddress?.advanced(by: sent), rest, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else {
                throw Failed(operation: "send", code: errno)
            }
            sent += count
        }
    }

    /// Sends a frame with its length in front.
    func send(frame: [UInt8]) throws {
        try send(Self.prefix(frame.count) + frame)
    }

    static func prefix(_ length: Int) -> [UInt8] {
        let length = UInt32(bitPattern: Int32(length))
        return [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> $0) }
    }

    /// Reads exactly so many bytes, fewer only when the peer has closed.
    func receive(_ count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var received = 0
        while received < count {
            // Safe: as above.
            let step = unsafe bytes.withUnsafeMutableBytes { all in
                unsafe recv(descriptor, all.baseAddress?.advanced(by: received), count - received, 0)
            }
            if step == 0 || (step < 0 && errno == ECONNRESET) {
                break
            }
            guard step > 0 else {
                throw Failed(operation: "recv", code: errno)
            }
            received += step
        }
        return Array(bytes[..<received])
    }

    func receiveFrame() throws -> [UInt8] {
        let prefix = try receive(4)
        guard prefix.count == 4 else {
            throw Failed(operation: "recv", code: ECONNRESET)
        }
        return try receive(prefix.reduce(0) { $0 << 8 | Int($1) })
    }

    /// Whether the peer has closed the connection, waiting for it.
    func isClosedByPeer() throws -> Bool {
        try receive(1).isEmpty
    }
}
