import ArgumentParser
import CFlotilla
import FlotillaClient
import FoundationEssentials
import Glibc

/// `flotilla bench run`.
struct BenchRunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run workloads from files, several times each, and write a report.",
        discussion: """
            A file names topics, sizes, rates, producers, consumers and faults; bench/README.md has its keys, and
            bench/workloads/ ready ones. --start runs brokers of this binary on this machine for as long as it takes;
            otherwise -b names a cluster of any kind that speaks the Kafka protocol. Results are added to those that
            lie in --out already.
            """
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions

    @Argument(help: "Workload files.")
    var files: [String]

    @Option(help: "Start so many brokers on this machine.")
    var start: Int?

    @Option(help: "How often each workload is run.")
    var runs = 1

    @Option(help: "Where results, latency logs and the report go.")
    var out = "bench-results"

    @Option(help: "Measure for so long, whatever the files say.")
    var duration: Span?

    @Option(help: "Warm up for so long, whatever the files say.")
    var warmup: Span?

    @Option(help: "What the report calls the cluster that -b names.")
    var system: String?

    @Option(help: "A directory on the disk of the cluster that -b names, if it is on this machine.")
    var dir: String?

    /// More brokers than one machine has use for.
    private static let largestCluster = 9

    func validate() throws {
        if let start, !(1...Self.largestCluster).contains(start) {
            throw ValidationError("--start takes a number from 1 to \(Self.largestCluster)")
        }
        if start != nil, client.brokers != nil {
            throw ValidationError("either --start or -b")
        }
        guard runs > 0 else { throw ValidationError("--runs takes a number from 1") }
        if let duration, duration.milliseconds < 1000 {
            throw ValidationError("--duration is a second at least")
        }
    }

    func run() async throws {
        do {
            let workloads = try readWorkloads()
            let counted = flotilla_count_stop_signals()
            guard counted == 0 else {
                throw CommandFailure.failed("signals: \(DevProcess.reason(-counted))")
            }
            let results = try BenchResults(directory: out)
            let measurements = try await measure(workloads, results)
            if output.format == .table { print(WorkloadTable.text(measurements)) }
            client.note("report: \(try results.writeReport())")
            let failed = measurements.reduce(0) { $0 + $1.failures.count }
            if failed > 0 {
                throw CommandFailure.partial("\(Words.counted(failed, "record")) failed")
            }
        } catch is WorkloadRun.Interrupted {
            CommandOutput.note("flotilla: interrupted")
            throw ExitCode(128 + SIGINT)
        } catch let error as ClientError {
            throw CommandFailure(error).report()
        } catch let error as CommandFailure {
            throw error.report()
        }
    }

    private func readWorkloads() throws(CommandFailure) -> [Workload] {
        var workloads: [Workload] = []
        for file in files {
            var workload = try WorkloadFile.read(file)
            if let duration { workload.duration = duration }
            if let warmup { workload.warmup = warmup }
            if !workload.faults.isEmpty, start == nil {
                throw .usage("\(file) has faults: only brokers that --start runs can have them")
            }
            workloads.append(workload)
        }
        return workloads
    }

    // MARK: Measuring

    private func measure(
        _ workloads: [Workload],
        _ results: BenchResults
    ) async throws -> [RunMeasurement] {
        guard let start else { return try await measure(workloads, results, nil) }
        let machine = try Machine(directory: out)
        let cluster = try await BenchCluster(count: start, directory: "\(out)/brokers-\(getpid())")
        do {
            let measurements = try await measure(workloads, results, (cluster, machine))
            await cluster.close()
            return measurements
        } catch {
            await cluster.close()
            throw error
        }
    }

    private func measure(
        _ workloads: [Workload],
        _ results: BenchResults,
        _ own: (cluster: BenchCluster, machine: Machine)?
    ) async throws -> [RunMeasurement] {
        var settings = try client.configuration()
        if let own { settings.brokers = try Addresses.brokers(own.cluster.brokers) }
        let machine = try own?.machine ?? Machine(directory: dir)
        var measurements: [RunMeasurement] = []
        // Round after round, so that a machine that changes its mind does so to every workload alike.
        for number in 1...runs {
            for workload in workloads {
                client.note("\(workload.name), run \(number) of \(runs)")
                let started = Date()
                let run = WorkloadRun(
                    workload: workload,
                    configuration: settings,
                    cluster: own?.cluster,
                    directory: own?.cluster.directory ?? dir
                )
                let measurement = try await run.run()
                let context = RunMeasurement.Context(
                    system: own == nil
                        ? system ?? client.brokers ?? "a cluster"
                        : "Flotilla, \(Words.counted(start ?? 1, "broker"))",
                    durability: own == nil
                        ? "as that cluster is set"
                        : durability(measurement.replicaCount ?? 1, workload),
                    isDurable: own != nil && workload.acks.value == .all,
                    machine: machine,
                    number: number,
                    started: started.formatted(.iso8601)
                )
                try results.add(measurement, context, at: started.timeIntervalSince1970)
                if output.format == .json { print(measurement.json(context)) }
                measurements.append(measurement)
            }
        }
        return measurements
    }

    private func durability(_ replicaCount: Int, _ workload: Workload) -> String {
        switch workload.acks.value {
        case .all where replicaCount == 1: "fdatasync before the acknowledgement"
        case .all:
            "fdatasync on \(replicaCount / 2 + 1) of \(replicaCount) before the acknowledgement"
        case .leader: "acks=1: as the leader answers it"
        case .none: "none: acks=0"
        }
    }
}

/// `flotilla bench report`.
struct BenchReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Write the report of a directory's results anew, after others were added to them."
    )

    @Argument(help: "The directory that holds results.jsonl.")
    var directory = "bench-results"

    func run() throws {
        do throws(CommandFailure) {
            print(try BenchResults(directory: directory).writeReport())
        } catch {
            throw error.report()
        }
    }
}
