import FlotillaCoordination

/// Every setting that a file, a variable or a flag may name: the server's own, and those that Kafka
/// has.
package enum SettingTable {
    /// What the variables of settings begin with.
    package static let variablePrefix = "FLOTILLA_"

    /// The settings, the server's own first, in the order of the configuration file.
    package static let definitions: [SettingDefinition] = own + kafkas

    /// The setting of this name.
    package static func definition(_ name: String) -> SettingDefinition? {
        byName[name]
    }

    /// The name that a person may have meant; nil when none is like it.
    package static func nearest(to name: String) -> String? {
        let limit = max(2, name.count / 3)
        guard name.count <= EditDistance.maximumCharacterCount else {
            return nil
        }
        var best: (distance: Int, name: String)?
        for definition in definitions {
            let distance = EditDistance.between(name, definition.name)
            if distance <= limit, distance < best?.distance ?? Int.max {
                best = (distance, definition.name)
            }
        }
        return best?.name
    }

    /// Names of Kafka's whose meaning another setting has here.
    static let renamed = [
        "listeners": "kafka.listeners", "log.dir": "data.dir", "log.dirs": "data.dir",
        "broker.id": "node.id",
    ]

    private static let byName = Dictionary(uniqueKeysWithValues: definitions.map { ($0.name, $0) })

    // MARK: The server's own

    private static let own: [SettingDefinition] = [
        SettingDefinition(
            "node.id",
            .integer(-1...Int64(Int32.max)),
            default: "-1",
            "This broker's id, for good; -1 takes the one that the data directory has, or 1."
        ),
        SettingDefinition(
            "data.dir",
            .text,
            default: "flotilla-data",
            "Where the broker keeps its data. One broker uses a directory at a time."
        ),
        SettingDefinition(
            "journal.dir",
            .text,
            default: "",
            "Where the journal lies; empty means the folder journal of data.dir. Best on a device of its own."
        ),
        SettingDefinition(
            "journal.file.bytes",
            .bytes(1 << 20...1 << 30),
            default: "64MiB",
            "The size of one file of the journal. Files are written in turn and used again."
        ),
        SettingDefinition(
            "journal.live.bytes",
            .bytes(0...1 << 40),
            default: "0",
            "The most bytes of the journal that segments do not hold yet; producers wait beyond. "
                + "0 means eight files. Producers are refused while less than twice as much is free."
        ),
        SettingDefinition(
            "kafka.listeners",
            .addresses,
            default: ":9092",
            "Where Kafka clients connect. An empty host means every address of the machine; port 0 picks a free one."
        ),
        SettingDefinition(
            "advertised.listeners",
            .addressOrAuto,
            default: "auto",
            "The address that clients are told; auto tells each client the one by which it reached the broker."
        ),
        SettingDefinition(
            "peer.listen",
            .address,
            default: nil,
            sample: ":9192",
            "Where the other brokers of the cluster connect; a broker that stays alone needs none."
        ),
        SettingDefinition(
            "peer.advertised",
            .address,
            default: nil,
            sample: "b1.example:9192",
            check: { try SeedAddresses.checked($0) },
            "The address that other brokers are told; without it, the one of cluster.join that is this "
                + "broker, or the host of peer.listen, or the name of the machine."
        ),
        SettingDefinition(
            "cluster.join",
            .addresses,
            default: nil,
            sample: "b1.example:9192,b2.example:9192,b3.example:9192",
            check: { try SeedAddresses.checked($0) },
            "The first brokers of the cluster, by their peer addresses, the same list for all of them. "
                + "When all of these answer and are empty they form a cluster; any other broker joins it. "
                + "Without a list the broker is a cluster of its own."
        ),
        SettingDefinition(
            "http.listen",
            .address,
            default: ":9644",
            "Where health checks, metrics, the admin API and the console answer."
        ),
        SettingDefinition(
            "logging.format",
            .word(["auto", "logfmt", "json"]),
            default: "auto",
            "How log lines look; auto means logfmt on a terminal and JSON elsewhere."
        ),
        SettingDefinition(
            "logging.level",
            .levels,
            default: "info",
            "From which level on lines are written; components may have their own: info,journal=debug."
        ),
        SettingDefinition(
            "memory.limit",
            .bytes(0...1 << 40),
            default: "0",
            "About how much memory the broker may use. memory.tail.bytes, queued.max.request.bytes "
                + "and queued.max.response.bytes are a quarter of it each where they are not set; 0 leaves "
                + "them as they are."
        ),
        SettingDefinition(
            "memory.tail.bytes",
            .bytes(1 << 20...1 << 40),
            default: "128MiB",
            "Recent records kept in memory for consumers that keep up, over all partitions."
        ),
        SettingDefinition(
            "queued.max.request.bytes",
            .bytes(1 << 20...1 << 40),
            default: "512MiB",
            "The most bytes of requests being worked on; beyond, no connection is read."
        ),
        SettingDefinition(
            "queued.max.response.bytes",
            .bytes(1 << 20...1 << 40),
            default: "256MiB",
            "The most bytes of records that answers to fetches hold in memory until the clients have taken "
                + "them; beyond, fetches get less or wait."
        ),
        SettingDefinition(
            "connection.queued.max.request.bytes",
            .bytes(1...1 << 40),
            default: "64MiB",
            "The most bytes of requests that one connection may have unanswered; one request is always taken."
        ),
        SettingDefinition(
            "num.network.threads",
            .integer(0...1024),
            default: "0",
            "Event loops, each with its share of the partitions; 0 means one per core."
        ),
        SettingDefinition(
            "num.io.threads",
            .integer(0...1024),
            default: "0",
            "Threads for cold reads, segment writes and compression; 0 means twice the cores, at least 4."
        ),
    ]

    // MARK: Kafka's

    /// Settings of Kafka's that the server reads as well, or reads in another way.
    private static let ownNames = Set(own.map(\.name))

    /// Whatever belongs to parts of Kafka that this version does not serve yet.
    private static let notServedYet = [
        "group.consumer.", "group.coordinator.", "group.share.", "transaction.", "transactional.",
        "sasl.", "authorizer.",
        "super.users",
        "allow.everyone", "connections.max.reauth", "connection.failed.", "quota.", "replica.",
        "log.cleaner.",
        "listener.security",
    ]

    private static let kafkas: [SettingDefinition] = BrokerConfigTable.table.definitions
        .filter { !ownNames.contains($0.name) && renamed[$0.name] == nil }
        .map(definition(of:))

    private static func definition(of config: ConfigDefinition) -> SettingDefinition {
        SettingDefinition(
            config.name,
            kind(of: config),
            default: config.defaultValue.map { text($0, of: config) },
            scope: scope(of: config),
            isLive: config.updateMode == .live,
            inertness: inertness(of: config),
            check: { try config.canonical($0) },
            config.documentation
        )
    }

    private static func kind(of config: ConfigDefinition) -> SettingKind {
        switch config.type {
        case .boolean: .boolean
        case .double: .decimal
        case .string, .list, .class, .password: wordKind(of: config)
        case .int, .short, .long: numberKind(of: config)
        }
    }

    private static func wordKind(of config: ConfigDefinition) -> SettingKind {
        if case .words(let words) = config.constraint, !config.isList {
            .word(words)
        } else {
            .text
        }
    }

    private static func numberKind(of config: ConfigDefinition) -> SettingKind {
        let range =
            switch config.constraint {
            case .range(let range): range
            case .level(let range): min(range.lowerBound, -1)...range.upperBound
            case .any, .fraction, .words: Int64.min...Int64.max
            }
        return if config.name.hasSuffix(".bytes") {
            .bytes(range)
        } else if config.name.hasSuffix(".ms") {
            .duration(range)
        } else {
            .integer(range)
        }
    }

    private static func text(_ value: String, of config: ConfigDefinition) -> String {
        guard let number = Int64(value), number > 0, number < Int64.max else {
            return value
        }
        return switch numberKind(of: config) {
        case .bytes: Quantity.text(byteCount: number)
        case .duration: Quantity.text(milliseconds: number)
        default: value
        }
    }

    private static func scope(of config: ConfigDefinition) -> SettingScope {
        let isTopicDefault = TopicConfigTable.table.definitions.contains { topic in
            topic.origins.contains { $0.name == config.name }
        }
        return isTopicDefault ? .topic : config.updateMode == .live ? .cluster : .node
    }

    private static func inertness(of config: ConfigDefinition) -> String? {
        if case .accepted(let reason) = config.effect {
            return reason
        }
        return notServedYet.contains { config.name.hasPrefix($0) }
            ? "It has no effect in this version." : nil
    }
}
