import ArgumentParser
import FlotillaEnvironment
import FlotillaServer
import FoundationEssentials
import Logging

/// `flotilla serve`: the broker, until it is asked to stop.
struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Run a broker.",
        discussion: """
            Settings come from flags, then FLOTILLA_* in the environment, then the file, then the defaults.
            `flotilla config lint` checks a file; --print-config shows every value and where it comes from.
            """
    )

    @Option(
        help:
            "The configuration file; otherwise $FLOTILLA_CONFIG, ./flotilla.toml, /etc/flotilla/flotilla.toml."
    )
    var config: String?

    @Option(help: "Where the data lies.")
    var dataDir: String?

    @Option(help: "This broker's id.")
    var nodeId: Int?

    @Option(help: "HOST:PORT for Kafka clients; port 0 picks one.")
    var kafka: String?

    @Option(help: "HOST:PORT for the other brokers of the cluster.")
    var peer: String?

    @Option(
        help:
            "HOST:PORT,... of the cluster's first brokers, the same list for all; needs --peer. Without it the broker is a cluster of its own."
    )
    var join: String?

    @Option(help: "The rack or zone that this broker stands in.")
    var rack: String?

    @Option(help: "HOST:PORT for health, metrics and administration; port 0 picks one.")
    var admin: String?

    @Flag(help: "Print every setting with its source, and exit.")
    var printConfig = false

    func run() async throws {
        let start = ContinuousClock.now
        let settings = try readSettings()
        if printConfig {
            print(settings.printed, terminator: "")
            return
        }
        let descriptorLimit = ProcessSetup.prepare()
        let control = LogControl(settings.logLevels)
        let logs = LogFactory(format: settings.logFormat, control: control)
        let logger = logs.logger("broker")
        for note in settings.notes {
            logger.notice("setting without effect", metadata: .of([.reason: note]))
        }
        let metrics = MetricsRegistry()
        let progress = StartProgress()
        let group = BrokerNode.makeLoops(settings)
        // Health is answered from the beginning: a start may wait for other brokers, and says so there.
        let (consoles, console) = AsyncStream<NetworkAddress>.makeStream()
        let admin = AdminServer(
            address: settings.httpAddress,
            group: group,
            health: progress.checks,
            metrics: metrics,
            administration: progress.administration,
            groups: progress.groups,
            logger: logs.logger("http")
        ) { bound in
            console.yield(bound)
        }
        let broker = BrokerService(
            settings: settings,
            group: group,
            metrics: metrics,
            descriptorLimit: descriptorLimit,
            progress: progress,
            logger: logger
        ) { node in
            for await bound in consoles {
                Self.greet(node, console: bound, after: ContinuousClock.now - start)
                return
            }
        }
        do {
            try await BrokerServices.run([broker, admin], logger: logs.logger("lifecycle"))
        } catch let error as StartError where error.isRemoval {
            CommandOutput.note("flotilla: \(error)")
            ExitCode.removed.endProcess()
        } catch {
            CommandOutput.note("flotilla: \(error)")
            ExitCode.failure.endProcess()
        }
    }

    private static func greet(_ node: BrokerNode, console: NetworkAddress, after time: Duration) {
        let millis =
            time.components.seconds * 1000 + time.components.attoseconds / 1_000_000_000_000_000
        print(
            "flotilla \(Version.text)  node \(node.brokerID)  ready in \(millis) ms   "
                + "kafka \(reachable(node.kafkaAddress))   console http://\(reachable(console))   "
                + "acks: fsync"
        )
        CommandOutput.flush()
    }

    /// An address as a person on this machine would type it.
    private static func reachable(_ address: NetworkAddress) -> NetworkAddress {
        let isAny = address.host.isEmpty || address.host == "0.0.0.0" || address.host == "::"
        return isAny ? NetworkAddress(host: "localhost", port: address.port) : address
    }

    private func readSettings() throws -> Settings {
        let disk = PosixDisk()
        let environment = ProcessInfo.processInfo.environment
        var reader = SettingsReader(disk: disk)
        reader.environment = environment
        if let dataDir { reader.flags.append(("data.dir", dataDir)) }
        if let nodeId { reader.flags.append(("node.id", String(nodeId))) }
        if let kafka { reader.flags.append(("kafka.listeners", kafka)) }
        if let peer { reader.flags.append(("peer.listen", peer)) }
        if let join { reader.flags.append(("cluster.join", join)) }
        if let rack { reader.flags.append(("broker.rack", rack)) }
        if let admin { reader.flags.append(("http.listen", admin)) }
        do {
            reader.path = try ConfigFile.find(named: config, environment: environment, disk: disk)
            return try reader.read()
        } catch {
            CommandOutput.note("\(error)")
            ExitCode.usage.endProcess()
        }
    }
}
