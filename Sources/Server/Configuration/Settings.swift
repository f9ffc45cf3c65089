package import FlotillaCoordination
package import FlotillaEnvironment
package import FlotillaModel

/// A broker's settings, checked and in the units that the code uses.
package struct Settings: Sendable {
    /// One value and where it comes from.
    package struct Value: Hashable, Sendable {
        /// The setting's name.
        package var name: String
        /// The value in its one spelling; empty where there is none.
        package var text: String
        /// Where it was set.
        package var source: SettingSource
    }

    /// Every setting, in the order of the configuration file.
    package let values: [Value]
    /// What a person should know although it is no mistake: settings that change nothing here.
    package let notes: [String]

    /// The broker's id, when it is set.
    package let nodeID: BrokerID?
    /// The rack, when it is set.
    package let rack: String?
    /// Where the data is.
    package let dataDirectory: String
    /// Where the journal is.
    package let journalDirectory: String
    /// The size of a journal's file.
    package let journalFileByteCount: Int
    /// The most live bytes of the journal.
    package let journalLiveByteCount: Int
    /// Where Kafka clients connect; at least one.
    package let kafkaAddresses: [NetworkAddress]
    /// What clients are told; nil means the address by which each reached the broker.
    package let advertisedAddress: NetworkAddress?
    /// Where other brokers connect; nil for a broker that stays alone.
    package let peerAddress: NetworkAddress?
    /// What other brokers are told, when it is set.
    package let advertisedPeerAddress: NetworkAddress?
    /// The first brokers of the cluster; none for a broker that is a cluster of its own.
    package let joinList: JoinList
    /// Where HTTP answers.
    package let httpAddress: NetworkAddress
    /// How log lines look.
    package let logFormat: LogFormat
    /// Which log lines are written.
    package let logLevels: LogLevels
    /// Bytes of recent records kept in memory, over all shards.
    package let tailByteCount: Int
    /// Bytes of requests being worked on, over all shards.
    package let inFlightByteCount: Int
    /// Bytes of records in answers to fetches, over all shards.
    package let answerByteCount: Int
    /// Bytes of requests being worked on, per connection.
    package let connectionInFlightByteCount: Int
    /// What one connection may cost.
    package let connectionLimits: ConnectionLimits
    /// The most connections.
    package let maximumConnectionCount: Int
    /// The most connections from one address.
    package let maximumConnectionCountPerHost: Int
    /// The number of shards; nil means one per core.
    package let shardCount: Int?
    /// The number of worker threads; nil means by the number of cores.
    package let workerCount: Int?

    /// Settings by Kafka's names that were set somewhere, for `ConfigLayers(fixed:)`; without this
    /// broker's identity.
    package let brokerEntries: [ConfigEntry]

    /// Takes checked values; every definition has one.
    init(_ values: [Value], notes: [String]) {
        self.values = values
        self.notes = notes
        let reader = ValueReader(values)
        nodeID = reader.number("node.id").flatMap { $0 < 0 ? nil : BrokerID(Int32($0)) }
        rack = reader.text("broker.rack").isEmpty ? nil : reader.text("broker.rack")
        dataDirectory = reader.text("data.dir")
        let journal = reader.text("journal.dir")
        journalDirectory = journal.isEmpty ? dataDirectory + "/journal" : journal
        journalFileByteCount = reader.count("journal.file.bytes")
        let live = reader.count("journal.live.bytes")
        journalLiveByteCount = live == 0 ? 8 * journalFileByteCount : live
        kafkaAddresses = ListenAddress.list(reader.text("kafka.listeners")) ?? []
        advertisedAddress = ListenAddress.parse(reader.text("advertised.listeners"))
        peerAddress = ListenAddress.parse(reader.text("peer.listen"))
        advertisedPeerAddress = ListenAddress.parse(reader.text("peer.advertised"))
        joinList = JoinList(ListenAddress.list(reader.text("cluster.join")) ?? [])
        httpAddress = reader.address("http.listen")
        logFormat = LogFormat(rawValue: reader.text("logging.format")) ?? .auto
        logLevels = LogLevels(reader.text("logging.level")) ?? LogLevels()
        tailByteCount = reader.budget("memory.tail.bytes")
        inFlightByteCount = reader.budget("queued.max.request.bytes")
        answerByteCount = reader.budget("queued.max.response.bytes")
        connectionInFlightByteCount = reader.count("connection.queued.max.request.bytes")
        var limits = ConnectionLimits()
        limits.maximumFrameByteCount = reader.count("socket.request.max.bytes")
        let idle = reader.number("connections.max.idle.ms") ?? -1
        // Kafka's -1 means "never"; a hundred years are that for a connection.
        limits.idleTimeout =
            idle < 0 ? .seconds(100 * 365 * 86_400) : .milliseconds(min(idle, 3_153_600_000_000))
        connectionLimits = limits
        maximumConnectionCount = reader.count("max.connections")
        maximumConnectionCountPerHost = reader.count("max.connections.per.ip")
        shardCount =
            reader.count("num.network.threads") == 0 ? nil : reader.count("num.network.threads")
        workerCount = reader.count("num.io.threads") == 0 ? nil : reader.count("num.io.threads")
        brokerEntries = values.compactMap { value in
            let isKafkas = BrokerConfigTable.table.definition(value.name) != nil
            return isKafkas && value.source != .builtIn ? ConfigEntry(value.name, value.text) : nil
        }
    }

    /// The static layer of the broker's settings as Kafka's tools see it, with what the running
    /// broker knows.
    ///
    /// - Parameters:
    ///   - nodeID: the id in force.
    ///   - listeners: the addresses that are bound.
    /// - Returns: the layers without what is set while the brokers run.
    /// - Throws: never for checked settings.
    package func layers(nodeID: BrokerID, listeners: [NetworkAddress]) throws(CoordinationError)
        -> ConfigLayers
    {
        let derived = ["node.id", "broker.id", "listeners", "log.dir", "log.dirs"]
        var entries = brokerEntries.filter { !derived.contains($0.name) }
        entries.append(ConfigEntry("node.id", "\(nodeID)"))
        entries.append(ConfigEntry("broker.id", "\(nodeID)"))
        let bound = listeners.map { "PLAINTEXT://\($0)" }.joined(separator: ",")
        entries.append(ConfigEntry("listeners", bound))
        entries.append(ConfigEntry("log.dir", dataDirectory))
        entries.append(ConfigEntry("log.dirs", dataDirectory))
        return try ConfigLayers(fixed: entries)
    }

    /// One line per setting with its value and source, as `serve --print-config` shows it; the
    /// lines are TOML.
    package var printed: String {
        let lines = values.map { value in
            let text = ConfigFile.isBare(value.text) ? value.text : ConfigFile.quoted(value.text)
            return "\(ConfigFile.key(value.name)) = \(text)  # \(value.source)"
        }
        return lines.joined(separator: "\n") + "\n"
    }
}

/// Reads values that were checked before.
private struct ValueReader {
    private let values: [String: String]
    private let builtIn: Set<String>

    init(_ values: [Settings.Value]) {
        self.values = Dictionary(uniqueKeysWithValues: values.map { ($0.name, $0.text) })
        builtIn = Set(values.filter { $0.source == .builtIn }.map(\.name))
    }

    func text(_ name: String) -> String {
        guard let text = values[name] else {
            preconditionFailure("\(name) is defined")
        }
        return text
    }

    func number(_ name: String) -> Int64? {
        Int64(text(name))
    }

    /// A share of the memory: what is set, else a quarter of the limit, else the default.
    func budget(_ name: String) -> Int {
        let limit = count("memory.limit")
        return builtIn.contains(name) && limit > 0 ? max(1 << 20, limit / 4) : count(name)
    }

    func address(_ name: String) -> NetworkAddress {
        guard let address = ListenAddress.parse(text(name)) else {
            preconditionFailure("\(name) is an address with a default")
        }
        return address
    }

    func count(_ name: String) -> Int {
        guard let number = number(name) else {
            preconditionFailure("\(name) is a number with a default")
        }
        return Int(clamping: number)
    }
}
