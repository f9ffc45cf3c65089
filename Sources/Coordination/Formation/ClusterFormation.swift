package import FlotillaEnvironment

/// Decides how a broker comes into a cluster: founds one with the others named, joins one, or goes
/// on in its own.
///
/// A cluster forms without a format step when all named seeds answer, are empty and name the same
/// list. From one list at most one cluster is ever founded, whoever crashes or is wiped meanwhile:
///
/// 1. One of the seeds, the one with the lowest id, writes down whom it saw (`agreed`); the others
///    write down the same once they see it. A directory agrees once and for good.
/// 2. The metadata group begins (`founded`) only when every founder has agreed, or has another
///    directory by now, and those that agreed are a majority.
///
/// Two founding lists that share a living founder so cannot both begin. Without the first step a
/// seed that is wiped between two others' decisions would be counted in two different lives, and
/// its second would take part under the name of the first, whose votes it has forgotten.
///
/// - Source: the agreement of seeds is Redpanda's cluster bootstrap (RFC of 2022-10-18); the step
///   before it is ours.
package struct ClusterFormation: Hashable, Sendable {
    /// What happens to the broker.
    package enum Input: Hashable, Sendable {
        /// It starts; the first input, and only that.
        case started
        /// The broker at an asked address gave its card.
        case answered(NetworkAddress, FormationCard)
        /// Nobody answered there, or nobody who could be understood.
        case silent(NetworkAddress, reason: String)
        /// The state of the last `persist` is durable, and in the card that others are given.
        case persisted
    }

    /// What the broker does about it, in order.
    package enum Effect: Hashable, Sendable {
        /// Ask the broker at this address for its card, after a delay; one `answered` or `silent`
        /// follows.
        case ask(NetworkAddress, after: Duration)
        /// Write this down, then give it to whoever asks, then say `persisted`.
        case persist(FormationState)
        /// Go on so; nothing more is expected.
        case finish(Outcome)
    }

    /// How it ends.
    package enum Outcome: Hashable, Sendable {
        /// Begin, or go on with, the metadata group of these founders.
        case found(FoundingList)
        /// Register with this cluster through one of these brokers.
        case join(ClusterInvitation)
        /// Go on as the member that it is.
        case resume(ClusterMembership)
        /// Do not start.
        case refuse(FormationRefusal)
    }

    /// Who is asked, and what was last heard from there.
    struct Seed: Hashable, Sendable {
        let address: NetworkAddress
        /// The last card; nil when the last question had no answer.
        var card: FormationCard?
        /// Why the last question had no answer.
        var silence: String?
        /// Questions without an answer in a row, as far as they count for the delay.
        var silenceCount = 0

        var hasResult: Bool {
            card != nil || silence != nil
        }
    }

    /// Seeds are asked again after this time while they answer.
    package static let pollDelay = Duration.milliseconds(100)
    /// The delay doubles with each silence in a row, this many times at most.
    static let maximumDoublingCount = 4

    /// This broker; its state is the durable one.
    private(set) var own: FormationCard
    /// The seeds in the order of their addresses.
    private(set) var seeds: [Seed]
    /// What is being written.
    private(set) var pending: FormationState?
    /// Set once the broker has begun or refused.
    package private(set) var outcome: Outcome?

    /// Starts from what the directory says.
    ///
    /// - Parameter own: this broker, with the state that the directory holds.
    package init(_ own: FormationCard) {
        self.own = own
        let founding = own.state.founders?.addresses ?? []
        seeds = JoinList(own.join.addresses + founding).addresses.map { Seed(address: $0) }
    }

    /// The durable state.
    package var state: FormationState {
        own.state
    }

    /// The named address at which this broker reached itself; nil when it is none of those named.
    package var ownNamedAddress: NetworkAddress? {
        let founder = own.state.founders?.members.first { own.isCard(of: $0) }
        return founder?.address ?? seeds.first { isOwn($0) }?.address
    }

    /// Takes one input.
    package mutating func step(_ input: Input) -> [Effect] {
        precondition(outcome == nil, "a formation that has ended takes no input")
        var asks: [Effect] = []
        switch input {
        case .started:
            guard seeds.isEmpty || own.peerAddress != nil else {
                return perform(.finish(.refuse(.noPeerListener)))
            }
            asks = seeds.map { .ask($0.address, after: .zero) }
        case .answered(let address, let card):
            asks = note(address) { seed in
                seed.card = card
                seed.silence = nil
                seed.silenceCount = 0
            }
        case .silent(let address, let reason):
            asks = note(address) { seed in
                seed.card = nil
                seed.silence = reason
                seed.silenceCount = min(seed.silenceCount + 1, Self.maximumDoublingCount)
            }
        case .persisted:
            return persisted()
        }
        guard pending == nil else { return asks }
        return perform(decision()) + (outcome == nil ? asks : [])
    }

    private mutating func note(
        _ address: NetworkAddress,
        _ change: (inout Seed) -> Void
    ) -> [Effect] {
        guard let place = seeds.firstIndex(where: { $0.address == address }) else {
            preconditionFailure("only those answer who were asked")
        }
        change(&seeds[place])
        // A broker that goes on in its own cluster asks once; the others until it is decided.
        guard !isGoingOn else { return [] }
        let delay = Self.pollDelay * (1 << seeds[place].silenceCount)
        return [.ask(address, after: delay)]
    }

    private mutating func persisted() -> [Effect] {
        guard let pending else { preconditionFailure("only what was to be written is durable") }
        own.state = pending
        self.pending = nil
        // Who came this far just now has asked everybody already.
        if case .founded(let list) = pending { return perform(.finish(.found(list))) }
        return perform(decision())
    }

    /// What follows from all that is known.
    enum Decision: Hashable {
        case wait
        case become(FormationState)
        case finish(Outcome)
    }

    private mutating func perform(_ decision: Decision) -> [Effect] {
        switch decision {
        case .wait:
            return []
        case .become(let state):
            pending = state
            return [.persist(state)]
        case .finish(let outcome):
            self.outcome = outcome
            return [.finish(outcome)]
        }
    }

    /// Whether the directory needs nobody to go on.
    var isGoingOn: Bool {
        switch state {
        case .founded, .member: true
        case .empty, .agreed, .joining: false
        }
    }

    /// Whether the seed is this very process.
    func isOwn(_ seed: Seed) -> Bool {
        guard let card = seed.card else { return false }
        return card.isSameBroker(as: own) && card.run == own.run
    }
}

/// A cluster that takes new brokers, and who lets them in.
package struct ClusterInvitation: Hashable, Sendable {
    /// The cluster.
    package var clusterID: String
    /// Who founded it.
    package var founders: FoundingList
    /// Members that answered, at the addresses at which they did; at least one.
    package var through: [PeerAddress]
}
