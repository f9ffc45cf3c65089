import ArgumentParser
import FlotillaModel
import FlotillaServer

/// `flotilla partition verify`.
struct PartitionVerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Check every byte of the segments in a data directory; it changes nothing.",
        discussion: """
            It reads the directory of a broker on this machine, best of one that is stopped: segments grow while it
            runs. Exit code 1 where something is damaged.
            """
    )

    @Option(help: "The broker's data directory.")
    var dataDir: String

    @Argument(help: "Directories below DATA-DIR/partitions; otherwise all.")
    var partitions: [String] = []

    @OptionGroup var output: OutputOptions

    func run() throws {
        do throws(CommandFailure) {
            try verify()
        } catch {
            throw error.report()
        }
    }

    private func verify() throws(CommandFailure) {
        let verification = DirectoryVerification(directory: dataDir)
        var table = Table("REPLICA", "SEGMENTS", "ENTRIES", "SIZE", "END", "STATE")
        var damagedCount = 0
        for group in try chosen(verification) {
            let finding = verification.verify(group)
            if !finding.problems.isEmpty { damagedCount += 1 }
            let name = finding.directory.split(separator: "/").last.map { String($0) } ?? ""
            switch output.format {
            case .name: if !finding.problems.isEmpty { print(name) }
            case .json:
                print(
                    JSONText.object([
                        "replica": JSONText.quoted(name),
                        "segments": String(finding.segmentCount),
                        "entries": String(finding.entryCount),
                        "bytes": String(finding.byteCount), "end": finding.logEndOffset.description,
                        "problems": JSONText.array(finding.problems.map { JSONText.quoted($0) }),
                    ])
                )
            case .table:
                for problem in finding.problems { CommandOutput.note("flotilla: \(problem)") }
                table.add(
                    name,
                    String(finding.segmentCount),
                    String(finding.entryCount),
                    Size(finding.byteCount).description,
                    finding.logEndOffset.description,
                    finding.problems.isEmpty ? "sound" : "damaged"
                )
            }
        }
        if output.format == .table { print(table.text) }
        guard damagedCount == 0 else {
            throw .failed("\(Words.counted(damagedCount, "replica")) damaged")
        }
    }

    private func chosen(
        _ verification: DirectoryVerification
    ) throws(CommandFailure) -> [GroupID] {
        let all: [GroupID]
        do {
            all = try verification.replicas()
        } catch {
            throw .notFound("\(dataDir) is no data directory: \(error)")
        }
        let known = Dictionary(all.map { ($0.description, $0) }) { first, _ in first }
        for name in partitions where known[name] == nil {
            throw .notFound("\(dataDir) holds no replica \(name)")
        }
        return partitions.isEmpty ? all : partitions.compactMap { known[$0] }
    }
}
