import ArgumentParser
import FlotillaClient
import FlotillaModel

/// `flotilla topic`.
struct TopicCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "topic",
        abstract: "Topics: what there is, and changes to it.",
        subcommands: [
            TopicListCommand.self, TopicDescribeCommand.self, TopicCreateCommand.self,
            TopicAlterCommand.self,
            TopicDeleteCommand.self, TopicAddPartitionsCommand.self, TopicTrimCommand.self,
            TopicOffsetsCommand.self,
        ]
    )
}

/// How a command prints what it found.
enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
    case table, json, name
}

/// `-o`.
struct OutputOptions: ParsableArguments {
    @Option(
        name: [.customShort("o"), .customLong("output")],
        help: "How to print: table, json (one object a line), name."
    )
    var format = OutputFormat.table
}

/// `flotilla topic list`.
struct TopicListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "List the topics."
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions

    @Flag(help: "Topics that brokers keep for themselves too.")
    var `internal` = false

    func run() async throws {
        try await client.run { client in
            let topics = try await client.metadata().topics.filter {
                self.internal || !$0.isInternal
            }
            var table = Table("TOPIC", "PARTITIONS", "REPLICAS")
            for topic in topics {
                let replicas = topic.partitions.map(\.replicas.count).max() ?? 0
                switch output.format {
                case .name: print(topic.name)
                case .json:
                    print(
                        JSONText.object([
                            "topic": JSONText.quoted(topic.name),
                            "id": JSONText.quoted(topic.id.description),
                            "partitions": String(topic.partitions.count),
                            "replicas": String(replicas),
                            "internal": String(topic.isInternal),
                        ])
                    )
                case .table: table.add(topic.name, String(topic.partitions.count), String(replicas))
                }
            }
            if output.format == .table { print(table.text) }
        }
    }
}

/// Finds topics that must exist.
enum Topics {
    static func find(_ names: [String], _ client: KafkaClient) async throws(ClientError)
        -> [ClusterMetadata.Topic]
    {
        let metadata = try await client.metadata(topics: names)
        var topics: [ClusterMetadata.Topic] = []
        for name in names {
            guard let topic = metadata.topic(name), topic.error != .unknownTopicOrPartition else {
                throw .noSuchTopic(name)
            }
            guard topic.error == .noError else {
                throw .refused(topic.error, subject: "topic \(name)", message: nil)
            }
            topics.append(topic)
        }
        return topics
    }

    /// Says which topic may have been meant, where one was named that does not exist.
    static func explain(_ error: any Error, _ client: KafkaClient) async -> any Error {
        guard case ClientError.noSuchTopic(let name)? = error as? ClientError else { return error }
        let known = try? await client.metadata().topics.filter { !$0.isInternal }.map(\.name)
        guard let nearest = Words.nearest(to: name, among: known ?? []) else { return error }
        return CommandFailure.notFound("topic \(name) does not exist; did you mean \(nearest)?")
    }

    /// Some partitions of a topic; all where none are named.
    static func partitions(
        _ name: String,
        _ indexes: [Int32],
        _ client: KafkaClient
    ) async throws(ClientError) -> [NamedPartition] {
        guard let topic = try await find([name], client).first else { return [] }
        return try partitions(indexes, of: topic)
    }

    /// Some partitions of a topic that was found; all where none are named.
    static func partitions(
        _ indexes: [Int32],
        of topic: ClusterMetadata.Topic
    ) throws(ClientError) -> [NamedPartition] {
        let known = topic.partitions.map(\.index)
        for index in indexes where !known.contains(index) {
            throw .noSuchPartition(NamedPartition(topic: topic.name, index: index))
        }
        return (indexes.isEmpty ? known : indexes).map {
            NamedPartition(topic: topic.name, index: $0)
        }
    }
}

/// `flotilla topic describe`.
struct TopicDescribeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "describe",
        abstract: "Show partitions, offsets and settings of topics."
    )

    @Argument(help: "The topics.")
    var topics: [String]

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions

    @Flag(help: "All settings, not only those that differ from the default.")
    var all = false

    func run() async throws {
        try await client.run { client in
            let admin = Admin(client)
            for topic in try await Topics.find(topics, client) {
                let names = topic.partitions.map {
                    NamedPartition(topic: topic.name, index: $0.index)
                }
                let led = names.filter { name in
                    topic.partitions.contains { $0.index == name.index && $0.leader != nil }
                }
                let starts = try await Place.named(.earliest).resolve(led, admin)
                let ends = try await Place.named(.latest).resolve(led, admin)
                let configs = try await admin.configs(of: .topic(topic.name)).filter {
                    all || !$0.isDefault
                }
                switch output.format {
                case .json: print(json(topic, starts, ends, configs))
                case .name: print(topic.name)
                case .table: show(topic, starts, ends, configs)
                }
            }
        }
    }

    private func show(
        _ topic: ClusterMetadata.Topic,
        _ starts: [NamedPartition: Offset],
        _ ends: [NamedPartition: Offset],
        _ configs: [Admin.Config]
    ) {
        print("\(topic.name)  id \(topic.id)\(topic.isInternal ? "  internal" : "")")
        for config in configs { print("  \(config.name)=\(config.value ?? "(hidden)")") }
        var table = Table("PARTITION", "LEADER", "EPOCH", "REPLICAS", "IN SYNC", "START", "END")
        for partition in topic.partitions {
            let name = NamedPartition(topic: topic.name, index: partition.index)
            table.add(
                String(partition.index),
                partition.leader?.description ?? "none",
                String(partition.leaderEpoch),
                partition.replicas.map(\.description).joined(separator: ","),
                partition.inSyncReplicas.map(\.description).joined(separator: ","),
                starts[name]?.description ?? Table.unknown,
                ends[name]?.description ?? Table.unknown
            )
        }
        print(table.text)
    }

    private func json(
        _ topic: ClusterMetadata.Topic,
        _ starts: [NamedPartition: Offset],
        _ ends: [NamedPartition: Offset],
        _ configs: [Admin.Config]
    ) -> String {
        let partitions = topic.partitions.map { partition in
            let name = NamedPartition(topic: topic.name, index: partition.index)
            return JSONText.object([
                "partition": String(partition.index),
                "leader": partition.leader?.description ?? "null",
                "epoch": String(partition.leaderEpoch),
                "replicas": JSONText.array(partition.replicas.map(\.description)),
                "in_sync": JSONText.array(partition.inSyncReplicas.map(\.description)),
                "start": starts[name]?.description ?? "null",
                "end": ends[name]?.description ?? "null",
            ])
        }
        let settings = configs.map { JSONText.quoted($0.name) + ":" + JSONText.optional($0.value) }
        return JSONText.object([
            "topic": JSONText.quoted(topic.name), "id": JSONText.quoted(topic.id.description),
            "internal": String(topic.isInternal), "partitions": JSONText.array(partitions),
            "configs": "{" + settings.joined(separator: ",") + "}",
        ])
    }
}

/// Settings on the command line.
enum TopicSettings {
    /// Reads `NAME=VALUE` pairs; times and sizes may have units, as in `retention.ms=7d`.
    static func read(_ pairs: [String]) throws(CommandFailure) -> [String: String] {
        var settings: [String: String] = [:]
        for pair in pairs {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty else {
                throw .usage("\"\(pair)\" is not NAME=VALUE")
            }
            settings[String(parts[0])] = normalized(String(parts[1]), name: String(parts[0]))
        }
        return settings
    }

    private static func normalized(_ value: String, name: String) -> String {
        guard Int64(value) == nil else { return value }
        if name.hasSuffix(".ms"), let span = Span(argument: value) {
            return String(span.milliseconds)
        }
        if name.hasSuffix(".bytes"), let size = Size(argument: value) {
            return String(size.byteCount)
        }
        return value
    }
}

/// `flotilla topic create`.
struct TopicCreateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create",
        abstract: "Create topics.",
        discussion: "flotilla topic create orders -p 6 --set retention.ms=7d"
    )

    @Argument(help: "The names.")
    var topics: [String]

    @OptionGroup var client: ClientOptions

    @Option(name: [.short, .long], help: "How many partitions; otherwise what the cluster says.")
    var partitions: Int32?

    @Option(name: [.short, .long], help: "How many replicas; otherwise what the cluster says.")
    var replicas: Int16?

    @Option(help: "NAME=VALUE, a setting; may be repeated.")
    var set: [String] = []

    @Flag(help: "It is no failure where a topic exists already.")
    var ifNotExists = false

    @Flag(help: "Only check.")
    var dryRun = false

    func run() async throws {
        try await client.run { client in
            let configs = try TopicSettings.read(set)
            let wanted = topics.map {
                Admin.NewTopic(
                    name: $0,
                    partitionCount: partitions,
                    replicationFactor: replicas,
                    configs: configs
                )
            }
            var outcomes = try await Admin(client).createTopics(wanted, isDryRun: dryRun)
            var missing = topics
            if ifNotExists {
                for name in topics {
                    guard case .refused(.topicAlreadyExists, _, _)?? = outcomes[name] else {
                        continue
                    }
                    outcomes[name] = nil
                    missing.removeAll { $0 == name }
                    self.client.note("topic \(name) exists")
                }
            }
            try Outcomes.conclude(
                outcomes,
                missing,
                verb: dryRun ? "could be created" : "created",
                self.client
            )
        }
    }
}

/// Says what became of several things.
enum Outcomes {
    static func conclude(
        _ outcomes: [String: ClientError?],
        _ names: [String],
        noun: String = "topic",
        verb: String,
        _ options: ClientOptions
    ) throws {
        var errors: [ClientError] = []
        for name in names {
            if let error = outcomes[name] ?? nil {
                errors.append(error)
            } else {
                options.note("\(noun) \(name) \(verb)")
            }
        }
        guard let first = errors.first else { return }
        if errors.count == names.count {
            for error in errors.dropLast() { CommandOutput.note("flotilla: \(error)") }
            throw errors.last ?? first
        }
        throw CommandFailure.partial(errors.map(\.description).joined(separator: "\nflotilla: "))
    }
}

/// `flotilla topic alter`.
struct TopicAlterCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "alter",
        abstract: "Change settings of a topic.",
        discussion: "flotilla topic alter orders --set retention.ms=1d --unset max.message.bytes"
    )

    @Argument(help: "The topic.")
    var topic: String

    @OptionGroup var client: ClientOptions

    @Option(help: "NAME=VALUE, a new value; may be repeated.")
    var set: [String] = []

    @Option(help: "A setting that goes back to its default; may be repeated.")
    var unset: [String] = []

    @Flag(help: "Only check, and show what would change; exit code 8 where something would.")
    var dryRun = false

    func run() async throws {
        try await client.run { client in
            var changes = try TopicSettings.read(set).mapValues { Admin.ConfigChange.set($0) }
            for name in unset { changes[name] = .unset }
            guard !changes.isEmpty else {
                throw CommandFailure.usage("nothing to change; name --set or --unset")
            }
            let admin = Admin(client)
            guard dryRun else {
                try await admin.alterConfigs(of: .topic(topic), changes)
                return self.client.note("topic \(topic) altered")
            }
            let now = try await admin.configs(of: .topic(topic))
            try await admin.alterConfigs(of: .topic(topic), changes, isDryRun: true)
            let differing = changes.sorted { $0.key < $1.key }.filter { name, change in
                let config = now.first { $0.name == name }
                return change == .unset
                    ? config?.isDefault == false : config?.value != change.newValue
            }
            for (name, change) in differing {
                let old = now.first { $0.name == name }?.value ?? ""
                print("\(name): \(old) -> \(change.newValue ?? "(default)")")
            }
            if !differing.isEmpty { throw CommandFailure.differs("topic \(topic) would change") }
        }
    }
}

extension Admin.ConfigChange {
    /// The value after it, nil for the default.
    var newValue: String? {
        guard case .set(let value) = self else { return nil }
        return value
    }
}

/// `flotilla topic delete`.
struct TopicDeleteCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete",
        abstract: "Delete topics and everything in them."
    )

    @Argument(help: "The topics.")
    var topics: [String]

    @OptionGroup var client: ClientOptions

    @Flag(help: "Only check that they exist.")
    var dryRun = false

    func run() async throws {
        try await client.run { client in
            if dryRun {
                for topic in try await Topics.find(topics, client) {
                    self.client.note("topic \(topic.name) would be deleted")
                }
                return
            }
            let outcomes = try await Admin(client).deleteTopics(topics)
            try Outcomes.conclude(outcomes, topics, verb: "deleted", self.client)
        }
    }
}

/// `flotilla topic add-partitions`.
struct TopicAddPartitionsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add-partitions",
        abstract: "Give a topic more partitions. Keys move: their partition depends on the number."
    )

    @Argument(help: "The topic.")
    var topic: String

    @OptionGroup var client: ClientOptions

    @Option(name: [.short, .long], help: "How many partitions there are to be: 12, or +4.")
    var partitions: String

    @Flag(help: "Only check.")
    var dryRun = false

    func run() async throws {
        try await client.run { client in
            guard let number = Int32(partitions), number > 0 else {
                throw CommandFailure.usage(
                    "-p takes a number of partitions, or + and how many more"
                )
            }
            var total = number
            if partitions.hasPrefix("+") {
                total += Int32(try await Topics.find([topic], client).first?.partitions.count ?? 0)
            }
            try await Admin(client).createPartitions(topic: topic, count: total, isDryRun: dryRun)
            self.client.note(
                "topic \(topic) \(dryRun ? "would have" : "has") \(Words.counted(Int(total), "partition"))"
            )
        }
    }
}

/// `flotilla topic trim`.
struct TopicTrimCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trim",
        abstract: "Delete the oldest records of a topic.",
        discussion: "flotilla topic trim orders --to @-7d"
    )

    @Argument(help: "The topic.")
    var topic: String

    @OptionGroup var client: ClientOptions

    @Option(
        name: .long,
        parsing: .unconditional,
        help: "The first place to keep: an offset, +n, -n, @time, or end for nothing."
    )
    var to: String

    @Option(
        name: [.short, .customLong("partition")],
        help: "Only this partition; may be repeated."
    )
    var partition: [Int32] = []

    @Flag(help: "Only show where the partitions would begin; exit code 8 where records would go.")
    var dryRun = false

    func run() async throws {
        try await client.run { client in
            guard let range = PlaceRange(to), range.end == nil else {
                throw CommandFailure.usage("--to \(to) is no place: an offset, +n, -n, @time, end")
            }
            let admin = Admin(client)
            let partitions = try await Topics.partitions(topic, partition, client)
            let places = try await range.start.resolve(partitions, admin)
            let starts = try await Place.named(.earliest).resolve(partitions, admin)
            if dryRun {
                for (partition, place) in places.sorted(by: { $0.key < $1.key }) {
                    print("\(partition): \(starts[partition] ?? .zero) -> \(place)")
                }
                if places.contains(where: { $0.value > starts[$0.key] ?? .zero }) {
                    throw CommandFailure.differs("topic \(topic) would be trimmed")
                }
                return
            }
            let wanted = places.filter { $0.value > starts[$0.key] ?? .zero }
            let trimmed = try await admin.deleteRecords(wanted.mapValues { .offset($0) })
            for (partition, start) in trimmed.sorted(by: { $0.key < $1.key }) {
                self.client.note("\(partition) begins at \(start)")
            }
        }
    }
}

/// `flotilla topic offsets`.
struct TopicOffsetsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "offsets",
        abstract: "Show where the partitions of topics begin and end."
    )

    @Argument(help: "The topics.")
    var topics: [String]

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions

    @Option(
        name: .long,
        parsing: .unconditional,
        help: "One place instead: @time (the first record from then on), +n, -n."
    )
    var at: String?

    func run() async throws {
        try await client.run { client in
            let admin = Admin(client)
            var partitions: [NamedPartition] = []
            for topic in topics { partitions += try await Topics.partitions(topic, [], client) }
            if let at {
                guard let range = PlaceRange(at), range.end == nil else {
                    throw CommandFailure.usage("--at \(at) is no place: @time, +n, -n")
                }
                return show(
                    ["offset": try await range.start.resolve(partitions, admin)],
                    partitions
                )
            }
            let starts = try await Place.named(.earliest).resolve(partitions, admin)
            let ends = try await Place.named(.latest).resolve(partitions, admin)
            show(["start": starts, "end": ends], partitions)
        }
    }

    private func show(
        _ columns: KeyValuePairs<String, [NamedPartition: Offset]>,
        _ partitions: [NamedPartition]
    ) {
        var lines: [[String]] = []
        for partition in partitions.sorted() {
            let offsets = columns.map { $0.value[partition]?.description ?? Table.unknown }
            switch output.format {
            case .json:
                let members = zip(columns, offsets).map { JSONText.quoted($0.key) + ":" + $1 }
                let name =
                    "\"topic\":\(JSONText.quoted(partition.topic)),\"partition\":\(partition.index)"
                print("{\(name),\(members.joined(separator: ","))}")
            case .name: print(offsets.last ?? "")
            case .table: lines.append([partition.topic, String(partition.index)] + offsets)
            }
        }
        guard output.format == .table else { return }
        var table = Table(["TOPIC", "PARTITION"] + columns.map { $0.key.uppercased() })
        for line in lines { table.add(line) }
        print(table.text)
    }
}
