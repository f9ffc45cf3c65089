package import FlotillaModel

/// Whose settings are meant.
package enum ConfigResource: Hashable, Comparable, Sendable {
    /// A topic's.
    case topic(String)
    /// One broker's, while it runs.
    case broker(BrokerID)
    /// Those of all brokers, while they run: a broker resource with an empty name.
    case allBrokers
    /// A consumer group's, whether it is there or not.
    case group(String)
}

/// What is done to a setting, as Kafka numbers it on the wire.
///
/// - Source: KIP-339.
package enum ConfigOperation: Int8, Hashable, Sendable {
    /// Gives it a value.
    case set = 0
    /// Takes its value away, so that the default holds again.
    case delete = 1
    /// Adds elements to a list.
    case append = 2
    /// Takes elements from a list.
    case subtract = 3
}

/// Changes of single settings.
package struct ConfigAlteration: Hashable, Sendable {
    /// One change.
    package struct Step: Hashable, Sendable {
        /// The setting.
        package var name: String
        /// What is done to it.
        package var operation: ConfigOperation
        /// With what; `delete` needs nothing.
        package var value: String?

        /// States a change.
        package init(_ operation: ConfigOperation, _ name: String, _ value: String?) {
            self.name = name
            self.operation = operation
            self.value = value
        }
    }

    /// Whose settings.
    package var resource: ConfigResource
    /// The changes; all are made or none.
    package var steps: [Step]

    /// States changes.
    package init(resource: ConfigResource, steps: [Step]) {
        self.resource = resource
        self.steps = steps
    }
}

/// A whole new set of settings.
package struct ConfigReplacement: Hashable, Sendable {
    /// Whose settings.
    package var resource: ConfigResource
    /// All that is to be set; what is not named returns to its default.
    package var configs: [ConfigChange]

    /// States the new set.
    package init(resource: ConfigResource, configs: [ConfigChange]) {
        self.resource = resource
        self.configs = configs
    }
}

/// The answer for one resource.
package struct ConfigOutcome: Sendable {
    /// Whose settings.
    package var resource: ConfigResource
    /// What is set from then on, or why nothing changed.
    package var result: Result<ConfigValues, Refusal>

    /// States an outcome.
    package init(resource: ConfigResource, result: Result<ConfigValues, Refusal>) {
        self.resource = resource
        self.result = result
    }
}

/// Commands about settings.
extension Controller {
    /// Changes single settings; the changes of a resource are made all or not at all.
    ///
    /// - Returns: one outcome per resource; one that comes twice has one, a refusal.
    /// - Source: SEMANTICS rule CFG-3.
    package mutating func incrementalAlterConfigs(
        _ alterations: [ConfigAlteration],
        validateOnly: Bool = false
    ) throws(Refusal) -> Decision<ConfigOutcome> {
        try alter(alterations.map(\.resource), validateOnly: validateOnly) {
            place,
            current,
            table throws(Refusal) in
            try Self.altered(current, by: alterations[place].steps, table: table)
        }
    }

    /// Replaces all settings of the resources.
    ///
    /// - Returns: one outcome per resource; one that comes twice has one, a refusal.
    /// - Source: SEMANTICS rule CFG-4.
    package mutating func alterConfigs(
        _ replacements: [ConfigReplacement],
        validateOnly: Bool = false
    ) throws(Refusal) -> Decision<ConfigOutcome> {
        try alter(replacements.map(\.resource), validateOnly: validateOnly) {
            place,
            _,
            table throws(Refusal) in
            let steps = replacements[place].configs.map {
                ConfigAlteration.Step(.set, $0.name, $0.value)
            }
            return try Self.altered(ConfigValues(), by: steps, table: table)
        }
    }

    private mutating func alter(
        _ resources: [ConfigResource],
        validateOnly: Bool,
        _ change: (Int, ConfigValues, ConfigTable) throws(Refusal) -> ConfigValues
    ) throws(Refusal) -> Decision<ConfigOutcome> {
        try decide(validateOnly: validateOnly) { draft throws(Refusal) in
            try Self.requireCluster(draft.image)
            let known = Occurrences(resources)
            var outcomes: [ConfigOutcome] = []
            for (place, resource) in resources.enumerated() where known.isFirst(at: place) {
                let result = Self.result { () throws(Refusal) in
                    guard !known.isRepeated(resource) else {
                        throw Refusal(.invalidRequest, "one resource comes twice in the request")
                    }
                    let (current, table) = try draft.configs(of: resource)
                    let target = try change(place, current, table)
                    try draft.put(target, for: resource, instead: current)
                    return target
                }
                outcomes.append(ConfigOutcome(resource: resource, result: result))
            }
            return outcomes
        }
    }

    private static func altered(
        _ current: ConfigValues,
        by steps: [ConfigAlteration.Step],
        table: ConfigTable
    ) throws(Refusal) -> ConfigValues {
        guard !steps.contains(where: { step in steps.count { $0.name == step.name } > 1 }) else {
            throw Refusal(.invalidRequest, "a setting comes twice for one resource")
        }
        var target = current
        for step in steps {
            let definition = try refusing { () throws(CoordinationError) in
                try table.expect(step.name)
            }
            if let definition {
                target[step.name] = try value(after: step, definition: definition, current: current)
            }
        }
        return target
    }

    private static func value(
        after step: ConfigAlteration.Step,
        definition: ConfigDefinition,
        current: ConfigValues
    ) throws(Refusal) -> String? {
        guard step.operation != .delete else { return nil }
        guard let value = step.value else {
            throw Refusal(.invalidConfig, "\(step.name) has no value")
        }
        switch step.operation {
        case .delete, .set:
            return try refusing { () throws(CoordinationError) in try definition.canonical(value) }
        case .append, .subtract:
            guard definition.isList else {
                throw Refusal(
                    .invalidConfig,
                    "\(step.name) is no list; it can only be set or deleted"
                )
            }
            let before = ConfigList.elements(
                of: current[step.name] ?? definition.defaultValue ?? ""
            )
            let named = ConfigList.elements(of: value)
            let after =
                step.operation == .append
                ? before + named.filter { !before.contains($0) }
                : before.filter { !named.contains($0) }
            return try refusing { () throws(CoordinationError) in
                try definition.canonical(ConfigList.text(of: after))
            }
        }
    }

    static func refusing<Value>(_ body: () throws(CoordinationError) -> Value) throws(Refusal)
        -> Value
    {
        do {
            return try body()
        } catch {
            throw Refusal(error)
        }
    }
}

extension Draft {
    fileprivate func configs(of resource: ConfigResource) throws(Refusal) -> (
        ConfigValues, ConfigTable
    ) {
        switch resource {
        case .topic(let name):
            guard let topic = image.topic(named: name) else {
                throw Refusal(.unknownTopicOrPartition, "there is no topic \(name)")
            }
            return (topic.configs, TopicConfigTable.table)
        case .broker(let broker):
            guard image.brokers[broker] != nil else {
                throw Refusal(.invalidRequest, "there is no broker \(broker)")
            }
            return (image.configs(of: broker), BrokerConfigTable.table)
        case .allBrokers:
            return (image.clusterConfigs, BrokerConfigTable.table)
        case .group(let name):
            guard !name.isEmpty, name.utf8.count <= GroupConfig.nameByteLimit else {
                throw Refusal(
                    .invalidRequest,
                    "a group has a name, of at most \(GroupConfig.nameByteLimit) bytes"
                )
            }
            return (image.configs(ofGroup: name), GroupConfig.table)
        }
    }

    fileprivate mutating func put(
        _ target: ConfigValues,
        for resource: ConfigResource,
        instead current: ConfigValues
    ) throws(Refusal) {
        let changes = current.changes(to: target)
        switch resource {
        case .topic(let name):
            try Controller.refusing { () throws(CoordinationError) in
                try TopicConfig.checkTogether(target)
            }
            if !changes.isEmpty, let topic = image.topic(named: name) {
                add(.topicConfigsChanged(topic: topic.id, changes: changes))
            }
        case .broker(let broker):
            try checkLive(changes)
            if !changes.isEmpty {
                add(.brokerConfigsChanged(broker: broker, changes: changes))
            }
        case .allBrokers:
            try checkLive(changes)
            if !changes.isEmpty {
                add(.brokerConfigsChanged(broker: nil, changes: changes))
            }
        case .group(let name):
            if !changes.isEmpty { add(.groupConfigsChanged(group: name, changes: changes)) }
        }
    }

    private func checkLive(_ changes: [ConfigChange]) throws(Refusal) {
        for change in changes
        where BrokerConfigTable.table.definition(change.name)?.updateMode == .readOnly {
            throw Refusal(.readOnlyConfig(name: change.name))
        }
    }
}
