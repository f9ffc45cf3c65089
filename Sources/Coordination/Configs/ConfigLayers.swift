package import FlotillaModel

/// What is set for a broker, in layers: for it alone, for all brokers, in its own file; beneath lie the built-in values.
///
/// Values are checked before they become a layer, so reading a layer never fails.
/// - Source: KIP-226 for the order of the layers.
package struct ConfigLayers: Hashable, Sendable {
    /// What the file, the environment and the flags say.
    package private(set) var fixed: ConfigValues
    /// What is set for all brokers while they run.
    package private(set) var dynamicDefault = ConfigValues()
    /// What is set for this broker while it runs.
    package private(set) var dynamicBroker = ConfigValues()

    /// The server's settings, under Kafka's names.
    ///
    /// - Throws: `.unknownConfig` or `.invalidConfig`, for the first that is wrong.
    package init(fixed: [ConfigEntry] = []) throws(CoordinationError) {
        self.fixed = try BrokerConfigTable.table.validated(fixed)
    }

    /// These layers with those of the metadata that concern the broker.
    package func with(_ image: MetadataImage, for broker: BrokerID) -> ConfigLayers {
        var layers = self
        layers.dynamicDefault = image.clusterConfigs
        layers.dynamicBroker = image.configs(of: broker)
        return layers
    }

    /// A broker's setting, by its most specific layer; nil when it has no value.
    package func value(_ name: String) -> String? {
        dynamicBroker[name] ?? dynamicDefault[name] ?? fixed[name]
            ?? BrokerConfigTable.table.definition(name)?.defaultValue
    }

    /// All values of a broker's setting, most specific first, the built-in one last.
    func values(_ name: String) -> [(source: ConfigSource, value: String)] {
        let layers: [(ConfigSource, String?)] = [
            (.dynamicBroker, dynamicBroker[name]),
            (.dynamicDefaultBroker, dynamicDefault[name]),
            (.staticBroker, fixed[name]),
            (.defaultConfig, BrokerConfigTable.table.definition(name)?.defaultValue),
        ]
        return layers.compactMap { source, value in value.map { (source, $0) } }
    }

    /// A topic's setting without the topic's own value; nil when it has none.
    func topicDefault(_ definition: ConfigDefinition) -> String? {
        for origin in definition.origins {
            if let value = value(origin.name) {
                return Self.scaled(value, by: origin.factor)
            }
        }
        return definition.defaultValue
    }

    /// A number in another unit; -1 stays -1, and what is too large becomes the largest number.
    static func scaled(_ value: String, by factor: Int64) -> String {
        guard factor != 1, let number = Int64(value), number > 0 else { return value }
        let (product, isTooLarge) = number.multipliedReportingOverflow(by: factor)
        return String(isTooLarge ? Int64.max : product)
    }
}

/// Reads values that were checked before they were stored.
struct ConfigReader {
    /// The table that the values were checked with.
    var table: ConfigTable
    /// Gives a setting's value.
    var value: (ConfigDefinition) -> String?

    func text(_ name: String) -> String {
        guard let definition = table.definition(name), let value = value(definition) else {
            preconditionFailure("\(name) is defined and has a value")
        }
        return value
    }

    func integer(_ name: String) -> Int64 {
        guard let number = Int64(text(name)) else {
            preconditionFailure("\(name) is checked before it is stored")
        }
        return number
    }

    func fraction(_ name: String) -> Double {
        guard let number = Double(text(name)) else {
            preconditionFailure("\(name) is checked before it is stored")
        }
        return number
    }

    func words(_ name: String) -> [String] {
        text(name).split(separator: ",").map(String.init)
    }

    func flag(_ name: String) -> Bool {
        text(name) == "true"
    }

    func word<Word: RawRepresentable<String>>(_ name: String, as type: Word.Type = Word.self)
        -> Word
    {
        guard let word = Word(rawValue: text(name)) else {
            preconditionFailure("\(name) is checked before it is stored")
        }
        return word
    }
}
