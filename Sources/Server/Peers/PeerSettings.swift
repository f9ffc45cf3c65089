package import FlotillaEnvironment
import Glibc
package import NIOCore
import NIOPosix

/// What the connections between brokers may cost, and how soon a dead one is known.
package struct PeerSettings: Sendable {
    /// The largest frame, without its length: an append carries at least one batch, whatever its
    /// size.
    package var maximumFrameByteCount = 128 << 20
    /// How long a dial may take, name lookup included.
    package var connectTimeout = Duration.seconds(2)
    /// How long the first bytes of the other side may take.
    package var helloTimeout = Duration.seconds(5)
    /// How long a broker may take to answer a petition, for which it asks the controller.
    package var petitionTimeout = Duration.seconds(15)
    /// How long sent bytes may stay unacknowledged, or the peer's window closed, until the
    /// connection is given up (`TCP_USER_TIMEOUT`); an idle one is probed for as long.
    package var silenceTimeout = Duration.seconds(5)
    /// The wait before the second dial; it doubles with each one that fails.
    package var shortestBackoff = Duration.milliseconds(50)
    /// The longest wait between dials.
    package var longestBackoff = Duration.seconds(2)
    /// Bytes that may wait in the live lane to one peer.
    package var liveWindowByteCount = 32 << 20
    /// Bytes that may wait in the bulk lane to one peer.
    package var bulkWindowByteCount = 16 << 20
    /// Bytes of one receive block of a live lane; larger blocks mean fewer frames that must be
    /// copied together.
    package var liveReceiveBlockByteCount = 256 << 10
    /// Bytes of one receive block of a bulk lane.
    package var bulkReceiveBlockByteCount = 1 << 20
    /// Incoming connections at a time: two per shard of each peer, and questions.
    package var maximumIncomingCount = 16_384

    /// Where encryption goes: adds what stands next to the socket, before any handler of ours; nil for plaintext.
    ///
    /// Called for every connection, on its loop, while it is made. A TLS handler holds the hello back until its handshake is
    /// done, and nothing else changes: the hello's time limit covers the handshake, and windows count what waits in the channel.
    package var secure: (@Sendable (any Channel, PeerConnectionSide) throws -> Void)?

    /// The settings by default.
    package init() {}

    /// The bytes that may wait in a lane to one peer.
    package func windowByteCount(_ lane: PeerLane) -> Int {
        switch lane {
        case .live: liveWindowByteCount
        case .bulk: bulkWindowByteCount
        }
    }

    func receiveBlockByteCount(_ lane: PeerLane) -> Int {
        switch lane {
        case .live: liveReceiveBlockByteCount
        case .bulk: bulkReceiveBlockByteCount
        }
    }

    /// How long to wait after so many dials that failed: doubling, and drawn from the upper half,
    /// so that peers of a broker that returns do not all dial at once.
    func backoff(failures: Int, using random: inout SeededRandom) -> TimeAmount {
        let shortest = shortestBackoff.wholeNanoseconds
        let longest = max(longestBackoff.wholeNanoseconds, shortest)
        let factor = Int64(1) << (min(max(failures, 1), 32) - 1)
        let doubled = shortest.multipliedReportingOverflow(by: factor)
        let full = doubled.overflow ? longest : min(doubled.partialValue, longest)
        return .nanoseconds(Int64.random(in: full / 2...full, using: &random))
    }

    /// The options of every socket between brokers.
    ///
    /// Probes of an idle connection begin after two fifths of the silence timeout and follow each
    /// other so that the last is unanswered when it is over; the system counts whole seconds.
    var socketOptions: [(option: ChannelOptions.Types.SocketOption, value: Int)] {
        let seconds = Int(max(silenceTimeout.wholeMilliseconds / 1000, 1))
        let idle = max(seconds * 2 / 5, 1)
        let millis = Int(max(silenceTimeout.wholeMilliseconds, 1))
        return [
            (.socketOption(.tcp_nodelay), 1),
            (.socketOption(.so_keepalive), 1),
            (.tcpOption(NIOBSDSocket.Option(rawValue: TCP_KEEPIDLE)), idle),
            (.tcpOption(NIOBSDSocket.Option(rawValue: TCP_KEEPINTVL)), 1),
            (.tcpOption(NIOBSDSocket.Option(rawValue: TCP_KEEPCNT)), max(seconds - idle, 1)),
            (.tcpOption(NIOBSDSocket.Option(rawValue: TCP_USER_TIMEOUT)), millis),
        ]
    }
}

/// Which end of a peer connection this is.
package enum PeerConnectionSide: Hashable, Sendable {
    /// It was dialled.
    case listener
    /// It dialled the host.
    case dialler(host: String)
}

/// Why a connection to a peer could not be made, or ended.
package enum PeerLinkError: Error, Sendable, CustomStringConvertible {
    /// Nobody could be reached there.
    case unreachable(NetworkAddress, reason: String)
    /// Who is there did not answer the hello in time.
    case noAnswer(NetworkAddress, Duration)
    /// The bytes that came are none that a peer sends.
    case unintelligible(NetworkAddress, reason: String)
    /// The peer does not want the connection, and says why.
    case refused(NetworkAddress, sentence: String)
    /// The peer will want the connection later, and says what it waits for.
    case notYet(NetworkAddress, sentence: String)
    /// Another broker is there.
    case anotherBroker(NetworkAddress, wanted: Int32, found: Int32)
    /// The peer closed the connection.
    case closed(NetworkAddress)
    /// The socket failed.
    case broken(NetworkAddress, reason: String)
    /// This broker hung up.
    case hungUp(NetworkAddress)

    /// Why a dial failed, without what only developers of the network library want to know.
    init(dialling address: NetworkAddress, _ error: any Error) {
        let cause = (error as? NIOConnectionError)?.connectionErrors.first?.error ?? error
        let reason: String
        switch cause {
        case let cause as IOError where cause.errnoCode == ECONNREFUSED:
            reason = "nobody listens there"
        case let cause as IOError where [EHOSTUNREACH, ENETUNREACH].contains(cause.errnoCode):
            reason = "there is no way to that machine"
        case ChannelError.connectTimeout: reason = "no answer in time"
        case let cause as NIOConnectionError where cause.connectionErrors.isEmpty:
            reason = "the name \(address.host) is not known"
        default: reason = "\(cause)"
        }
        self = .unreachable(address, reason: reason)
    }

    /// The error as a sentence.
    package var description: String {
        switch self {
        case .unreachable(let address, let reason):
            "\(address) cannot be reached: \(reason)"
        case .noAnswer(let address, let timeout):
            "\(address) takes connections but did not answer a hello within \(timeout)"
        case .unintelligible(let address, let reason):
            "\(address): \(reason)"
        case .refused(let address, let sentence):
            "\(address) refuses: \(sentence)"
        case .notYet(let address, let sentence):
            "\(address) is not ready: \(sentence)"
        case .anotherBroker(let address, let wanted, let found):
            "\(address) is broker \(found) and not broker \(wanted); correct the address of one of them"
        case .closed(let address):
            "\(address) closed the connection"
        case .broken(let address, let reason):
            "connection to \(address) broke: \(reason)"
        case .hungUp(let address):
            "this broker hung up on \(address)"
        }
    }
}
