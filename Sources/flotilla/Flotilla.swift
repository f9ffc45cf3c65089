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
            ConfigCommand.self,
            VersionCommand.self,
        ]
    )
}

/// The version of this binary.
enum Version {
    static let text = "0.1"
}
