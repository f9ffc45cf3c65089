import ArgumentParser

/// `flotilla version`.
struct VersionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "version",
        abstract: "Print the version."
    )

    func run() {
        print("flotilla \(Version.text)")
    }
}
