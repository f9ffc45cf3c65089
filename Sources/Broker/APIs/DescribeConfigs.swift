import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// DescribeConfigs (32). SEMANTICS rules CFG-1 and CFG-2.
extension Shard {
    func handle(_ request: DescribeConfigsRequest, _ context: RequestContext) {
        context.respond(
            DescribeConfigsResponse(
                results: request.resources.map { resource in
                    describe(resource, request)
                }
            )
        )
    }

    private func describe(
        _ resource: DescribeConfigsRequest.DescribeConfigsResource,
        _ request: DescribeConfigsRequest
    ) -> DescribeConfigsResponse.DescribeConfigsResult {
        let names = resource.configurationKeys.flatMap { $0.isEmpty ? nil : $0 }
        var result = DescribeConfigsResponse.DescribeConfigsResult(
            errorMessage: nil,
            resourceType: resource.resourceType,
            resourceName: resource.resourceName
        )
        do throws(Refusal) {
            let configs: [DescribedConfig] =
                switch try ConfigResource(type: resource.resourceType, name: resource.resourceName)
                {
                case .topic(let name): try describeTopic(name, names)
                case .broker(let id): try describeBroker(id, names)
                case .allBrokers: layers.describeClusterDefault(names: names)
                case .group(let name):
                    layers.describeGroup(overrides: image.configs(ofGroup: name), names: names)
                }
            result.configs = configs.map { Self.result($0, request) }
        } catch {
            result.errorCode = error.code.rawValue
            result.errorMessage = error.message
        }
        return result
    }

    private func describeTopic(_ name: String, _ names: [String]?) throws(Refusal)
        -> [DescribedConfig]
    {
        guard TopicName.isValid(name) else {
            throw Refusal(.invalidTopicException, "not a topic name: \(name)")
        }
        guard let topic = image.topic(named: name) else {
            throw Refusal(.unknownTopicOrPartition, "there is no topic \(name)")
        }
        return layers.describeTopic(overrides: topic.configs, names: names)
    }

    private func describeBroker(_ id: BrokerID, _ names: [String]?) throws(Refusal)
        -> [DescribedConfig]
    {
        guard id == settings.broker else {
            throw Refusal(
                .invalidRequest,
                "this is broker \(settings.broker), not \(id): ask that one"
            )
        }
        return layers.describeBroker(names: names)
    }

    private static func result(
        _ config: DescribedConfig,
        _ request: DescribeConfigsRequest
    ) -> DescribeConfigsResponse.DescribeConfigsResourceResult {
        .init(
            name: config.name,
            value: config.isSensitive ? nil : config.value,
            readOnly: config.isReadOnly,
            configSource: config.source.rawValue,
            isSensitive: config.isSensitive,
            synonyms: request.includeSynonyms
                ? config.synonyms.map {
                    .init(name: $0.name, value: $0.value, source: $0.source.rawValue)
                } : [],
            configType: config.type.rawValue,
            documentation: request.includeDocumentation ? config.documentation : nil
        )
    }
}

extension ConfigResource {
    /// A resource as requests name it: 2 is a topic, 4 a broker (an empty name means all of them), 32 a consumer group.
    init(type: Int8, name: String) throws(Refusal) {
        switch type {
        case 2:
            self = .topic(name)
        case 4 where name.isEmpty:
            self = .allBrokers
        case 4:
            guard let id = Int32(name), id >= 0 else {
                throw Refusal(.invalidRequest, "not a broker id: \(name)")
            }
            self = .broker(BrokerID(id))
        case 32:
            self = .group(name)
        default:
            throw Refusal(.invalidRequest, "resources of type \(type) have no configuration here")
        }
    }
}
