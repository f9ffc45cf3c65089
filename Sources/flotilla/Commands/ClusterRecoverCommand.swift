import ArgumentParser
import FlotillaEnvironment
import FlotillaModel
import FlotillaServer
import FoundationEssentials

/// `flotilla cluster recover`.
struct ClusterRecoverCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recover",
        abstract:
            "Have one stopped broker go on alone, when the majority of its cluster is gone for good.",
        discussion: """
            It works on the data directory of the broker that is left, while that is stopped. All that this broker has is kept, and all
            that only the others had is lost, however often it was acknowledged: bring one of them back instead if there is any way. The
            other brokers' disks must be wiped and never be started again as they are; the cluster gets another id, which keeps them out.

                flotilla cluster recover --unsafe --data-dir DIR --cluster-id ID --dry-run

            Afterwards start it, add empty brokers under the old ids or new ones, and see docs/OPERATIONS.md.
            """
    )

    @Option(help: "The data directory of the broker that is left; otherwise as for `serve`.")
    var dataDir: String?

    @Option(help: "The broker's configuration file; found as for `serve`.")
    var config: String?

    @Option(help: "The id of the cluster that is given up, as `cluster.json` has it.")
    var clusterId: String

    @Flag(help: "Say that acknowledged records may be lost.")
    var unsafe = false

    @Flag(help: "Only tell what would be kept and what would be lost.")
    var dryRun = false

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard unsafe || dryRun else {
            throw ValidationError(
                "records that were acknowledged may be lost by this: --unsafe says that you accept it, --dry-run shows what would become"
            )
        }
    }

    func run() async throws {
        let settings = try readSettings()
        let now = WallTime.now()
        let report: SurvivorRecovery.Report
        do {
            report = try await SurvivorRecovery(settings).perform(
                clusterID: clusterId,
                isTrial: dryRun,
                now: (now, WallTime.iso(now))
            )
        } catch {
            throw CommandFailure.failed("\(error)").report()
        }
        show(report)
    }

    private func show(_ report: SurvivorRecovery.Report) {
        var table = Table("PARTITION", "KEEPS", "TERM", "ENTRIES", "DOUBTS")
        for kept in report.kept {
            switch output.format {
            case .name: print(kept.name)
            case .json:
                print(
                    JSONText.object([
                        "partition": JSONText.quoted(kept.name),
                        "replica": JSONText.quoted("\(kept.group)"),
                        "end": kept.logEndOffset.description, "term": kept.term.description,
                        "entries": kept.lastIndex.description,
                        "doubts": JSONText.array(kept.doubts.map { JSONText.quoted($0) }),
                    ])
                )
            case .table:
                for doubt in kept.doubts { CommandOutput.note("flotilla: \(kept.name): \(doubt)") }
                table.add(
                    kept.name,
                    "up to offset \(kept.logEndOffset)",
                    kept.term.description,
                    kept.lastIndex.description,
                    kept.doubts.isEmpty ? "none" : String(kept.doubts.count)
                )
            }
        }
        if output.format == .table { print(table.text) }
        for name in report.lost { CommandOutput.note("flotilla: \(name): nothing of it is here") }
        if report.isJournalLost {
            CommandOutput.note("flotilla: the journal is gone: what was only in it is lost")
        }
        let others = report.lostBrokers.map(\.description).joined(separator: ", ")
        let givenUp = others.isEmpty ? "" : "; brokers \(others) are given up: wipe their disks"
        CommandOutput.note(
            dryRun
                ? "flotilla: nothing was changed; cluster \(report.from) would go on as broker \(report.broker) alone\(givenUp)"
                : "flotilla: broker \(report.broker) is cluster \(report.to) alone\(givenUp)"
        )
    }

    private func readSettings() throws -> Settings {
        let disk = PosixDisk()
        let environment = ProcessInfo.processInfo.environment
        var reader = SettingsReader(disk: disk)
        reader.environment = environment
        if let dataDir { reader.flags.append(("data.dir", dataDir)) }
        do {
            reader.path = try ConfigFile.find(named: config, environment: environment, disk: disk)
            return try reader.read()
        } catch {
            throw CommandFailure.usage("\(error)").report()
        }
    }
}
