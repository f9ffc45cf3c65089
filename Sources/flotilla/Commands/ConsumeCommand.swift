import ArgumentParser
import FlotillaClient
import FlotillaModel
import NIOCore

/// `flotilla consume`.
struct ConsumeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "consume",
        abstract: "Read records.",
        discussion: """
            flotilla consume greetings                           what comes from now on
            flotilla consume greetings -o start -e               all there is
            flotilla consume greetings -o -10 -o json            the last ten of each partition, as JSON
            flotilla consume orders -o @-2h:@now -f '%t[%p]@%o %k=%v\\n'
            flotilla consume orders -g billing                   as a member of a group, which remembers how far it is
            flotilla consume '^orders\\..*' -g all --group-protocol consumer      every topic that matches (RE2), later ones too
            """
    )

    @Argument(help: "The topics; for a group of the consumer protocol also ^EXPRESSION.")
    var topics: [String]

    @OptionGroup var client: ClientOptions

    @Option(
        name: .customShort("o"),
        parsing: .unconditionalSingleValue,
        help: ArgumentHelp(
            "Where to read: start, end (default), 42, +n, -n, @time, FROM:TO; or how to print: text, json. May be given twice.",
            valueName: "place|format"
        )
    )
    var options: [String] = []

    @Option(
        name: [.customShort("p"), .customLong("partition")],
        help: "Only this partition; may be repeated."
    )
    var partitions: [Int32] = []

    @Option(name: [.customShort("n"), .customLong("count")], help: "End after so many records.")
    var count: Int?

    @Flag(
        name: [.customShort("e"), .customLong("exit")],
        help: "End at what is the end of the partitions now."
    )
    var endsAtEnd = false

    @Option(
        name: [.customShort("f"), .customLong("format")],
        help: "How to print: %t %p %o %k %v %T %d{iso} %h %K %S, \\n \\t \\xHH."
    )
    var format: String?

    @Option(help: "Only records whose value matches this regular expression.")
    var grep: String?

    @Option(help: "Only records with this key.")
    var key: String?

    @Flag(name: .customShort("Z"), help: "Print NULL for null keys and values.")
    var showsNull = false

    @Flag(help: "Show records of aborted and open transactions too.")
    var uncommitted = false

    @Option(help: "The rack you are in: records are read from a replica there, if there is one.")
    var rack: String?

    @Option(
        name: [.short, .long],
        help: ArgumentHelp(
            "Read as a member of this group, and commit what is printed; -o start or end says where to begin what it has never committed."
        )
    )
    var group: String?

    @Option(help: "How to talk to the group's coordinator: classic or consumer (KIP-848).")
    var groupProtocol = GroupProtocolName(.classic)

    @Option(
        help: ArgumentHelp(
            "How a group of the classic protocol may divide, the favourite first: range, cooperative-sticky; may be repeated (both, in this order).",
            valueName: "assignor"
        )
    )
    var assignor: [AssignorName] = []

    @Option(help: "How long a group of the classic protocol waits for a member that is silent.")
    var sessionTimeout = Span(.seconds(45))

    func run() async throws {
        try await client.run { client in
            let (range, printing) = try readOptions()
            if let group {
                return try await read(as: group, client, range, printing)
            }
            let place = PlaceRange(
                start: .named(endsAtEnd || count != nil ? .earliest : .latest)
            )
            let assignment = try await assign(client, range ?? place)
            try await read(client, assignment.starts, until: assignment.ends, printing)
        }
    }

    private func read(
        as group: String,
        _ client: KafkaClient,
        _ range: PlaceRange?,
        _ printing: RecordPrinting
    ) async throws {
        if !partitions.isEmpty {
            throw CommandFailure.usage("a group chooses partitions itself: -p")
        }
        var settings = GroupConfiguration(group: group, subscription: try subscription())
        settings.groupProtocol = groupProtocol.value
        if !assignor.isEmpty { settings.assignors = assignor.map(\.value) }
        settings.sessionTimeout = sessionTimeout.duration
        settings.heartbeatInterval = min(settings.heartbeatInterval, sessionTimeout.duration / 3)
        settings.fetching.rack = rack
        settings.fetching.isolationLevel = uncommitted ? .readUncommitted : .readCommitted
        settings.start = endsAtEnd || count != nil ? .earliest : .latest
        if let range {
            switch (range.start, range.end) {
            case (.named(.earliest), nil): settings.start = .earliest
            case (.named(.latest), nil): settings.start = .latest
            default:
                throw CommandFailure.usage(
                    "a group knows where to go on: -o is start or end; flotilla group seek moves it"
                )
            }
        }
        if case .topics(let names) = settings.subscription {
            _ = try await Topics.find(Set(names).sorted(), client)
        }
        let reading = GroupReading(
            client: client,
            configuration: settings,
            printing: printing,
            count: count,
            endsAtEnd: endsAtEnd,
            note: self.client.note
        )
        try await reading.run()
    }

    /// What a member of a group wants: topics, or one expression.
    private func subscription() throws(CommandFailure) -> GroupSubscription {
        guard let pattern = topics.first(where: { $0.hasPrefix("^") }) else {
            return .topics(topics)
        }
        guard topics.count == 1, groupProtocol.value == .consumer else {
            throw .usage("\(pattern) stands alone, with --group-protocol consumer")
        }
        return .pattern(pattern)
    }

    private func readOptions() throws(CommandFailure) -> (PlaceRange?, RecordPrinting) {
        var range: PlaceRange?
        var printing = RecordPrinting(format: try RecordFormat(format ?? "%s\\n"))
        if showsNull { printing.format.null = "NULL" }
        for option in options {
            if option == "json" {
                printing.isJSON = true
            } else if option == "text" {
                printing.isJSON = false
            } else if let place = PlaceRange(option) {
                guard range == nil else { throw .usage("two places to read from: -o \(option)") }
                range = place
            } else {
                throw .usage(
                    "-o \(option) is neither a place (start, end, 42, +n, -n, @time) nor text or json"
                )
            }
        }
        if let grep {
            guard let pattern = try? Regex(grep) else {
                throw .usage("\"\(grep)\" is no regular expression")
            }
            printing.pattern = pattern
        }
        printing.key = key.map { ByteBuffer(string: $0) }
        if let count, count < 0 { throw .usage("-n takes a number from 0") }
        return (range, printing)
    }

    private func assign(
        _ client: KafkaClient,
        _ range: PlaceRange
    ) async throws -> (starts: [NamedPartition: StartOffset], ends: [NamedPartition: Offset]?) {
        var wanted: [NamedPartition] = []
        for topic in try await Topics.find(Set(topics).sorted(), client) {
            wanted += try Topics.partitions(partitions, of: topic)
        }
        let admin = Admin(client)
        // The end of what a reader of committed records gets to see comes before an open transaction.
        let level = uncommitted ? IsolationLevel.readUncommitted : .readCommitted
        let starts = try await range.start.resolve(wanted, admin, level)
        var ends = try await range.end?.resolve(wanted, admin, level)
        if endsAtEnd, ends == nil {
            ends = try await Place.named(.latest).resolve(wanted, admin, level)
        }
        return (starts.mapValues { .offset($0) }, ends)
    }

    private func read(
        _ client: KafkaClient,
        _ starts: [NamedPartition: StartOffset],
        until ends: [NamedPartition: Offset]?,
        _ printing: RecordPrinting
    ) async throws {
        var open = ends ?? [:]
        if ends != nil {
            open = open.filter { partition, end in
                starts[partition].map { $0 != .offset(end) } ?? false
            }
            open = open.filter { partition, end in
                guard case .offset(let start)? = starts[partition] else { return true }
                return start < end
            }
            if open.isEmpty { return }
        }
        var left = count ?? .max
        guard left > 0 else { return }
        var settings = ConsumerConfiguration()
        settings.rack = rack
        settings.isolationLevel = uncommitted ? .readUncommitted : .readCommitted
        let wanted = ends == nil ? starts : starts.filter { open[$0.key] != nil }
        let consumer = try await Consumer(client, wanted, settings)
        let output = StandardOutput()
        while let batch = try await consumer.next() {
            let end = open[batch.partition]
            if ends != nil, end == nil { continue }
            try output.write { output in
                for record in batch.records where left > 0 {
                    if let end, record.offset >= end { break }
                    guard printing.wants(record) else { continue }
                    printing.write(record, into: &output)
                    left -= 1
                }
            }
            try output.flush()
            if let end, batch.nextOffset >= end {
                open[batch.partition] = nil
                await consumer.pause(batch.partition)
            }
            if left == 0 || (ends != nil && open.isEmpty) { return }
        }
    }
}
