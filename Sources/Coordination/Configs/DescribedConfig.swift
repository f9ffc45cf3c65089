/// One value of a setting, and the layer it lies in.
package struct ConfigSynonym: Hashable, Sendable {
    /// The name in that layer: `log.retention.hours` gives a topic's `retention.ms`.
    package var name: String
    /// The value in that layer, in its own unit; nil when it is a secret.
    package var value: String?
    /// The layer.
    package var source: ConfigSource
}

/// A setting as DescribeConfigs shows it.
package struct DescribedConfig: Hashable, Sendable {
    /// The name.
    package var name: String
    /// The value in force; nil when there is none, or when it is a secret.
    package var value: String?
    /// Whether only a restart changes it.
    package var isReadOnly: Bool
    /// Where the value comes from.
    package var source: ConfigSource
    /// Whether it is a secret.
    package var isSensitive: Bool
    /// All values, most specific first.
    package var synonyms: [ConfigSynonym]
    /// The type.
    package var type: ConfigType
    /// A sentence or two for people.
    package var documentation: String

    /// Whether nobody set it.
    package var isDefault: Bool {
        source == .defaultConfig
    }
}

/// - Source: SEMANTICS rule CFG-1: names that do not exist are left out without an error.
extension ConfigLayers {
    /// A topic's settings, sorted by name.
    ///
    /// - Parameters:
    ///   - overrides: what is set on the topic.
    ///   - names: those wanted; nil or empty is all.
    /// - Returns: one description per setting that exists.
    package func describeTopic(overrides: ConfigValues, names: [String]? = nil) -> [DescribedConfig]
    {
        Self.wanted(names, of: TopicConfigTable.table).map { definition in
            let synonyms = topicSynonyms(definition, overrides: overrides)
            return Self.described(
                definition,
                value: overrides[definition.name] ?? topicDefault(definition),
                synonyms: synonyms,
                isReadOnly: false
            )
        }
    }

    /// This broker's settings, sorted by name.
    ///
    /// - Parameter names: those wanted; nil or empty is all.
    /// - Returns: one description per setting that exists.
    package func describeBroker(names: [String]? = nil) -> [DescribedConfig] {
        Self.wanted(names, of: BrokerConfigTable.table).map { definition in
            let synonyms = values(definition.name).map { source, value in
                ConfigSynonym(name: definition.name, value: value, source: source)
            }
            return Self.described(
                definition,
                value: value(definition.name),
                synonyms: synonyms,
                isReadOnly: definition.updateMode == .readOnly
            )
        }
    }

    /// What is set for all brokers while they run, sorted by name; settings that are not set are left out, as in Kafka.
    ///
    /// - Parameter names: those wanted; nil or empty is all.
    /// - Returns: one description per setting that is set.
    package func describeClusterDefault(names: [String]? = nil) -> [DescribedConfig] {
        Self.wanted(names, of: BrokerConfigTable.table).compactMap { definition in
            guard let value = dynamicDefault[definition.name] else { return nil }
            let synonym = ConfigSynonym(
                name: definition.name,
                value: value,
                source: .dynamicDefaultBroker
            )
            return Self.described(definition, value: value, synonyms: [synonym], isReadOnly: false)
        }
    }

    /// What is set for a consumer group, sorted by name; settings that are not set are left out.
    ///
    /// `names`: those wanted; nil or empty is all.
    package func describeGroup(
        overrides: ConfigValues,
        names: [String]? = nil
    ) -> [DescribedConfig] {
        Self.wanted(names, of: GroupConfig.table).compactMap { definition in
            guard let value = overrides[definition.name] else { return nil }
            let synonym = ConfigSynonym(name: definition.name, value: value, source: .dynamicGroup)
            return Self.described(definition, value: value, synonyms: [synonym], isReadOnly: false)
        }
    }

    private func topicSynonyms(_ definition: ConfigDefinition, overrides: ConfigValues)
        -> [ConfigSynonym]
    {
        var synonyms: [ConfigSynonym] = []
        if let value = overrides[definition.name] {
            synonyms.append(
                ConfigSynonym(name: definition.name, value: value, source: .dynamicTopic)
            )
        }
        for origin in definition.origins {
            synonyms += values(origin.name).map { source, value in
                ConfigSynonym(name: origin.name, value: value, source: source)
            }
        }
        if let value = definition.defaultValue, synonyms.last?.source != .defaultConfig {
            synonyms.append(
                ConfigSynonym(name: definition.name, value: value, source: .defaultConfig)
            )
        }
        return synonyms
    }

    private static func wanted(_ names: [String]?, of table: ConfigTable) -> [ConfigDefinition] {
        guard let names, !names.isEmpty else { return table.definitions }
        return table.definitions.filter { names.contains($0.name) }
    }

    private static func described(
        _ definition: ConfigDefinition,
        value: String?,
        synonyms: [ConfigSynonym],
        isReadOnly: Bool
    ) -> DescribedConfig {
        let isSensitive = definition.type == .password
        let shown = synonyms.map { synonym in
            ConfigSynonym(
                name: synonym.name,
                value: isSensitive ? nil : synonym.value,
                source: synonym.source
            )
        }
        return DescribedConfig(
            name: definition.name,
            value: isSensitive ? nil : value,
            isReadOnly: isReadOnly,
            source: synonyms.first?.source ?? .defaultConfig,
            isSensitive: isSensitive,
            synonyms: shown,
            type: definition.type,
            documentation: definition.documentation
        )
    }
}
