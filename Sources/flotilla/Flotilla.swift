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
            GroupCommand.self,
            ClusterCommand.self,
            PartitionCommand.self,
            ExplainCommand.self,
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
            let arguments = Array(CommandLine.arguments.dropFirst())
            let text = UsageMessage.text(
                message(for: error),
                full: fullMessage(for: error),
                arguments: arguments,
                commands: commandNames(below: arguments)
            )
            CommandOutput.note("flotilla: \(text)")
            exit(withError: ExitCode(2))
        }
    }

    /// The names of the subcommands that may follow, as far as the arguments name commands.
    static func commandNames(below arguments: [String]) -> [String] {
        var command: any ParsableCommand.Type = Flotilla.self
        for argument in arguments {
            let next = command.configuration.subcommands.first {
                $0.configuration.commandName == argument
            }
            guard let next else { break }
            command = next
        }
        return command.configuration.subcommands.compactMap { $0.configuration.commandName }
    }
}

/// The version of this binary.
enum Version {
    static let text = "0.1"
}
