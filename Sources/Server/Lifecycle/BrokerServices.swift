package import Logging
package import ServiceLifecycle
import UnixSignals

/// Runs the parts of a broker until one ends or a signal asks for a stop.
package enum BrokerServices {
    /// Starts services in their order and stops them in the reverse one.
    ///
    /// SIGTERM, SIGINT and a service that fails ask for a graceful stop; one that takes longer than
    /// `stopTimeout` is cancelled.
    ///
    /// - Returns: when all have ended.
    /// - Throws: the failure of the first service that failed.
    package static func run(
        _ services: [any Service],
        logger: Logger,
        stopTimeout: Duration = .seconds(30)
    ) async throws {
        var configuration = ServiceGroupConfiguration(
            services: services.map { service in
                .init(
                    service: service,
                    successTerminationBehavior: .gracefullyShutdownGroup,
                    failureTerminationBehavior: .gracefullyShutdownGroup
                )
            },
            gracefulShutdownSignals: [.sigterm, .sigint],
            logger: logger
        )
        configuration.maximumGracefulShutdownDuration = stopTimeout
        try await ServiceGroup(configuration: configuration).run()
    }
}
