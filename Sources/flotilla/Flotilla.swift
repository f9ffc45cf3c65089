import ArgumentParser

/// The one binary: the broker and every tool.
@main
struct Flotilla: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flotilla",
        abstract: "A replicated message queue that speaks Kafka's protocol.",
        version: Version.text,
        subcommands: [
            ServeCommand.self,
            DevCommand.self,
            ProduceCommand.self,
            ConsumeCommand.self,
            TopicCommand.self,
            ClusterCommand.self,
            PartitionCommand.self,
            ConfigCommand.self,
            BenchCommand.self,
            SimCommand.self,
            DoctorCommand.self,
            VersionCommand.self,
        ]
    )
}

extension Flotilla {
    /// Runs the command that the arguments name; wrong usage ends with 2, as users of command lines expect.
    static func main() async {
        do {
            var command = try parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            let code = exitCode(for: error)
            guard code == .validationFailure else { exit(withError: error) }
            CommandOutput.note(fullMessage(for: error))
            exit(withError: ExitCode(2))
        }
    }
}

/// The version of this binary.
enum Version {
    static let text = "0.1"
}
