import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import Logging
import NIOCore
import NIOPosix
import Synchronization

/// Where a broker belongs, and how it is reached there: its cluster, its member of the metadata group, its peer listener.
///
/// Made before the shards: a broker that does not know its cluster has no metadata to open.
final class ClusterPlace: Sendable {
    /// This broker's replica of the metadata log.
    let metadataMember: GroupMember
    /// The first members of the metadata's group.
    let founders: FoundingList
    /// What the cluster is told of this broker.
    let registration: BrokerRegistration
    /// Brokers of the cluster that answered when this one joined.
    private let invited: [PeerAddress]
    private let board: FormationBoard
    private let listener: PeerListener?
    private let receivers: PeerReceivers
    private let identity: BrokerIdentity
    private let ask: Admission.Ask
    private let logger: Logger

    private init(
        metadataMember: GroupMember,
        founders: FoundingList,
        invited: [PeerAddress],
        registration: BrokerRegistration,
        board: FormationBoard,
        listener: PeerListener?,
        receivers: PeerReceivers,
        identity: BrokerIdentity,
        ask: @escaping Admission.Ask,
        logger: Logger
    ) {
        self.metadataMember = metadataMember
        self.founders = founders
        self.invited = invited
        self.registration = registration
        self.board = board
        self.listener = listener
        self.receivers = receivers
        self.identity = identity
        self.ask = ask
        self.logger = logger
    }

    /// The members with which this broker's metadata replica begins: all founders where it is one of them, in this
    /// life; none for a broker that came later, which learns of them from the leader.
    var firstMembers: [ClusterFounder] {
        let list = founders
        guard list.groupMembers.contains(metadataMember) else { return [] }
        return list.members.map { founder in
            ClusterFounder(
                member: GroupMember(broker: founder.broker, epoch: list.epoch),
                incarnation: founder.incarnation
            )
        }
    }

    /// Where other brokers are, until the metadata says so.
    var seeds: [PeerAddress] {
        let founders = founders.members.compactMap { founder in
            founder.address.map { PeerAddress(broker: founder.broker, address: $0) }
        }
        return founders.filter { founder in !invited.contains { $0.broker == founder.broker } }
            + invited
    }

    /// Whether other brokers can belong to the cluster.
    var isClustered: Bool { listener != nil }

    // MARK: Finding it

    /// Opens the peer listener, and finds or founds the cluster that the broker belongs to; takes as long as the seeds that
    /// it needs are missing.
    ///
    /// `metadataEpoch`: the newest creation of a metadata replica that recovery found; nil for none. `random` draws the
    /// number of this process's run. `progress` is told who is missing. Throws a `FormationRefusal`, a `StartError`, or why the listener cannot be bound.
    static func find(
        _ settings: Settings,
        _ identity: BrokerIdentity,
        metadataEpoch: CreationEpoch?,
        group: MultiThreadedEventLoopGroup,
        disk: any Disk,
        random: inout SystemRandomNumberGenerator,
        progress: StartProgress,
        logger: Logger
    ) async throws -> ClusterPlace {
        let broker = BrokerID(identity.broker)
        let incarnation = identity.parsedIncarnation ?? BrokerIncarnation(high: 0, low: 0)
        let state = try identity.clusterState(
            in: settings.dataDirectory,
            disk,
            metadataEpoch: metadataEpoch
        )
        let board = try FormationBoard(
            FormationCard(
                broker: broker,
                incarnation: incarnation,
                run: random.next(),
                peerAddress: settings.advertisedPeerAddress ?? settings.peerAddress,
                kafkaAddresses: settings.kafkaAddresses,
                rack: settings.rack,
                join: settings.joinList,
                state: state
            ),
            directory: settings.dataDirectory,
            disk: disk
        )
        let receivers = PeerReceivers()
        let listener = try await listen(settings, identity, board, receivers, group, logger)
        let run = FormationRun(board: board, progress: progress, logger: logger) { address, body in
            let hello = PeerHello(
                purpose: .question,
                broker: broker,
                incarnation: incarnation,
                clusterID: board.clusterID,
                body: body
            )
            return try await PeerProbe.ask(address, hello, timeout: probeTimeout, on: group).body
        }
        do {
            let (result, namedAddress) = try await run.perform()
            let reached = listener.map { SeedAddresses.advertised(bound: $0.address) }
            let registration = try registration(
                identity,
                settings,
                settings.advertisedPeerAddress ?? namedAddress ?? reached
            )
            let ask: Admission.Ask = { try await petition($0, $1, registration, board, on: group) }
            if case .join(let invitation) = result {
                let admission = Admission(
                    registration,
                    progress: progress,
                    logger: logger,
                    ask: ask
                )
                try await join(invitation, admission, board, logger)
            }
            let (membership, invited) = place(result, board)
            return ClusterPlace(
                metadataMember: GroupMember(broker: broker, epoch: membership.epoch),
                founders: membership.founders,
                invited: invited,
                registration: registration,
                board: board,
                listener: listener,
                receivers: receivers,
                identity: identity,
                ask: ask,
                logger: logger
            )
        } catch {
            try await listener?.stop()
            throw error
        }
    }

    /// How long a seed may take to answer.
    private static let probeTimeout = Duration.seconds(1)

    /// This broker's replica of the metadata log and the founders, and brokers that are known besides them.
    private static func place(
        _ result: FormationRun.Result,
        _ board: FormationBoard
    ) -> ((epoch: CreationEpoch, founders: FoundingList), invited: [PeerAddress]) {
        switch result {
        case .found(let founders):
            return ((founders.epoch, founders), [])
        case .resume(let membership):
            return ((membership.epoch, membership.founders), [])
        case .join(let invitation):
            guard case .member(let membership) = board.card.state else {
                preconditionFailure("who was let in is a member")
            }
            return ((membership.epoch, membership.founders), invitation.through)
        }
    }

    /// Where clients and brokers find this one, for the cluster to tell.
    private static func registration(
        _ identity: BrokerIdentity,
        _ settings: Settings,
        _ peer: NetworkAddress?
    ) throws -> BrokerRegistration {
        var kafka = settings.advertisedAddress ?? settings.kafkaAddresses[0]
        var endpoints: [BrokerEndpoint] = []
        if let peer {
            guard kafka.port != 0, peer.port != 0 else { throw StartError.noFixedPort }
            // Who listens on every address is found where its peers find it.
            if ["", "0.0.0.0", "::"].contains(kafka.host) { kafka.host = peer.host }
            endpoints.append(BrokerEndpoint(BrokerEndpoint.peerListener, peer))
        }
        endpoints.insert(BrokerEndpoint("PLAINTEXT", kafka), at: 0)
        return BrokerRegistration(
            id: BrokerID(identity.broker),
            incarnation: identity.parsedIncarnation ?? BrokerIncarnation(high: 0, low: 0),
            endpoints: endpoints,
            rack: settings.rack
        )
    }

    // MARK: Links

    private static func listen(
        _ settings: Settings,
        _ identity: BrokerIdentity,
        _ board: FormationBoard,
        _ receivers: PeerReceivers,
        _ group: MultiThreadedEventLoopGroup,
        _ logger: Logger
    ) async throws -> PeerListener? {
        guard let address = settings.peerAddress else { return nil }
        let broker = BrokerID(identity.broker)
        let incarnation = identity.parsedIncarnation ?? BrokerIncarnation(high: 0, low: 0)
        return try await PeerListener.bind(
            to: address,
            group: group,
            settings: PeerSettings(),
            broker: broker,
            incarnation: incarnation,
            logger: logger,
            policy: { hello in
                PeerHelloAnswer(
                    verdict(on: hello, board, receivers),
                    broker: broker,
                    incarnation: incarnation,
                    clusterID: board.clusterID,
                    body: board.body
                )
            },
            petition: { hello, eventLoop in
                let answer = PeerHelloAnswer(
                    .accepted,
                    broker: broker,
                    incarnation: incarnation,
                    clusterID: board.clusterID
                )
                return decide(hello, answer, receivers, on: eventLoop)
            },
            receiver: { receivers.receiver(on: $0) }
        )
    }

    private static func verdict(
        on hello: PeerHello,
        _ board: FormationBoard,
        _ receivers: PeerReceivers
    ) -> PeerHelloAnswer.Verdict {
        guard hello.purpose != .question else { return .accepted }
        let refusal = board.refusal(
            ofLinkFrom: hello.broker,
            incarnation: hello.incarnation,
            clusterID: hello.clusterID
        )
        if let refusal { return .refused(refusal) }
        return receivers.isOpen ? .accepted : .notYet("it is still starting")
    }

    /// A shard's connections to the other brokers; called on its loop.
    func makeLinks(on eventLoop: any EventLoop, shard: Int, seed: UInt64) -> ShardPeerLinks? {
        guard isClustered else { return nil }
        let board = board
        let broker = BrokerID(identity.broker)
        let incarnation = identity.parsedIncarnation ?? BrokerIncarnation(high: 0, low: 0)
        return ShardPeerLinks(
            eventLoop: eventLoop,
            settings: PeerSettings(),
            seed: seed,
            logger: logger
        ) { lane in
            PeerHello(
                lane: lane,
                broker: broker,
                incarnation: incarnation,
                clusterID: board.clusterID,
                shard: UInt32(shard)
            )
        }
    }

    /// Lets other brokers' links reach the shards.
    func open(_ shards: [(eventLoop: any EventLoop, shard: NIOLoopBound<Shard>)]) {
        receivers.open(shards)
    }

    /// Takes down the cluster's id, once the metadata says it: from then on this directory belongs there.
    func belongs(to clusterID: String) throws {
        try board.establish(
            .member(
                ClusterMembership(
                    clusterID: clusterID,
                    epoch: metadataMember.epoch,
                    founders: founders
                )
            )
        )
    }

    /// What notices that the cluster has removed this broker; `home` is shard 0.
    func removalWatch(_ home: Place) -> RemovalWatch {
        RemovalWatch(
            metadataMember,
            home: home,
            // Before that, its seeds may be brokers of another cluster.
            belongs: { [board] in !board.clusterID.isEmpty },
            logger: logger,
            ask: ask
        )
    }

    /// Stops taking links.
    func stop() async {
        do {
            try await listener?.stop()
        } catch {
            logger.warning("peer listener did not close", metadata: .of([.error: "\(error)"]))
        }
    }
}

/// The shards as the peer listener finds them; there are none before the broker knows its cluster.
final class PeerReceivers: Sendable {
    // Guards a table that is filled once, and read when a connection comes.
    private let shards = Mutex<[(eventLoop: any EventLoop, shard: NIOLoopBound<Shard>)]>([])

    var isOpen: Bool { shards.withLock { !$0.isEmpty } }

    /// The shard that holds the metadata.
    var first: (eventLoop: any EventLoop, shard: NIOLoopBound<Shard>)? {
        shards.withLock { $0.first }
    }

    func open(_ all: [(eventLoop: any EventLoop, shard: NIOLoopBound<Shard>)]) {
        shards.withLock { $0 = all }
    }

    func receiver(on eventLoop: any EventLoop) -> any PeerReceiver {
        guard
            let place = shards.withLock({ all in all.first { $0.eventLoop === eventLoop } })
        else {
            preconditionFailure("links are refused before the shards are there")
        }
        return place.shard.value
    }
}

/// The connections of a broker by itself: none.
final class NoPeerLinks: PeerLinks {
    func setPeers(_ peers: [PeerAddress]) {}

    func dialNow(_ broker: BrokerID) {}

    func send(_ parts: [ByteBuffer], to broker: BrokerID, on lane: PeerLane) -> Bool { false }

    func flush() {}

    func isUp(_ broker: BrokerID, _ lane: PeerLane) -> Bool { false }

    func queuedByteCount(_ broker: BrokerID, _ lane: PeerLane) -> Int { 0 }
}
