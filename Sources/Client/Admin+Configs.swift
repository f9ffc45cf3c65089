import FlotillaKafkaWire
public import FlotillaModel

extension Admin {
    /// What a setting belongs to.
    public enum ConfigResource: Hashable, Sendable, CustomStringConvertible {
        /// A topic by its name.
        case topic(String)
        /// A broker by its id.
        case broker(BrokerID)

        var kind: Int8 {
            switch self {
            case .topic: 2
            case .broker: 4
            }
        }

        var name: String {
            switch self {
            case .topic(let name): name
            case .broker(let id): id.description
            }
        }

        /// What an error code means that was answered about it.
        func error(_ code: Int16, _ message: String?) -> ClientError? {
            switch self {
            case .topic(let name): ClientError(code: code, topic: name, message: message)
            case .broker: ClientError(code: code, subject: description, message: message)
            }
        }

        /// `topic <name>`, `broker <id>`.
        public var description: String {
            switch self {
            case .topic(let name): "topic \(name)"
            case .broker(let id): "broker \(id)"
            }
        }
    }

    /// A setting and where its value comes from.
    public struct Config: Hashable, Sendable {
        /// Kafka's name of it.
        public var name: String
        /// The value; nil where it is secret or has none.
        public var value: String?
        /// Whether it is set nowhere.
        public var isDefault: Bool
        /// Whether it cannot be changed while the broker runs.
        public var isReadOnly: Bool
        /// Whether its value is kept back.
        public var isSensitive: Bool
    }

    /// A change of one setting.
    public enum ConfigChange: Hashable, Sendable {
        /// Takes this value.
        case set(String)
        /// Goes back to the default.
        case unset
        /// Adds to a list.
        case append(String)
        /// Removes from a list.
        case subtract(String)

        var operation: Int8 {
            switch self {
            case .set: 0
            case .unset: 1
            case .append: 2
            case .subtract: 3
            }
        }

        var value: String? {
            switch self {
            case .set(let value), .append(let value), .subtract(let value): value
            case .unset: nil
            }
        }
    }

    /// The settings of a topic or broker, by name.
    public func configs(of resource: ConfigResource) async throws(ClientError) -> [Config] {
        let response = try await client.retrying { () async throws(ClientError) in
            let response = try await client.request(to: target(of: resource)) { _ in
                DescribeConfigsRequest(
                    resources: [
                        .init(
                            resourceType: resource.kind,
                            resourceName: resource.name,
                            configurationKeys: nil
                        )
                    ]
                )
            }
            for result in response.results {
                if let error = resource.error(result.errorCode, result.errorMessage) { throw error }
            }
            return response
        }
        let configs = response.results.flatMap(\.configs).map { config in
            // Source 5 is the default; version 0 says so with a field of its own.
            let isDefault = config.configSource == -1 ? config.isDefault : config.configSource == 5
            return Config(
                name: config.name,
                value: config.value,
                isDefault: isDefault,
                isReadOnly: config.readOnly,
                isSensitive: config.isSensitive
            )
        }
        return configs.sorted { $0.name < $1.name }
    }

    /// Changes settings, or only checks the changes; what is not named stays as it is.
    public func alterConfigs(
        of resource: ConfigResource,
        _ changes: [String: ConfigChange],
        isDryRun: Bool = false
    ) async throws(ClientError) {
        let list = changes.sorted { $0.key < $1.key }.map { name, change in
            IncrementalAlterConfigsRequest.AlterableConfig(
                name: name,
                configOperation: change.operation,
                value: change.value
            )
        }
        let response = try await client.retrying { () async throws(ClientError) in
            try await client.request(to: target(of: resource)) { _ in
                IncrementalAlterConfigsRequest(
                    resources: [
                        .init(
                            resourceType: resource.kind,
                            resourceName: resource.name,
                            configs: list
                        )
                    ],
                    validateOnly: isDryRun
                )
            }
        }
        for answer in response.responses {
            if let error = resource.error(answer.errorCode, answer.errorMessage) { throw error }
        }
    }

    /// A broker's settings are known to it alone.
    private func target(of resource: ConfigResource) -> Core.Target {
        switch resource {
        case .topic: .controller
        case .broker(let id): .broker(id)
        }
    }

    /// A broker's directory for data.
    public struct LogDirectory: Hashable, Sendable {
        /// The broker.
        public var broker: BrokerID
        /// The path there.
        public var path: String
        /// The bytes of each partition in it.
        public var partitionByteCounts: [NamedPartition: Int64]
        /// The size of its volume, nil where the broker does not say.
        public var totalByteCount: Int64?
        /// What is free there, nil where the broker does not say.
        public var usableByteCount: Int64?
    }

    /// The directories of brokers, or why one does not tell; all are asked at the same time.
    ///
    /// `limit`: how long one may take; nil for as long as any request.
    public func logDirectories(
        of brokers: [BrokerID],
        within limit: Duration? = nil
    ) async -> [BrokerID: Result<[LogDirectory], ClientError>] {
        await withTaskGroup(of: (BrokerID, Result<[LogDirectory], ClientError>).self) { group in
            for broker in brokers {
                group.addTask {
                    do throws(ClientError) {
                        let limit = limit ?? client.configuration.requestTimeout
                        let found = try await client.within(limit) { () async throws(ClientError) in
                            try await logDirectories(of: broker)
                        }
                        return (broker, .success(found))
                    } catch {
                        return (broker, .failure(error))
                    }
                }
            }
            var answers: [BrokerID: Result<[LogDirectory], ClientError>] = [:]
            for await (broker, answer) in group { answers[broker] = answer }
            return answers
        }
    }

    private func logDirectories(of broker: BrokerID) async throws(ClientError) -> [LogDirectory] {
        let response = try await client.request(to: .broker(broker)) { _ in
            DescribeLogDirsRequest(topics: nil)
        }
        if let error = ClientError(code: response.errorCode, subject: "broker \(broker)") {
            throw error
        }
        var directories: [LogDirectory] = []
        for result in response.results {
            if let error = ClientError(code: result.errorCode, subject: result.logDir) {
                throw error
            }
            var sizes: [NamedPartition: Int64] = [:]
            for topic in result.topics {
                for partition in topic.partitions {
                    let name = NamedPartition(topic: topic.name, index: partition.partitionIndex)
                    sizes[name] = partition.partitionSize
                }
            }
            directories.append(
                LogDirectory(
                    broker: broker,
                    path: result.logDir,
                    partitionByteCounts: sizes,
                    totalByteCount: result.totalBytes < 0 ? nil : result.totalBytes,
                    usableByteCount: result.usableBytes < 0 ? nil : result.usableBytes
                )
            )
        }
        return directories
    }
}
