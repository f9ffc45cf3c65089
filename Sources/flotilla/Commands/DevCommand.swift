import ArgumentParser

/// `flotilla dev`: a cluster on one machine, to try things with.
struct DevCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dev",
        abstract: "A cluster of processes on this machine, to try failures with.",
        discussion: """
            `flotilla dev cluster 3` runs in one terminal; the other commands speak to it from another one:
            kill a leader, watch clients go on, restart it, watch it catch up.
            """,
        subcommands: [
            DevClusterCommand.self,
            DevStatusCommand.self,
            DevKillCommand.self,
            DevStopCommand.self,
            DevPauseCommand.self,
            DevResumeCommand.self,
            DevRestartCommand.self,
        ]
    )
}

/// `flotilla dev cluster N`: runs until it is asked to stop.
struct DevClusterCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster",
        abstract: "Start brokers as processes of their own, and stop them together.",
        discussion: """
            Broker i keeps its data in DATA-DIR/i and listens on the ports KAFKA-PORT+i-1 and ADMIN-PORT+i-1; its port
            for the other brokers is a free one that DATA-DIR remembers, so that the cluster finds itself again.
            The brokers' log lines are shown with their number before them. Ctrl-C stops all brokers; no broker
            outlives this command, whatever happens to it. On a terminal it also takes the commands kill, stop,
            pause, resume, restart, each with a number, and status.
            """
    )

    /// More processes than anybody tries on one machine; a larger number is a slip of the finger.
    static let largestCount = 32

    @Argument(help: "How many brokers.")
    var count = 3

    @Option(help: "Where the brokers' data lies, and what is remembered of the cluster.")
    var dataDir = DevTarget.defaultDirectory

    @Option(help: "The first broker's port for Kafka clients.")
    var kafkaPort: UInt16 = 9092

    @Option(help: "The first broker's port for health, metrics and administration.")
    var adminPort: UInt16 = 9644

    @Option(help: "The flotilla that the brokers run; otherwise this one.")
    var binary: String?

    func validate() throws {
        guard (1...Self.largestCount).contains(count) else {
            throw ValidationError("a number of brokers from 1 to \(Self.largestCount), please")
        }
        guard kafkaPort > 0, adminPort > 0, Int(kafkaPort) + count <= 65_536,
            Int(adminPort) + count <= 65_536
        else {
            throw ValidationError("ports lie between 1 and 65535, one for each broker")
        }
        let distance = abs(Int(kafkaPort) - Int(adminPort))
        guard distance >= count else {
            throw ValidationError(
                "--kafka-port and --admin-port lie too close: \(count) ports each"
            )
        }
    }

    func run() throws {
        do throws(CommandFailure) {
            let ownPath = try DevProcess.ownPath()
            let directory = try DevDirectory.open(dataDir)
            let addresses = try directory.addresses(
                count: count,
                kafkaPort: kafkaPort,
                adminPort: adminPort
            )
            let cluster = try DevCluster(
                directory: directory,
                binary: binary ?? ownPath,
                addresses: addresses
            )
            try cluster.run()
        } catch {
            throw error.report()
        }
    }
}

/// Which cluster on this machine is meant.
struct DevTarget: ParsableArguments {
    static let defaultDirectory = "flotilla-dev"

    @Option(help: "The directory that `flotilla dev cluster` was given.")
    var dataDir = Self.defaultDirectory

    /// Sends a request to the running cluster, and prints its answer.
    func ask(_ request: DevRequest) throws {
        do throws(CommandFailure) {
            print(try DevControl.ask(request, directory: dataDir))
        } catch {
            throw error.report()
        }
    }
}

/// Which broker of which cluster is meant.
struct DevBrokerTarget: ParsableArguments {
    @Argument(help: "The broker's number.")
    var broker: Int

    @OptionGroup var target: DevTarget

    func ask(_ action: DevRequest.Action) throws {
        try target.ask(DevRequest(action: action, broker: broker))
    }
}

/// `flotilla dev status`.
struct DevStatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show the brokers' addresses and processes."
    )

    @OptionGroup var target: DevTarget

    func run() throws { try target.ask(DevRequest(action: .status, broker: nil)) }
}

/// `flotilla dev kill N`.
struct DevKillCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kill",
        abstract: "End a broker as a crash does (SIGKILL)."
    )

    @OptionGroup var target: DevBrokerTarget

    func run() throws { try target.ask(.kill) }
}

/// `flotilla dev stop N`.
struct DevStopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop",
        abstract: "Ask a broker to stop (SIGTERM), and wait until it has."
    )

    @OptionGroup var target: DevBrokerTarget

    func run() throws { try target.ask(.stop) }
}

/// `flotilla dev pause N`.
struct DevPauseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pause",
        abstract: "Freeze a broker where it stands (SIGSTOP)."
    )

    @OptionGroup var target: DevBrokerTarget

    func run() throws { try target.ask(.pause) }
}

/// `flotilla dev resume N`.
struct DevResumeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume",
        abstract: "Let a paused broker go on (SIGCONT)."
    )

    @OptionGroup var target: DevBrokerTarget

    func run() throws { try target.ask(.resume) }
}

/// `flotilla dev restart N`.
struct DevRestartCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restart",
        abstract:
            "Start a broker that ended, or stop and start one that runs; wait until it is ready."
    )

    @OptionGroup var target: DevBrokerTarget

    func run() throws { try target.ask(.restart) }
}
