import ArgumentParser
import FlotillaServer
import FoundationEssentials

/// `flotilla config`.
struct ConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config",
        abstract: "Check configuration files.",
        subcommands: [ConfigLintCommand.self]
    )
}

/// `flotilla config lint`.
struct ConfigLintCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lint",
        abstract: "Check a configuration file: unknown keys, wrong values, all at once."
    )

    @Argument(help: "The file; otherwise the one that `serve` would read.")
    var file: String?

    func run() throws {
        let disk = PosixDisk()
        var reader = SettingsReader(disk: disk)
        do {
            reader.path = try ConfigFile.find(
                named: file,
                environment: ProcessInfo.processInfo.environment,
                disk: disk
            )
            guard let path = reader.path else {
                CommandOutput.note("no configuration file found; the defaults hold")
                return
            }
            let settings = try reader.read()
            for note in settings.notes { CommandOutput.note(note) }
            print("\(path): ok")
        } catch {
            CommandOutput.note("\(error)")
            throw ArgumentParser.ExitCode(2)
        }
    }
}
