package import struct NIOCore.ByteBuffer

/// What a connection's owner learns from the network, always on the connection's shard.
///
/// Calls never nest: a frame is handed over, and what its owner writes in return leaves at the end
/// of the turn.
package protocol FrameReceiver: AnyObject {
    /// A complete frame arrived, without its length prefix.
    ///
    /// - Parameter frame: a slice of a larger receive block; copy what is small and outlives the
    ///   request.
    func receive(frame: ByteBuffer)

    /// No more frames come from this read of the socket: answers that are ready may leave in one
    /// write.
    func readRoundEnded()

    /// Output piles up (`false`: the peer reads too slowly) or has drained below the low mark
    /// (`true`).
    ///
    /// While output piles up no frame is handed over, whatever the receiver does.
    func writabilityChanged(_ isWritable: Bool)

    /// The broker stops: nothing more is taken from the peer. What was received is to be answered
    /// soon, and the connection closed then.
    ///
    /// - Returns: whether the receiver does so; else the connection is closed at once.
    func drain() -> Bool

    /// The connection is gone; nothing is received after it, and what is written goes nowhere.
    func connectionClosed(_ reason: CloseReason)
}

extension FrameReceiver {
    /// A receiver that owes its peer nothing.
    package func drain() -> Bool { false }
}

/// The way back to a peer; used on the connection's shard only.
package protocol FrameSink: AnyObject {
    /// Queues bytes in order; they leave with the next `flush()`.
    func write(_ parts: [OutputPart])

    /// Hands everything queued to the socket.
    func flush()

    /// Closes after what was flushed has left, or after a short bound when the peer does not read.
    func close(_ reason: CloseReason)

    /// Stops taking bytes from the socket, so that the peer feels it; frames already read wait
    /// here.
    func pauseReading()

    /// Takes up reading again, with the frames that waited first.
    func resumeReading()

    /// Whether output is below its mark.
    var isWritable: Bool { get }

    /// The peer's address.
    var peerAddress: NetworkAddress { get }

    /// The address by which the peer reached this broker.
    var localAddress: NetworkAddress { get }
}

/// A piece of output: bytes in memory, or a range of a file that goes to the socket without passing
/// through memory.
package enum OutputPart {
    /// Bytes that are not changed any more.
    case bytes(ByteBuffer)
    /// A range of an open file; `owner` keeps the descriptor open until the range has left.
    case file(descriptor: Int32, position: Int64, byteCount: Int, owner: AnyObject)

    /// The number of bytes that the peer will receive.
    package var byteCount: Int {
        switch self {
        case .bytes(let bytes): bytes.readableBytes
        case .file(_, _, let byteCount, _): byteCount
        }
    }
}

/// A host and a port.
///
/// The host is an address in text or a name, an IPv6 address without brackets.
package struct NetworkAddress: Hashable, Sendable, CustomStringConvertible {
    /// The host; an IPv4 address that arrived mapped into IPv6 stands here as IPv4.
    package var host: String
    /// The port, from 0 to 65535.
    package var port: Int

    /// Names an address.
    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// `host:port`, with brackets around an IPv6 address.
    package var description: String {
        host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}

/// Why a connection ended; each is a label of a metric and a word in the log.
package enum CloseReason: String, Hashable, Sendable, CaseIterable {
    /// The peer closed it.
    case peerClosed = "peer closed"
    /// The socket failed.
    case socketError = "socket error"
    /// A length prefix was negative or above `socket.request.max.bytes`.
    case frameTooLarge = "frame too large"
    /// Nothing complete arrived for `connections.max.idle.ms`.
    case idle = "idle"
    /// The bytes could not be understood.
    case malformedRequest = "malformed request"
    /// A request that this broker does not announce.
    case unsupportedRequest = "unsupported request"
    /// A request with `acks=0` failed: the close is the only answer it gets.
    case unacknowledgedFailure = "unacknowledged failure"
    /// The broker holds as many connections as it may.
    case tooManyConnections = "too many connections"
    /// The broker stops.
    case shutdown = "shutdown"
}
