import ArgumentParser
import FlotillaModel
import FlotillaServer
import FoundationEssentials

/// `flotilla explain`.
struct ExplainCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain",
        abstract: "Say in sentences what happened, and why.",
        subcommands: [ExplainGroupCommand.self]
    )
}

/// `flotilla explain group`.
struct ExplainGroupCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "group",
        abstract:
            "Say what happened to a group lately: who came and went, and each rebalance with its cause.",
        discussion: """
            The group's coordinator remembers it since it became the coordinator, 200 events a group; any broker of the
            cluster asks it. Times are UTC.

            flotilla explain group billing --since 10m
            """
    )

    @Argument(help: "The group.")
    var group: String

    @OptionGroup var client: ClientOptions
    @OptionGroup var admin: AdminOptions
    @OptionGroup var output: OutputOptions

    @Option(help: "Only what happened since: 10m, 2026-11-20T14:29, or milliseconds since 1970.")
    var since: String?

    func run() async throws {
        do throws(CommandFailure) {
            try await explain()
        } catch {
            throw error.report()
        }
    }

    private func explain() async throws(CommandFailure) {
        let start = try start()
        let address = try admin.address()
        let answer = try await AdminRequest(
            method: "GET",
            path: "/v1/groups/\(PercentText.encoded(group))/history"
        ).send(to: address, timeout: client.patience)
        switch answer.status {
        case 200: break
        case 404 where !answer.body.isEmpty: throw .notFound(answer.body)
        case 503: throw .unreachable(answer.body)
        default:
            throw .failed("\(address) answers \(answer.status) to a question about groups")
        }
        guard
            let report = try? JSONDecoder().decode(
                GroupHistoryReport.self,
                from: Data(answer.body.utf8)
            )
        else { throw .failed("\(address) answers something else than the history of a group") }
        show(report, since: start)
    }

    private func start() throws(CommandFailure) -> Timestamp? {
        guard let since else { return nil }
        let now = WallTime.now()
        // A plain number of digits is a moment; with a unit it is a span that ends now.
        if Int64(since) == nil, let span = Span(argument: since) {
            return Timestamp(now.rawValue - span.milliseconds)
        }
        guard let time = WallTime.parse(since, now: now) else {
            throw .usage(
                "--since \(since) is no time: 10m, 2026-11-20T14:29, or milliseconds since 1970"
            )
        }
        return time
    }

    private func show(_ report: GroupHistoryReport, since start: Timestamp?) {
        let events = report.events.filter { event in
            start.map { event.lastTime >= $0.rawValue } ?? true
        }
        if report.dropped > 0, start == nil, output.format == .table {
            client.note("\(Words.counted(report.dropped, "older event")) forgotten")
        }
        for event in events {
            switch output.format {
            case .json: print(HistoryText.json(event, of: report))
            case .name: print(event.event)
            case .table: print(HistoryText.line(event, now: WallTime.now()))
            }
        }
        if events.isEmpty, output.format == .table {
            client.note(
                "nothing has happened to group \(report.group) that its coordinator remembers"
            )
        }
    }
}

/// How histories are shown.
enum HistoryText {
    /// `12:03:04.120 member ... joined`, with the day before it if that is not today.
    static func line(_ event: GroupHistoryReport.Event, now: Timestamp) -> String {
        var line = "\(time(event.time, now: now)) \(event.text)"
        if event.count > 1 {
            line += " (\(event.count) times, the last at \(time(event.lastTime, now: now)))"
        }
        return line
    }

    private static func time(_ millis: Int64, now: Timestamp) -> String {
        let parts = { (millis: Int64) in
            LineLogHandler.time(millis).split { $0 == "T" || $0 == "Z" }.map { String($0) }
        }
        let (moment, today) = (parts(millis), parts(now.rawValue))
        return moment[0] == today[0] ? moment[1] : moment[0] + " " + moment[1]
    }

    /// An object with all that the event says.
    static func json(_ event: GroupHistoryReport.Event, of report: GroupHistoryReport) -> String {
        let names = event.names.map { ($0.key, JSONText.quoted($0.value)) }
        let numbers = event.numbers.map { ($0.key, String($0.value)) }
        let facts = (names + numbers).sorted { $0.0 < $1.0 }.map {
            ",\(JSONText.quoted($0.0)):\($0.1)"
        }
        let common = JSONText.object([
            "group": JSONText.quoted(report.group),
            "time": String(event.time),
            "last_time": String(event.lastTime),
            "count": String(event.count),
            "event": JSONText.quoted(event.event),
            "text": JSONText.quoted(event.text),
        ])
        return common.dropLast() + facts.joined() + "}"
    }
}
