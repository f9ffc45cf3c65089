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
    /// The address that other brokers are told; nil for a broker by itself.
    let peerAddress: NetworkAddress?
    private let board: FormationBoard
    private let listener: PeerListener?
    private let receivers: PeerReceivers
    private let identity: BrokerIdentity
    private let logger: Logger

    private init(
        metadataMember: GroupMember,
        founders: FoundingList,
        peerAddress: NetworkAddress?,
        board: FormationBoard,
        listener: PeerListener?,
        receivers: PeerReceivers,
        identity: BrokerIdentity,
        logger: Logger
    ) {
        self.metadataMember = metadataMember
        self.founders = founders
        self.peerAddress = peerAddress
        self.board = board
        self.listener = listener
        self.receivers = receivers
        self.identity = identity
        self.logger = logger
    }

    /// Whether other brokers can belong to the cluster.
    var isClustered: Bool { listener != nil }

    // MARK: Finding it

    /// Opens the peer listener, and finds or founds the cluster that the broker belongs to; takes as long as the seeds that
    /// it needs are missing.
    ///
    /// `metadataEpoch`: the newest creation of a metadata replica that recovery found; nil for none. `random` draws the
    /// number of this process's run. Throws a `FormationRefusal`, a `StartError`, or why the listener cannot be bound.
    static func find(
        _ settings: Settings,
        _ identity: BrokerIdentity,
        metadataEpoch: CreationEpoch?,
        group: MultiThreadedEventLoopGroup,
        disk: any Disk,
        random: inout SystemRandomNumberGenerator,
        logger: Logger
    ) async throws -> ClusterPlace {
        let broker = BrokerID(identity.broker)
        let incarnation = identity.parsedIncarnation ?? BrokerIncarnation(high: 0, low: 0)
        let state = try ClusterIdentity.read(
            in: settings.dataDirectory,
            broker: broker,
            incarnation: incarnation,
            metadataEpoch: metadataEpoch,
            disk: disk
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
        let run = FormationRun(board: board, logger: logger) { address, body in
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
            let (member, founders) = try place(broker, result)
            return ClusterPlace(
                metadataMember: member,
                founders: founders,
                peerAddress: settings.advertisedPeerAddress ?? namedAddress ?? listener?.address,
                board: board,
                listener: listener,
                receivers: receivers,
                identity: identity,
                logger: logger
            )
        } catch {
            try await listener?.stop()
            throw error
        }
    }

    /// How long a seed may take to answer.
    private static let probeTimeout = Duration.seconds(1)

    private static func place(
        _ broker: BrokerID,
        _ result: FormationRun.Result
    ) throws -> (GroupMember, FoundingList) {
        switch result {
        case .found(let founders):
            return (GroupMember(broker: broker, epoch: founders.epoch), founders)
        case .resume(let membership):
            return (GroupMember(broker: broker, epoch: membership.epoch), membership.founders)
        case .join(let invitation):
            throw StartError.cannotJoin(clusterID: invitation.clusterID)
        }
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
            receiver: { receivers.receiver(on: $0) }
        )
    }

    private static func verdict(
        on hello: PeerHello,
        _ board: FormationBoard,
        _ receivers: PeerReceivers
    ) -> PeerHelloAnswer.Verdict {
        guard hello.purpose == .link else { return .accepted }
        let refusal = board.refusal(
            ofLinkFrom: hello.broker,
            incarnation: hello.incarnation,
            clusterID: hello.clusterID
        )
        if let refusal { return .refused(refusal) }
        return receivers.isOpen ? .accepted : .refused("this broker is still starting; dial again")
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
private final class PeerReceivers: Sendable {
    // Guards a table that is filled once, and read when a connection comes.
    private let shards = Mutex<[(eventLoop: any EventLoop, shard: NIOLoopBound<Shard>)]>([])

    var isOpen: Bool { shards.withLock { !$0.isEmpty } }

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

    func send(_ parts: [ByteBuffer], to broker: BrokerID, on lane: PeerLane) -> Bool { false }

    func flush() {}

    func isUp(_ broker: BrokerID, _ lane: PeerLane) -> Bool { false }

    func queuedByteCount(_ broker: BrokerID, _ lane: PeerLane) -> Int { 0 }
}
