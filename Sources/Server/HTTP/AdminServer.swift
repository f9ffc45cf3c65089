package import FlotillaEnvironment
import Hummingbird
package import Logging
package import NIOCore
import NIOPosix
import ServiceLifecycle

/// The HTTP listener: health for supervisors, metrics for Prometheus.
///
/// | path | answer |
/// |---|---|
/// | `/livez` | 200 while the process makes progress |
/// | `/readyz` | 200 when the broker serves, else 503 and what is missing |
/// | `/startupz` | 200 after start-up, else 503 and how far it is |
/// | `/metrics` | all metrics, as Prometheus reads them |
/// | `/metrics/detail?group=NAME` | the partitions of a group, of one topic with `&topic=NAME`; 404 where there is none |
/// | `POST /v1/brokers/ID/drain` | the broker's replicas move away; 409 and why when they cannot |
/// | `DELETE /v1/brokers/ID/drain` | it takes replicas again |
/// | `/v1/groups/NAME/history` | what happened to a group, as JSON; 404 where there is none |
/// | `/v1/groups/NAME/lag` | how far it is behind in each partition; the same |
package struct AdminServer: Service {
    private let address: NetworkAddress
    private let group: any EventLoopGroup
    private let health: HealthChecks
    private let metrics: MetricsRegistry
    private let administration: Administration?
    private let groups: GroupQuestions?
    private let logger: Logger
    private let running: @Sendable (NetworkAddress) async -> Void

    /// Prepares the server; `run()` binds and serves until the service group stops.
    ///
    /// - Parameters:
    ///   - address: an empty host means every address; port 0 picks a free one.
    ///   - group: the event loops to share.
    ///   - health: what the probes ask.
    ///   - metrics: what is shown.
    ///   - administration: what can be changed; nil for nothing.
    ///   - groups: what can be asked about groups; nil for nothing.
    ///   - logger: for what goes wrong.
    ///   - running: told where it listens, before the first request.
    package init(
        address: NetworkAddress,
        group: any EventLoopGroup,
        health: HealthChecks,
        metrics: MetricsRegistry,
        administration: Administration? = nil,
        groups: GroupQuestions? = nil,
        logger: Logger,
        running: @escaping @Sendable (NetworkAddress) async -> Void
    ) {
        self.address = address
        self.group = group
        self.health = health
        self.metrics = metrics
        self.administration = administration
        self.groups = groups
        self.logger = logger
        self.running = running
    }

    package func run() async throws {
        let host = address.host.isEmpty ? await Self.everyAddress(group) : address.host
        let application = Application(
            responder: router.buildResponder(),
            configuration: ApplicationConfiguration(
                address: .hostname(host, port: address.port),
                serverName: nil
            ),
            onServerRunning: { channel in await running(NetworkAddress(channel.localAddress)) },
            eventLoopGroupProvider: .shared(group),
            logger: logger
        )
        do {
            try await application.run()
        } catch let error as IOError {
            throw ListenError(address, for: "HTTP", error)
        }
    }

    /// `::`, which takes IPv4 too, or `0.0.0.0` on a machine without IPv6.
    private static func everyAddress(_ group: any EventLoopGroup) async -> String {
        do {
            let probe = try await ServerBootstrap(group: group).bind(host: "::", port: 0).get()
            try await probe.close().get()
            return "::"
        } catch {
            return "0.0.0.0"
        }
    }

    private var router: Router<BasicRequestContext> {
        let router = Router()
        router.get("livez") { [health] _, _ in
            await health.isAlive()
                ? Self.text(.ok, "alive\n")
                : Self.text(.serviceUnavailable, "not making progress\n")
        }
        router.get("readyz") { [health] _, _ in
            let missing = await health.readiness()
            let lines = missing.map { $0 + "\n" }.joined()
            return missing.isEmpty
                ? Self.text(.ok, "ready\n") : Self.text(.serviceUnavailable, lines)
        }
        router.get("startupz") { [health] _, _ in
            switch await health.startup() {
            case .started: Self.text(.ok, "started\n")
            case .starting(let progress): Self.text(.serviceUnavailable, progress + "\n")
            }
        }
        router.get("metrics") { [metrics] _, _ in
            Self.text(.ok, await metrics.exposition(), type: ExpositionWriter.contentType)
        }
        if let administration { Self.addDraining(administration, to: router) }
        if let groups { Self.addGroups(groups, to: router) }
        return router
    }

    private static func addDraining(
        _ administration: Administration,
        to router: Router<BasicRequestContext>
    ) {
        @Sendable func change(
            _ context: BasicRequestContext,
            isDraining: Bool
        ) async -> Response {
            guard let broker = context.parameters.get("id", as: Int32.self), broker >= 0 else {
                return text(.badRequest, "a broker is named by its id\n")
            }
            return switch await administration.setDraining(broker, isDraining) {
            case .done: text(.ok, isDraining ? "draining\n" : "active\n")
            case .refused(let reason): text(.conflict, reason + "\n")
            case .unavailable(let reason): text(.serviceUnavailable, reason + "\n")
            }
        }
        router.post("v1/brokers/:id/drain") { _, context in
            await change(context, isDraining: true)
        }
        router.delete("v1/brokers/:id/drain") { _, context in
            await change(context, isDraining: false)
        }
    }

    static func text(
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
