package import FlotillaEnvironment
import Hummingbird
package import Logging
package import NIOCore
import ServiceLifecycle

/// The HTTP listener: health for supervisors, metrics for Prometheus.
///
/// | path | answer |
/// |---|---|
/// | `/livez` | 200 while the process makes progress |
/// | `/readyz` | 200 when the broker serves, else 503 and what is missing |
/// | `/startupz` | 200 after start-up, else 503 and how far it is |
/// | `/metrics` | all metrics, as Prometheus reads them |
package struct AdminServer: Service {
    private let application: Application<RouterResponder<BasicRequestContext>>

    /// Prepares the server; `run()` binds and serves until the service group stops.
    ///
    /// - Parameters:
    ///   - address: an empty host means every address; port 0 picks a free one.
    ///   - group: the event loops to share.
    ///   - running: told where it listens, before the first request.
    package init(
        address: NetworkAddress,
        group: any EventLoopGroup,
        health: HealthChecks,
        metrics: MetricsRegistry,
        logger: Logger,
        running: @escaping @Sendable (NetworkAddress) async -> Void
    ) {
        application = Application(
            responder: Self.router(health: health, metrics: metrics).buildResponder(),
            configuration: ApplicationConfiguration(
                address: .hostname(address.host.isEmpty ? "::" : address.host, port: address.port),
                serverName: nil
            ),
            onServerRunning: { channel in await running(NetworkAddress(channel.localAddress)) },
            eventLoopGroupProvider: .shared(group),
            logger: logger
        )
    }

    package func run() async throws {
        try await application.run()
    }

    private static func router(health: HealthChecks, metrics: MetricsRegistry) -> Router<BasicRequestContext> {
        let router = Router()
        router.get("livez") { _, _ in
            await health.isAlive() ? text(.ok, "alive\n") : text(.serviceUnavailable, "not making progress\n")
        }
        router.get("readyz") { _, _ in
            let missing = await health.readiness()
            return missing.isEmpty
                ? text(.ok, "ready\n") : text(.serviceUnavailable, missing.map { $0 + "\n" }.joined())
        }
        router.get("startupz") { _, _ in
            switch await health.startup() {
            case .started: text(.ok, "started\n")
            case .starting(let progress): text(.serviceUnavailable, progress + "\n")
            }
        }
        router.get("metrics") { _, _ in
            text(.ok, await metrics.exposition(), type: ExpositionWriter.contentType)
        }
        return router
    }

    private static func text(
        _ status: HTTPResponse.Status,
        _ body: String,
        type: String = "text/plain; charset=utf-8"
    ) -> Response {
        Response(
            status: status,
            headers: [.contentType: type, .cacheControl: "no-store"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: body))
        )
    }
}
