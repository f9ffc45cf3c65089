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
    /// Where Kafka clients reach the broker; the first listener.
    package let kafkaAddress: NetworkAddress
    /// The broker's id.
    package let brokerID: Int32

    let running: Running
    private let listeners: [KafkaListener]
    private let census: ConnectionCensus

    private init(
        _ running: Running,
        brokerID: Int32,
        _ listeners: [KafkaListener],
        _ census: ConnectionCensus
    ) {
        self.running = running
        self.brokerID = brokerID
        self.listeners = listeners
        self.census = census
        kafkaAddress = listeners[0].address
    }

    // MARK: Start

    /// The loops that a broker with these settings lives on, to be shared with other servers of the process.
    package static func makeLoops(_ settings: Settings) -> MultiThreadedEventLoopGroup {
        MultiThreadedEventLoopGroup(numberOfThreads: settings.shardCount ?? System.coreCount)
    }

    /// Opens the data directory, recovers what is in it, and serves.
    ///
    /// - Parameters:
    ///   - settings: what the broker was told.
    ///   - group: from `makeLoops(_:)`.
    ///   - metrics: where it publishes its own.
    ///   - descriptorLimit: how many files and sockets the process may open.
    ///   - progress: told what the start waits for.
    ///   - logger: told the same, now and then.
    /// - Returns: a broker that serves.
    /// - Throws: when the directory is in use or cannot be read, when an address cannot be bound, when the metadata
    ///   cannot be led, when the cluster does not take the broker, and when the task is cancelled; nothing then runs on.
    package static func start(
        _ settings: Settings,
        on group: MultiThreadedEventLoopGroup,
        metrics: MetricsRegistry,
        descriptorLimit: Int,
        progress: StartProgress,
        logger: Logger
    ) async throws -> BrokerNode {
        progress.waits(for: ["the data directory is being opened"])
        let data = try await OpenData(settings, group, metrics, progress, logger)
        let running: Running
        do {
            running = try await startShards(settings, data, group, progress, logger)
        } catch {
            data.journal.stop()
            data.pool.stop()
            throw error
        }
        let census = ConnectionCensus(
            maximum: ProcessSetup.connectionLimit(
                asked: settings.maximumConnectionCount,
                descriptorLimit: descriptorLimit
            ),
            maximumPerHost: settings.maximumConnectionCountPerHost
        )
        do {
            let listeners = try await serve(settings, running, group, census, progress)
            let node = BrokerNode(running, brokerID: data.identity.broker, listeners, census)
            node.publishMetrics(metrics)
            return node
        } catch {
            await running.stop(listeners: [])
            throw error
        }
    }

    /// Finds the cluster, and starts the shards over what recovery found.
    private static func startShards(
        _ settings: Settings,
        _ data: OpenData,
        _ group: MultiThreadedEventLoopGroup,
        _ progress: StartProgress,
        _ logger: Logger
    ) async throws -> Running {
        var random = SystemRandomNumberGenerator()
        let cluster = try await ClusterPlace.find(
            settings,
            data.identity,
            metadataEpoch: data.metadataEpoch,
            group: group,
            disk: data.disk,
            random: &random,
            progress: progress,
            logger: logger
        )
        let shardSettings = try shardSettings(
            settings,
            data.identity,
            cluster,
            data.eventLoops.count,
            seed: random.next()
        )
        let clusterID = TopicID(high: random.next(), low: random.next()).description
        var places: [Place] = []
        for (index, eventLoop) in data.eventLoops.enumerated() {
            let facts = StartupFacts(
                replicas: data.replicas.filter {
                    shardSettings.shard(of: $0.key.partition) == index
                },
                unreadable: data.unreadable,
                mayHaveForgotten: data.mayHaveForgotten,
                newClusterID: clusterID,
                registration: cluster.registration
            )
            let linkSeed: UInt64 = random.next()
            let place = try await eventLoop.submit {
                let driver = ShardDriver(
                    index: index,
                    eventLoop: eventLoop,
                    mailboxes: data.mailboxes,
                    journal: data.journal,
                    pool: data.pool,
                    links: cluster.makeLinks(on: eventLoop, shard: index, seed: linkSeed),
                    dataDirectory: shardSettings.dataDirectory,
                    logger: logger
                )
                let shard = Shard(
                    index: index,
                    settings: shardSettings,
                    environment: driver,
                    disk: data.disk
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
        return Running(data: data, places: places, cluster: cluster, logger: logger)
    }

    /// Waits until the broker can serve, and lets clients in.
    private static func serve(
        _ settings: Settings,
        _ running: Running,
        _ group: MultiThreadedEventLoopGroup,
        _ census: ConnectionCensus,
        _ progress: StartProgress
    ) async throws -> [KafkaListener] {
        try await running.waitUntilReady(progress)
        if let known = try await running.knownClusterID() {
            try running.cluster.belongs(to: known)
        }
        try running.data.forgetSyncFailure()
        return try await listen(settings, group, running.places, census)
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
        shard.metadataFounders = cluster.firstMembers
        shard.seeds = cluster.seeds
        shard.connectionInFlightByteLimit = settings.connectionInFlightByteCount
        shard.inFlightByteLimit = max(1 << 20, settings.inFlightByteCount / shardCount)
        shard.answerByteLimit = max(1 << 20, settings.answerByteCount / shardCount)
        shard.tailByteCount = max(1 << 20, settings.tailByteCount / shardCount)
        shard.minimumFreeByteCount = Int64(2 * settings.journalLiveByteCount)
        let share = settings.journalLiveByteCount / 8
        shard.uncommittedHoldByteCount = min(shard.uncommittedHoldByteCount, share)
        return shard
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

    /// What keeps the broker from being ready, in words; empty when it serves.
    package func whatIsMissing() async -> [String] {
        do {
            return try await running.missing()
        } catch {
            return ["the broker is stopping"]
        }
    }

    // MARK: Administration

    /// Has a broker of the cluster give its replicas away, or take replicas again.
    func setDraining(_ broker: Int32, _ isDraining: Bool) async -> Administration.Outcome {
        let place = running.places[0]
        let command = MetadataCommand.setBrokerState(
            BrokerID(broker),
            isDraining ? .draining : .active,
            allowsPartial: false
        )
        return await withCheckedContinuation { continuation in
            place.eventLoop.execute {
                place.shard.value.decide(command) { reply in
                    guard case .refused(let refusal) = reply else {
                        return continuation.resume(returning: .done)
                    }
                    continuation.resume(
                        returning: refusal.code.isRetriable
                            ? .unavailable(refusal.message) : .refused(refusal.message)
                    )
                }
            }
        }
    }

    // MARK: Stop

    /// Serves until the process is asked to stop or the cluster has removed the broker, and then stops cleanly.
    ///
    /// - Throws: `StartError.removed`.
    package func run() async throws {
        let removal: StartError?
        do {
            try await running.whileMember { try? await gracefulShutdown() }
            removal = nil
        } catch {
            // The task was cancelled, or this.
            removal = error as? StartError
        }
        await stop()
        if let removal { throw removal }
    }

    /// Finishes what is under way, brings everything into segments, and leaves the mark of a clean stop.
    package func stop() async {
        await running.stop(listeners: listeners)
    }

    // MARK: Metrics

    private func publishMetrics(_ metrics: MetricsRegistry) {
        let places = running.places
        let census = census
        metrics.addCollector { [weak metrics] in
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
            samples += BrokerSamples.samples(statistics) + GroupSamples.samples(statistics)
            return samples + (await Self.lagSamples(places[0], metrics))
        }
    }
}
