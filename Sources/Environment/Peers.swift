package import FlotillaModel
package import struct NIOCore.ByteBuffer

/// Which of the two connections to a peer a message takes.
///
/// Two, so that a catch-up of 100 MB delays no vote and no answer. A lane keeps the order of what it
/// carries; between lanes there is none.
package enum PeerLane: UInt8, Hashable, Sendable, CaseIterable, CustomStringConvertible {
    /// Heartbeats, votes, answers, and appends at the tail of a log.
    case live = 0
    /// Catch-up: old entries and segment files.
    case bulk = 1

    /// The lane's name, as in log lines and labels of metrics.
    package var description: String {
        switch self {
        case .live: "live"
        case .bulk: "bulk"
        }
    }
}

/// A peer, and where its peer listener is.
package struct PeerAddress: Hashable, Sendable, CustomStringConvertible {
    /// The peer's broker id, which its hello must name as well.
    package var broker: BrokerID
    /// Where its peer listener is reached.
    package var address: NetworkAddress

    /// Says where a peer is.
    package init(broker: BrokerID, address: NetworkAddress) {
        self.broker = broker
        self.address = address
    }

    /// `3 at host:port`.
    package var description: String {
        "\(broker) at \(address)"
    }
}

/// One shard's connections to the other brokers; used on the shard only.
///
/// They carry what this shard sends. What the peers answer arrives over connections of their own,
/// at a `PeerReceiver`. A message may be lost with its connection and is never repeated here:
/// whoever sends knows what to do about it.
package protocol PeerLinks: AnyObject {
    /// Sets whom to be connected to: dials the new, hangs up the gone, moves to changed addresses.
    ///
    /// - Parameter peers: one address per broker, without this broker itself.
    func setPeers(_ peers: [PeerAddress])

    /// Dials a peer at once whose links wait for their next attempt: it was heard of, say by a connection that it made
    /// itself.
    ///
    /// - Parameter broker: the peer; without links to it nothing happens.
    func dialNow(_ broker: BrokerID)

    /// Queues one frame; it leaves with the next `flush()`.
    ///
    /// - Parameters:
    ///   - parts: the frame with its length prefix, in order; the bytes are not copied, and must not
    ///     change any more.
    ///   - broker: the peer.
    ///   - lane: the connection that keeps it in order with others.
    /// - Returns: false when the frame was dropped: the lane is down, or its byte window is full.
    @discardableResult
    func send(_ parts: [ByteBuffer], to broker: BrokerID, on lane: PeerLane) -> Bool

    /// Hands what was queued to the sockets: one gathered write per peer and lane.
    func flush()

    /// Whether the lane is connected, and greeted by the peer.
    func isUp(_ broker: BrokerID, _ lane: PeerLane) -> Bool

    /// Bytes that were taken and have not left for the peer yet; 0 for a lane that is down.
    func queuedByteCount(_ broker: BrokerID, _ lane: PeerLane) -> Int
}

/// What a shard learns from the other brokers, always on the shard.
package protocol PeerReceiver: AnyObject {
    /// A frame arrived, without its length prefix.
    ///
    /// - Parameters:
    ///   - frame: a slice of a larger receive block; copy what is small and outlives the call.
    ///   - broker: who sent it, as its hello said.
    /// - Throws: what is wrong with the frame; the connection is then closed, and its next frames
    ///   are not handed over.
    func received(_ frame: ByteBuffer, from broker: BrokerID) throws

    /// A connection to or from a peer is up, or has ended.
    ///
    /// Outgoing and incoming connections report alike, each connection once up and once down, in
    /// this order; a peer has several incoming ones per lane, one for each of its shards that is
    /// spread to this one.
    ///
    /// - Parameters:
    ///   - broker: the peer.
    ///   - incarnation: which life of the peer's directories the connection belongs to.
    ///   - lane: what the connection carries.
    ///   - isUp: false at once when the connection is closed or reset.
    func linkChanged(
        _ broker: BrokerID,
        incarnation: BrokerIncarnation?,
        lane: PeerLane,
        isUp: Bool
    )
}
