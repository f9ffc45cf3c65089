import ArgumentParser
import FlotillaClient
import FlotillaModel
import Glibc

/// `flotilla group lag`.
struct GroupLagCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lag",
        abstract: "Show how far groups are behind, in records and in seconds.",
        discussion: """
            Seconds are the age of the oldest record that is not done; the trend is how many records per second that
            grows by.

            flotilla group lag billing --watch
            """
    )

    @Argument(help: "The groups.")
    var groups: [String]

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions

    @Flag(help: "Look again each second, until you interrupt it.")
    var watch = false

    func run() async throws {
        try await client.run { client in
            var reader = LagReader(client, patience: self.client.sizePatience)
            var earlier: [String: GroupLag] = [:]
            repeat {
                let begin = ContinuousClock.now
                var lags: [GroupLag] = []
                for group in groups { lags.append(try await reader.read(group)) }
                show(lags, since: earlier)
                CommandOutput.flush()
                guard watch else { return }
                for lag in lags { earlier[lag.group] = lag }
                try await Task.sleep(until: begin + .seconds(1), clock: .continuous)
            } while true
        }
    }

    private func show(_ lags: [GroupLag], since earlier: [String: GroupLag]) {
        // On a terminal a look takes the place of the one before.
        if watch, output.format == .table, isatty(STDOUT_FILENO) == 1 {
            print("\u{1B}[H\u{1B}[J", terminator: "")
        }
        for (place, lag) in lags.enumerated() {
            switch output.format {
            case .json: for line in LagText.json(lag, since: earlier[lag.group]) { print(line) }
            case .name: print(lag.records)
            case .table:
                if place > 0 || watch && isatty(STDOUT_FILENO) == 0 && !earlier.isEmpty {
                    print("")
                }
                print(LagText.table(lag, since: earlier[lag.group], isWatching: watch))
            }
        }
    }
}
