package import Logging
package import NIOPosix
import ServiceLifecycle

/// A broker as a part of the process: it starts, serves, and stops when the process is asked to, at any of these stages.
package struct BrokerService: Service {
    private let settings: Settings
    private let group: MultiThreadedEventLoopGroup
    private let metrics: MetricsRegistry
    private let descriptorLimit: Int
    private let progress: StartProgress
    private let logger: Logger
    private let started: @Sendable (BrokerNode) async -> Void

    /// Prepares the broker; `run()` starts it.
    ///
    /// - Parameters:
    ///   - settings: what it was told.
    ///   - group: from `BrokerNode.makeLoops(_:)`.
    ///   - metrics: where it publishes its own.
    ///   - descriptorLimit: how many files and sockets the process may open.
    ///   - progress: told how far the start has come.
    ///   - logger: for what happens.
    ///   - started: called when it serves.
    package init(
        settings: Settings,
        group: MultiThreadedEventLoopGroup,
        metrics: MetricsRegistry,
        descriptorLimit: Int,
        progress: StartProgress,
        logger: Logger,
        started: @escaping @Sendable (BrokerNode) async -> Void
    ) {
        self.settings = settings
        self.group = group
        self.metrics = metrics
        self.descriptorLimit = descriptorLimit
        self.progress = progress
        self.logger = logger
        self.started = started
    }

    package func run() async throws {
        let node: BrokerNode
        do {
            node = try await cancelWhenGracefulShutdown {
                try await BrokerNode.start(
                    settings,
                    on: group,
                    metrics: metrics,
                    descriptorLimit: descriptorLimit,
                    progress: progress,
                    logger: logger
                )
            }
        } catch is CancellationError where Task.isShuttingDownGracefully {
            // A broker that waits for its cluster is stopped like any other.
            logger.info("stopped while it was starting")
            return
        }
        progress.serves(node)
        await started(node)
        try await node.run()
    }
}
