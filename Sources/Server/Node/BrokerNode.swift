import FlotillaBroker
import FlotillaCoordination
package import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaStorage
package import Logging
import NIOCore
package import NIOPosix
import ServiceLifecycle

/// A broker in this process: its data directory, its threads and its listeners, from start to clean stop.
package final class BrokerNode: Service {
    /// One shard and the loop it lives on.
    private struct Place: Sendable {
        var eventLoop: any EventLoop
        var shard: NIOLoopBound<Shard>
        var driver: NIOLoopBound<ShardDriver>
    }

    /// Where Kafka clients reach the broker; the first listener.
    package let kafkaAddress: NetworkAddress
    /// The broker's id.
    package let brokerID: Int32
    /// The loops, for other servers of the process.
    package let group: MultiThreadedEventLoopGroup

    private let settings: Settings
    private let lock: DataDirectoryLock
    private let places: [Place]
    private let cluster: ClusterPlace
    private let listeners: [KafkaListener]
    private let journal: JournalThread<JournalService>
    private let pool: WorkerPool
    private let census: ConnectionCensus
    private let logger: Logger

    private init(
        settings: Settings,
        lock: DataDirectoryLock,
        brokerID: Int32,
        group: MultiThreadedEventLoopGroup,
        places: [Place],
        cluster: ClusterPlace,
        listeners: [KafkaListener],
        journal: JournalThread<JournalService>,
        pool: WorkerPool,
        census: ConnectionCensus,
        logger: Logger
    ) {
        self.settings = settings
        self.lock = lock
        self.brokerID = brokerID
        self.group = group
        self.places = places
        self.cluster = cluster
        self.listeners = listeners
        self.journal = journal
        self.pool = pool
        self.census = census
        self.logger = logger
        kafkaAddress = listeners[0].address
    }

    // MARK: Start

    /// Opens the data directory, recovers what is in it, and serves.
    ///
    /// - Throws: when the directory is in use or cannot be read, when an address cannot be bound, or when the metadata
    ///   cannot be led; nothing then runs on.
    package static func start(
        _ settings: Settings,
        metrics: MetricsRegistry,
        descriptorLimit: Int,
        logger: Logger
    ) async throws -> BrokerNode {
        let disk = PosixDisk()
        let lock = try DataDirectoryLock(directory: settings.dataDirectory)
        var random = SystemRandomNumberGenerator()
        let identity = try BrokerIdentity.establish(
            in: settings.dataDirectory,
            wanted: settings.nodeID,
            disk: disk,
            random: &random
        )
        let shardCount = settings.shardCount ?? System.coreCount
        let group = MultiThreadedEventLoopGroup(numberOfThreads: shardCount)
        let eventLoops = Array(group.makeIterator())
        let mailboxes = eventLoops.map { ShardMailbox<ShardMessage>(eventLoop: $0) }
        let hasSyncFailed = try SyncFailureMark.isSet(in: settings.dataDirectory, disk: disk)
        let (journal, recovery) = try await openJournal(
            settings,
            disk,
            pastPageCache: hasSyncFailed,
            mailboxes,
            metrics,
            logger
        )
        report(recovery, logger)
        let pool = WorkerPool(
            threadCount: settings.workerCount
                ?? ProcessSetup.workerCount(coreCount: System.coreCount)
        )
        let recovered = try await ReplicaRecovery(
            dataDirectory: settings.dataDirectory,
            disk: disk,
            journal: recovery,
            verification: hasSyncFailed ? .pastPageCache : .sinceCheckpoint
        ).perform(threadCount: System.coreCount)
        for failure in recovered.failures {
            logger.error(
                "replica cannot be opened; it is left as it is",
                metadata: .of([.group: failure.group, .error: failure.error.description])
            )
        }
        for (group, replica) in recovered.replicas.sorted(by: { $0.key < $1.key })
        where !replica.isElectable {
            logger.error(
                "replica may lack what it acknowledged; it neither votes nor leads until a peer has matched it",
                metadata: .of([.group: group])
            )
        }
        let unreadable = recovered.failures.first { $0.group.partition == .clusterMetadata }
        if let unreadable {
            // Without it the directory would pass for an empty one, and found a cluster.
            throw StartError.metadataUnusable(
                unreadable.error.description,
                isAlone: settings.peerAddress == nil
            )
        }
        let cluster = try await ClusterPlace.find(
            settings,
            identity,
            metadataEpoch: recovered.replicas.keys.filter { $0.partition == .clusterMetadata }.map(
                \.epoch
            ).max(),
            group: group,
            disk: disk,
            random: &random,
            logger: logger
        )
        let shardSettings = try shardSettings(
            settings,
            identity,
            cluster,
            shardCount,
            seed: random.next()
        )
        let registration = try registration(identity, settings, cluster)
        let clusterID = TopicID(high: random.next(), low: random.next()).description
        var places: [Place] = []
        for (index, eventLoop) in eventLoops.enumerated() {
            let facts = StartupFacts(
                replicas: recovered.replicas.filter {
                    shardSettings.shard(of: $0.key.partition) == index
                },
                unreadable: Set(recovered.failures.map(\.group)),
                newClusterID: clusterID,
                registration: registration
            )
            let linkSeed: UInt64 = random.next()
            let place = try await eventLoop.submit {
                let driver = ShardDriver(
                    index: index,
                    eventLoop: eventLoop,
                    mailboxes: mailboxes,
                    journal: journal,
                    pool: pool,
                    links: cluster.makeLinks(on: eventLoop, shard: index, seed: linkSeed),
                    dataDirectory: shardSettings.dataDirectory,
                    logger: logger
                )
                let shard = Shard(
                    index: index,
                    settings: shardSettings,
                    environment: driver,
                    disk: disk
                )
                driver.start(shard, facts, eventLoop: eventLoop)
                return Place(
                    eventLoop: eventLoop,
                    shard: NIOLoopBound(shard, eventLoop: eventLoop),
                    driver: NIOLoopBound(driver, eventLoop: eventLoop)
                )
            }.get()
            places.append(place)
        }
        cluster.open(places.map { ($0.eventLoop, $0.shard) })
        try await waitUntilReady(places, isPatient: cluster.isClustered, logger)
        if let known = try await knownClusterID(places) { try cluster.belongs(to: known) }
        if hasSyncFailed { try SyncFailureMark.clear(in: settings.dataDirectory, disk: disk) }
        let census = ConnectionCensus(
            maximum: ProcessSetup.connectionLimit(
                asked: settings.maximumConnectionCount,
                descriptorLimit: descriptorLimit
            ),
            maximumPerHost: settings.maximumConnectionCountPerHost
        )
        let listeners = try await listen(settings, group, places, census)
        let node = BrokerNode(
            settings: settings,
            lock: lock,
            brokerID: identity.broker,
            group: group,
            places: places,
            cluster: cluster,
            listeners: listeners,
            journal: journal,
            pool: pool,
            census: census,
            logger: logger
        )
        node.publishMetrics(metrics)
        return node
    }

    private static func openJournal(
        _ settings: Settings,
        _ disk: any Disk,
        pastPageCache: Bool,
        _ mailboxes: [ShardMailbox<ShardMessage>],
        _ metrics: MetricsRegistry,
        _ logger: Logger
    ) async throws -> (JournalThread<JournalService>, JournalRecovery) {
        let configuration = JournalConfiguration(
            fileByteCount: settings.journalFileByteCount,
            liveByteLimit: settings.journalLiveByteCount
        )
        let instruments = JournalInstruments(metrics)
        let (outcome, continuation) = AsyncThrowingStream<JournalRecovery, any Error>.makeStream()
        let journal = JournalThread<JournalService>(
            makeRounds: {
                var random = SystemRandomNumberGenerator()
                let (journal, recovery) = try Journal.open(
                    JournalDirectories(
                        journal: settings.journalDirectory,
                        data: settings.dataDirectory
                    ),
                    disk: disk,
                    configuration: configuration,
                    newIdentity: { DirectoryID(high: random.next(), low: random.next()) },
                    pastPageCache: pastPageCache
                )
                continuation.yield(recovery)
                return JournalService(
                    journal: journal,
                    mailboxes: mailboxes,
                    instruments: instruments,
                    clock: SystemClock(),
                    logger: logger
                )
            },
            failed: { error in
                // Before the start is complete the error is the start's; afterwards nobody knows what the disk holds.
                guard case .terminated = continuation.yield(with: .failure(error)) else { return }
                SyncFailureMark.endProcess(error, in: settings.dataDirectory, logger: logger)
            }
        )
        for try await recovery in outcome {
            continuation.finish()
            return (journal, recovery)
        }
        throw StartError.notReady("the journal was not opened")
    }

    private static func report(_ recovery: JournalRecovery, _ logger: Logger) {
        if let tail = recovery.tornTail {
            logger.warning(
                "journal's unfinished last round was cut",
                metadata: .of([.reason: "\(tail)"])
            )
        }
        for damage in recovery.damage {
            logger.error("journal is damaged", metadata: .of([.error: "\(damage)"]))
        }
    }

    private static func shardSettings(
        _ settings: Settings,
        _ identity: BrokerIdentity,
        _ cluster: ClusterPlace,
        _ shardCount: Int,
        seed: UInt64
    ) throws -> ShardSettings {
        let broker = BrokerID(identity.broker)
        var shard = ShardSettings(
            broker: broker,
            shardCount: shardCount,
            dataDirectory: settings.dataDirectory,
            layers: try settings.layers(nodeID: broker, listeners: settings.kafkaAddresses),
            seed: seed
        )
        shard.advertised = settings.advertisedAddress.map { .fixed($0) } ?? .asReached
        shard.rack = settings.rack
        shard.incarnation = identity.parsedIncarnation ?? BrokerIncarnation(high: 0, low: 0)
        shard.isClustered = cluster.isClustered
        shard.metadataMember = cluster.metadataMember
        shard.metadataFounders = cluster.founders.members.map { founder in
            ClusterFounder(
                member: GroupMember(broker: founder.broker, epoch: cluster.founders.epoch),
                incarnation: founder.incarnation
            )
        }
        shard.seeds = cluster.founders.members.compactMap { founder in
            founder.address.map { PeerAddress(broker: founder.broker, address: $0) }
        }
        shard.connectionInFlightByteLimit = settings.connectionInFlightByteCount
        shard.inFlightByteLimit = max(1 << 20, settings.inFlightByteCount / shardCount)
        shard.answerByteLimit = max(1 << 20, settings.answerByteCount / shardCount)
        shard.tailByteCount = max(1 << 20, settings.tailByteCount / shardCount)
        shard.minimumFreeByteCount = Int64(2 * settings.journalLiveByteCount)
        return shard
    }

    /// Where clients and brokers find this one, for the cluster to tell.
    private static func registration(
        _ identity: BrokerIdentity,
        _ settings: Settings,
        _ cluster: ClusterPlace
    ) throws -> BrokerRegistration {
        var kafka = settings.advertisedAddress ?? settings.kafkaAddresses[0]
        var endpoints: [BrokerEndpoint] = []
        if let peer = cluster.peerAddress {
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

    private static func listen(
        _ settings: Settings,
        _ group: MultiThreadedEventLoopGroup,
        _ places: [Place],
        _ census: ConnectionCensus
    ) async throws -> [KafkaListener] {
        var listeners: [KafkaListener] = []
        for address in settings.kafkaAddresses {
            listeners.append(
                try await KafkaListener.bind(
                    to: address,
                    group: group,
                    limits: settings.connectionLimits,
                    census: census
                ) { eventLoop, sink in
                    guard let place = places.first(where: { $0.eventLoop === eventLoop }) else {
                        preconditionFailure("a connection lives on one of the broker's loops")
                    }
                    return Connection(shard: place.shard.value, sink: sink)
                }
            )
        }
        return listeners
    }

    // MARK: Readiness

    /// How long a start may take until every partition of the metadata is led.
    private static let readyTimeout = Duration.seconds(10)

    /// Waits until every partition is led.
    ///
    /// `isPatient`: whether other brokers may be what is missing; then the wait has no end but a line in the log now and then.
    private static func waitUntilReady(_ places: [Place], isPatient: Bool, _ logger: Logger)
        async throws
    {
        let clock = ContinuousClock()
        var deadline = clock.now + readyTimeout
        while true {
            let missing = try await missing(places)
            if missing.isEmpty { return }
            if let obstacle = try await metadataObstacle(places) {
                throw StartError.metadataUnusable(obstacle, isAlone: !isPatient)
            }
            let isLate = clock.now >= deadline
            // A damaged replica keeps its partition from being led, and must not keep the others from serving.
            if isLate, try await isMetadataKnown(places) {
                logger.warning(
                    "serving, but not everything",
                    metadata: .of([.reason: missing.joined(separator: "; ")])
                )
                return
            }
            if isLate, !isPatient { throw StartError.notReady(missing.joined(separator: "; ")) }
            if isLate {
                logger.info(
                    "waiting for the cluster",
                    metadata: .of([.reason: missing.joined(separator: "; ")])
                )
                deadline = clock.now + readyTimeout
            }
            try await Task.sleep(for: .milliseconds(1))
        }
    }

    private static func knownClusterID(_ places: [Place]) async throws -> String? {
        try await places[0].eventLoop.submit { places[0].shard.value.clusterID }.get()
    }

    private static func metadataObstacle(_ places: [Place]) async throws -> String? {
        try await places[0].eventLoop.submit { places[0].shard.value.metadataObstacle }.get()
    }

    private static func missing(_ places: [Place]) async throws -> [String] {
        var missing: [String] = []
        for place in places {
            if let reason = try await place.eventLoop.submit({ place.shard.value.whatIsMissing })
                .get()
            {
                missing.append(reason)
            }
        }
        return missing
    }

    private static func isMetadataKnown(_ places: [Place]) async throws -> Bool {
        for place in places {
            guard try await place.eventLoop.submit({ place.shard.value.knowsMetadata }).get() else {
                return false
            }
        }
        return true
    }

    /// What keeps the broker from being ready, in words; empty when it serves.
    package func whatIsMissing() async -> [String] {
        do {
            return try await Self.missing(places)
        } catch {
            return ["the broker is stopping"]
        }
    }

    // MARK: Stop

    /// Serves until the process is asked to stop, and then stops cleanly.
    package func run() async throws {
        try? await gracefulShutdown()
        await stop()
    }

    /// How long requests under way may take when the broker stops.
    private static let drainTimeout = Duration.seconds(5)

    /// How long it may take to hand leadership to other brokers when this one stops.
    private static let handOverTimeout = Duration.seconds(3)

    /// Finishes what is under way, brings everything into segments, and leaves the mark of a clean stop.
    package func stop() async {
        logger.info("stopping")
        for listener in listeners {
            do {
                try await listener.stopAccepting()
            } catch {
                logger.warning("listener did not close", metadata: .of([.error: "\(error)"]))
            }
        }
        await eachShard { shard, done in
            shard.handOver(atMost: Self.handOverTimeout, then: done)
        }
        // Clients go on sending: reading stops first, or nothing would ever be drained.
        async let drained: Void = eachShard { shard, done in
            shard.drain(atMost: Self.drainTimeout, then: done)
        }
        for listener in listeners { await listener.closeConnections(.shutdown) }
        await drained
        await eachShard { shard, done in shard.checkpoint(then: done) }
        for place in places {
            try? await place.eventLoop.flatSubmit {
                place.driver.value.stopLinks() ?? place.eventLoop.makeSucceededVoidFuture()
            }.get()
        }
        await cluster.stop()
        journal.stop()
        pool.stop()
        logger.info("stopped")
    }

    private func eachShard(_ work: @escaping @Sendable (Shard, @escaping () -> Void) -> Void) async
    {
        await withTaskGroup(of: Void.self) { tasks in
            for place in places {
                tasks.addTask {
                    await withCheckedContinuation { continuation in
                        place.eventLoop.execute {
                            work(place.shard.value) { continuation.resume() }
                        }
                    }
                }
            }
        }
    }

    // MARK: Metrics

    private func publishMetrics(_ metrics: MetricsRegistry) {
        let places = places
        let census = census
        metrics.addCollector {
            var samples: [MetricSample] = [
                MetricSample(
                    "flotilla_connections",
                    .gauge,
                    "Open connections.",
                    Double(census.openCount)
                ),
                MetricSample(
                    "flotilla_connections_refused_total",
                    .counter,
                    "Connections refused at a limit.",
                    Double(census.refusedCount)
                ),
            ]
            var statistics = ShardStatistics()
            for place in places {
                if let part = try? await place.eventLoop.submit({ place.shard.value.statistics })
                    .get()
                {
                    statistics.add(part)
                }
            }
            samples += BrokerSamples.samples(statistics)
            return samples
        }
    }
}
