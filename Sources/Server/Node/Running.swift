import FlotillaBroker
import FlotillaEnvironment
import FlotillaModel
import Logging
import NIOCore

/// One shard and the loop it lives on.
struct Place: Sendable {
    var eventLoop: any EventLoop
    var shard: NIOLoopBound<Shard>
    var driver: NIOLoopBound<ShardDriver>
}

/// The shards of a broker over its data, whether it serves clients already or not.
struct Running: Sendable {
    let data: OpenData
    let places: [Place]
    let cluster: ClusterPlace
    let logger: Logger

    // MARK: Readiness

    /// How long a start may take until every partition of the metadata is led.
    private static let readyTimeout = Duration.seconds(10)
    /// For so long the shards are asked again at once, then now and then.
    private static let impatience = Duration.milliseconds(200)

    /// Waits until every partition is led.
    ///
    /// In a cluster other brokers may be what is missing: then the wait has no end but a line in the log now and then.
    ///
    /// - Parameter progress: told what is missing.
    /// - Throws: `StartError.notReady` for a broker by itself, and `CancellationError`.
    func waitUntilReady(_ progress: StartProgress) async throws {
        try await whileMember { try await waitForPartitions(progress) }
    }

    /// Works as long as the broker belongs to its cluster.
    ///
    /// - Throws: what `work` throws, and `StartError.removed` when the cluster has removed the broker.
    func whileMember(_ work: @escaping @Sendable () async throws -> Void) async throws {
        guard cluster.isClustered else { return try await work() }
        let watch = cluster.removalWatch(places[0])
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await work() }
            tasks.addTask { try await watch.run() }
            defer { tasks.cancelAll() }
            try await tasks.next()
        }
    }

    private func waitForPartitions(_ progress: StartProgress) async throws {
        let clock = ContinuousClock()
        let begin = clock.now
        var report = WaitReport()
        while true {
            var missing = try await missing()
            // What it knew when it stopped may name it, and the cluster has removed it since.
            if missing.isEmpty, try await !confirmsMetadata() {
                missing = ["no leader of the cluster's metadata has answered yet"]
            } else if missing.isEmpty {
                missing = try await self.missing()
            }
            if missing.isEmpty { return }
            if let obstacle = try await metadataObstacle() {
                throw StartError.metadataUnusable(obstacle, isAlone: !cluster.isClustered)
            }
            progress.waits(for: missing)
            let now = clock.now
            let isLate = now - begin >= Self.readyTimeout
            // A damaged replica keeps its partition from being led, and must not keep the others from serving.
            if isLate, try await isMetadataKnown() {
                logger.warning(
                    "serving, but not everything",
                    metadata: .of([.reason: missing.joined(separator: "; ")])
                )
                return
            }
            if cluster.isClustered {
                if let sentence = report.due(missing, at: now) {
                    logger.info("waiting for the cluster", metadata: .of([.reason: sentence]))
                }
            } else if isLate {
                throw StartError.notReady(missing.joined(separator: "; "))
            }
            try await Task.sleep(for: .milliseconds(now - begin < Self.impatience ? 1 : 20))
        }
    }

    /// The cluster's id; nil while the metadata is not known.
    func knownClusterID() async throws -> String? {
        try await places[0].eventLoop.submit { places[0].shard.value.clusterID }.get()
    }

    /// How long a start waits for a leader's word at a time.
    private static let confirmationTimeout = Duration.milliseconds(500)

    /// Whether what is known of the cluster is what holds now; a broker by itself knows all there is.
    private func confirmsMetadata() async throws -> Bool {
        guard cluster.isClustered else { return true }
        let loop = places[0].eventLoop
        return try await loop.flatSubmit {
            let isConfirmed = loop.makePromise(of: Bool.self)
            places[0].shard.value.confirmMetadata(within: Self.confirmationTimeout) {
                isConfirmed.succeed($0)
            }
            return isConfirmed.futureResult
        }.get()
    }

    private func metadataObstacle() async throws -> String? {
        try await places[0].eventLoop.submit { places[0].shard.value.metadataObstacle }.get()
    }

    /// What keeps the broker from being ready, in words.
    func missing() async throws -> [String] {
        var missing: [String] = []
        for place in places {
            let (reason, isKnown) = try await place.eventLoop.submit {
                (place.shard.value.whatIsMissing, place.shard.value.knowsMetadata)
            }.get()
            if let reason, !missing.contains(reason) { missing.append(reason) }
            // The other shards wait for this one, and know no better reason.
            if !isKnown { break }
        }
        return missing
    }

    private func isMetadataKnown() async throws -> Bool {
        for place in places {
            guard try await place.eventLoop.submit({ place.shard.value.knowsMetadata }).get() else {
                return false
            }
        }
        return true
    }

    // MARK: Stop

    /// How long requests under way may take when the broker stops.
    private static let drainTimeout = Duration.seconds(5)

    /// How long it may take to hand leadership to other brokers when this one stops.
    private static let handOverTimeout = Duration.seconds(3)

    /// Finishes what is under way, brings everything into segments, and leaves the mark of a clean stop.
    func stop(listeners: [KafkaListener]) async {
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
        data.journal.stop()
        data.pool.stop()
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
}
