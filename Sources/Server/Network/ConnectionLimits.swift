package import FlotillaEnvironment
import Synchronization

/// What one connection may cost.
package struct ConnectionLimits: Sendable {
    /// The largest request in bytes (`socket.request.max.bytes`).
    package var maximumFrameByteCount = 104_857_600
    /// How long a connection may live without a complete request or a byte of output taken
    /// (`connections.max.idle.ms`).
    package var idleTimeout = Duration.seconds(600)
    /// Output queued beyond this stops the connection's requests until it is below `outputLowMark`.
    package var outputHighMark = 1 << 20
    /// Output queued below this lets requests in again.
    package var outputLowMark = 256 << 10
    /// How long a closing connection may take to accept its last answers.
    package var closeTimeout = Duration.seconds(5)
    /// How long a connection may take to answer what it has received when the broker stops.
    package var drainTimeout = Duration.seconds(5)
    /// Bytes of one receive block of a connection that sends much; larger blocks mean fewer frames that must be copied together.
    package var receiveBlockByteCount = 256 << 10

    /// The limits by default.
    package init() {}
}

/// Counts the connections of all listeners against `max.connections` and `max.connections.per.ip`.
///
/// Touched when a connection comes or goes, never by a request.
package final class ConnectionCensus: Sendable {
    private struct Counts {
        var total = 0
        var perHost: [String: Int] = [:]
        var refused: Int64 = 0
        var closed: [CloseReason: Int64] = [:]
    }

    private let maximum: Int
    private let maximumPerHost: Int
    // Guards the counts: connections of all loops come and go here.
    private let counts = Mutex(Counts())

    /// Allows at most so many connections.
    package init(maximum: Int, maximumPerHost: Int) {
        self.maximum = maximum
        self.maximumPerHost = maximumPerHost
    }

    /// Counts a new connection.
    ///
    /// - Returns: false when it may not stay; then it is not counted.
    package func admit(host: String) -> Bool {
        counts.withLock { counts in
            let ofHost = counts.perHost[host, default: 0]
            guard counts.total < maximum, ofHost < maximumPerHost else {
                counts.refused += 1
                return false
            }
            counts.total += 1
            counts.perHost[host] = ofHost + 1
            return true
        }
    }

    /// Takes an admitted connection out of the count.
    package func leave(host: String, _ reason: CloseReason) {
        counts.withLock { counts in
            let ofHost = counts.perHost[host, default: 0]
            precondition(
                ofHost > 0 && counts.total > 0,
                "a connection leaves once, after it was admitted"
            )
            counts.total -= 1
            counts.perHost[host] = ofHost == 1 ? nil : ofHost - 1
            counts.closed[reason, default: 0] += 1
        }
    }

    /// Connections that are open now.
    package var openCount: Int {
        counts.withLock { $0.total }
    }

    /// Connections refused since the start because the broker or the host had too many.
    package var refusedCount: Int64 {
        counts.withLock { $0.refused }
    }

    /// How many connections ended for this reason since the start.
    package func closedCount(_ reason: CloseReason) -> Int64 {
        counts.withLock { $0.closed[reason, default: 0] }
    }
}
