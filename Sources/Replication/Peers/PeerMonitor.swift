package import FlotillaEnvironment
package import FlotillaModel

/// Knows of every peer whether it is there: beats, listens, and tells what changed.
///
/// Groups that have nothing to do send nothing; in place of their heartbeats stands this one beat
/// per pair of broker and shard. A peer is lost at once when a connection to or from it ends, since
/// a killed process closes all of them, and after `silenceLimit` without any sign when it does not
/// even do that. Anything that a peer sends is a sign; after the end of a connection, however, what
/// still comes may be left over from before, so only a new connection, or the answer to a beat sent
/// since, brings the peer back.
package struct PeerMonitor: Sendable {
    /// The time between two beats to a peer.
    package static let beatInterval = Duration.milliseconds(100)
    /// How long a peer may be without any sign.
    package static let silenceLimit = Duration.milliseconds(300)
    /// A longer time between two ticks means that this shard stood still, not its peers.
    static let tickGapLimit = Duration.milliseconds(200)

    /// What happens to the monitor.
    package enum Input: Sendable {
        /// These are the peers from now on, without this broker itself.
        case peers([BrokerID])
        /// Time passed; at least every `beatInterval`.
        case tick(Instant)
        /// A peer sent anything other than a beat or an answer.
        case received(from: BrokerID)
        /// A peer asks whether this broker is there.
        case beat(PeerBeat, from: BrokerID)
        /// A peer answers.
        case beatAnswer(PeerBeat, from: BrokerID)
        /// A connection to or from a peer is up; of its incarnation where it is known.
        case linkUp(BrokerID, BrokerIncarnation?)
        /// A connection to or from a peer has ended.
        case linkDown(BrokerID)
    }

    /// What is to be done, or to be known.
    package enum Effect: Hashable, Sendable {
        /// Send this beat.
        case beat(PeerBeat, to: BrokerID)
        /// Send this answer.
        case answer(PeerBeat, to: BrokerID)
        /// The peer is not there any more; it was.
        case lost(BrokerID)
        /// The peer is there; it was not, or not yet.
        case back(BrokerID)
        /// The peer has another incarnation than before: what its replicas promised is forgotten.
        /// Comes between `lost` and `back`.
        case reborn(BrokerID)
    }

    private enum State: Hashable {
        /// Not yet heard of; nobody is told of its absence.
        case unheard
        case there
        /// Lost by silence: any sign brings it back.
        case silent
        /// Lost by the end of a connection, when `sequence` was the last beat sent.
        case cutOff(sequence: UInt64)
    }

    private struct Peer {
        let broker: BrokerID
        var incarnation: BrokerIncarnation?
        var state = State.unheard
        /// Whether it gave a sign since the last tick.
        var hasSign = false
        /// The first tick after the last sign; later by as long as this shard stood still since.
        var lastSign = Instant.start
    }

    private let incarnation: BrokerIncarnation
    /// Sorted by broker: effects come in the same order everywhere.
    private var peers: [Peer] = []
    private var sequence: UInt64 = 0
    private var lastTick: Instant?
    private var nextBeat = Instant.start

    /// A monitor of no peers.
    ///
    /// - Parameter incarnation: this broker's own, which beats and answers carry.
    package init(incarnation: BrokerIncarnation) {
        self.incarnation = incarnation
    }

    /// Whether the peer is there, as far as one can know; false for a broker that is no peer.
    package func isThere(_ broker: BrokerID) -> Bool {
        slot(of: broker).map { peers[$0].state == .there } ?? false
    }

    /// The peers that are there, sorted.
    package var present: [BrokerID] {
        peers.lazy.filter { $0.state == .there }.map(\.broker)
    }

    /// The incarnation that the peer last showed; nil for a peer that showed none yet.
    package func incarnation(of broker: BrokerID) -> BrokerIncarnation? {
        slot(of: broker).flatMap { peers[$0].incarnation }
    }

    /// Takes an input, and says what follows from it.
    ///
    /// What comes from a broker that is no peer is answered and otherwise ignored.
    package mutating func step(_ input: Input) -> [Effect] {
        switch input {
        case .peers(let brokers): setPeers(brokers)
        case .tick(let now): tick(now)
        case .received(let broker): sign(of: broker)
        case .beat(let beat, let broker): answer(beat, from: broker)
        case .beatAnswer(let answer, let broker): takeAnswer(answer, from: broker)
        case .linkUp(let broker, let incarnation):
            sign(of: broker, as: incarnation, isFresh: true)
        case .linkDown(let broker): cutOff(broker)
        }
    }

    // MARK: Peers

    /// Keeps what is known of those that stay.
    ///
    /// One that goes while it is there is lost: nobody else would tell those who count on it.
    private mutating func setPeers(_ brokers: [BrokerID]) -> [Effect] {
        let sorted = Set(brokers).sorted()
        let gone = peers.filter { $0.state == .there && !sorted.contains($0.broker) }
        peers = sorted.map { broker in
            slot(of: broker).map { peers[$0] } ?? Peer(broker: broker)
        }
        return gone.map { .lost($0.broker) }
    }

    private func slot(of broker: BrokerID) -> Int? {
        var range = peers.indices
        while let first = range.first {
            let middle = first + range.count / 2
            if peers[middle].broker == broker {
                return middle
            }
            range = peers[middle].broker < broker ? middle + 1..<range.endIndex : first..<middle
        }
        return nil
    }

    // MARK: Time

    private mutating func tick(_ now: Instant) -> [Effect] {
        let gap = now - (lastTick ?? now)
        precondition(gap >= .zero, "the monotonic clock never goes back")
        lastTick = now
        // What the peers sent meanwhile may still wait to be read.
        let pause = gap > Self.tickGapLimit ? gap - Self.beatInterval : .zero
        var effects: [Effect] = []
        for slot in peers.indices {
            peers[slot].lastSign = peers[slot].hasSign ? now : peers[slot].lastSign + pause
            peers[slot].hasSign = false
            if peers[slot].state == .there, now - peers[slot].lastSign >= Self.silenceLimit {
                peers[slot].state = .silent
                effects.append(.lost(peers[slot].broker))
            }
        }
        guard now >= nextBeat else {
            return effects
        }
        // Late ticks do not make the beats rarer, and a pause is not made up for.
        let planned = nextBeat + Self.beatInterval
        nextBeat = planned > now ? planned : now + Self.beatInterval
        sequence += 1
        let beat = PeerBeat(sequence: sequence, incarnation: incarnation)
        return effects + peers.map { .beat(beat, to: $0.broker) }
    }

    // MARK: Signs

    /// Notes a sign of life.
    ///
    /// - Parameters:
    ///   - broker: who gave it.
    ///   - shown: the incarnation that the sign came with, if any.
    ///   - isFresh: whether the sign cannot be older than the peer's last loss.
    /// - Returns: what the sign changes.
    private mutating func sign(
        of broker: BrokerID,
        as shown: BrokerIncarnation? = nil,
        isFresh: Bool = false
    ) -> [Effect] {
        guard let slot = slot(of: broker) else {
            return []
        }
        var effects: [Effect] = []
        var isFresh = isFresh
        if let shown {
            if let known = peers[slot].incarnation, known != shown {
                effects = peers[slot].state == .there ? [.lost(broker)] : []
                effects.append(.reborn(broker))
                peers[slot].state = .silent
                isFresh = true
            }
            peers[slot].incarnation = shown
        }
        if case .cutOff = peers[slot].state, !isFresh {
            return effects
        }
        peers[slot].hasSign = true
        if peers[slot].state != .there {
            peers[slot].state = .there
            effects.append(.back(broker))
        }
        return effects
    }

    private mutating func answer(_ beat: PeerBeat, from broker: BrokerID) -> [Effect] {
        let answer = PeerBeat(sequence: beat.sequence, incarnation: incarnation)
        return sign(of: broker, as: beat.incarnation) + [.answer(answer, to: broker)]
    }

    private mutating func takeAnswer(_ answer: PeerBeat, from broker: BrokerID) -> [Effect] {
        guard let slot = slot(of: broker) else {
            return []
        }
        var isFresh = false
        if case .cutOff(let last) = peers[slot].state {
            isFresh = answer.sequence > last
        }
        return sign(of: broker, as: answer.incarnation, isFresh: isFresh)
    }

    private mutating func cutOff(_ broker: BrokerID) -> [Effect] {
        guard let slot = slot(of: broker) else {
            return []
        }
        let wasThere = peers[slot].state == .there
        peers[slot].state = .cutOff(sequence: sequence)
        peers[slot].hasSign = false
        return wasThere ? [.lost(broker)] : []
    }
}
