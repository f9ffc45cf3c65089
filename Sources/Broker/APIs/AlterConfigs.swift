import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// AlterConfigs (33) and IncrementalAlterConfigs (44). SEMANTICS rules CFG-3 and CFG-4.
extension Shard {
    func handle(_ request: IncrementalAlterConfigsRequest, _ context: RequestContext) {
        let items = request.resources.map { resource in
            (resource.resourceType, resource.resourceName) as ResourceKey
        }
        var alterations: [ConfigAlteration] = []
        let refusals = zip(items, request.resources).map { key, resource -> Refusal? in
            do throws(Refusal) {
                let target = try alterable(key)
                var steps: [ConfigAlteration.Step] = []
                for config in resource.configs {
                    guard let operation = ConfigOperation(rawValue: config.configOperation) else {
                        throw Refusal(
                            .invalidRequest,
                            "operation \(config.configOperation) is not known"
                        )
                    }
                    if operation == .set { try checkBounds(target, config.name, config.value) }
                    steps.append(ConfigAlteration.Step(operation, config.name, config.value))
                }
                alterations.append(ConfigAlteration(resource: target, steps: steps))
                return nil
            } catch {
                return error
            }
        }
        alter(
            .incrementalAlterConfigs(alterations, validateOnly: request.validateOnly),
            items,
            refusals
        ) { outcomes in
            context.respond(
                IncrementalAlterConfigsResponse(
                    responses: zip(items, outcomes).map { key, refusal in
                        .init(
                            errorCode: (refusal?.code ?? .noError).rawValue,
                            errorMessage: refusal?.message,
                            resourceType: key.type,
                            resourceName: key.name
                        )
                    }
                )
            )
        }
    }

    func handle(_ request: AlterConfigsRequest, _ context: RequestContext) {
        let items = request.resources.map { resource in
            (resource.resourceType, resource.resourceName) as ResourceKey
        }
        var replacements: [ConfigReplacement] = []
        let refusals = zip(items, request.resources).map { key, resource -> Refusal? in
            do throws(Refusal) {
                let target = try alterable(key)
                for config in resource.configs {
                    try checkBounds(target, config.name, config.value)
                }
                let configs = resource.configs.map { ConfigChange($0.name, $0.value) }
                replacements.append(ConfigReplacement(resource: target, configs: configs))
                return nil
            } catch {
                return error
            }
        }
        alter(.alterConfigs(replacements, validateOnly: request.validateOnly), items, refusals) {
            outcomes in
            context.respond(
                AlterConfigsResponse(
                    responses: zip(items, outcomes).map { key, refusal in
                        .init(
                            errorCode: (refusal?.code ?? .noError).rawValue,
                            errorMessage: refusal?.message,
                            resourceType: key.type,
                            resourceName: key.name
                        )
                    }
                )
            )
        }
    }

    /// A resource as requests name it.
    private typealias ResourceKey = (type: Int8, name: String)

    private func alterable(_ key: ResourceKey) throws(Refusal) -> ConfigResource {
        let resource = try ConfigResource(type: key.type, name: key.name)
        if case .broker(let id) = resource, id != settings.broker {
            throw Refusal(
                .invalidRequest,
                "this is broker \(settings.broker), not \(id): ask that one"
            )
        }
        return resource
    }

    /// What groups set for themselves has bounds that each broker's file says, so the metadata cannot know them.
    private func checkBounds(
        _ resource: ConfigResource,
        _ name: String,
        _ value: String?
    ) throws(Refusal) {
        guard case .group = resource else { return }
        try config.groupConfigBounds.check(name, value)
    }

    /// Has the alterations made, and tells for each resource of the request why it was refused, if it was.
    private func alter(
        _ command: MetadataCommand,
        _ items: [ResourceKey],
        _ refusals: [Refusal?],
        then completion: @escaping ([Refusal?]) -> Void
    ) {
        ask(0, .metadata(command)) { reply in
            guard case .metadata(let reply) = reply else {
                preconditionFailure("a command is answered as one")
            }
            switch reply {
            case .configs(let outcomes):
                completion(
                    zip(items, refusals).map { key, refusal in
                        refusal ?? Self.refusal(for: key, in: outcomes)
                    }
                )
            case .refused(let refusal):
                completion(refusals.map { $0 ?? refusal })
            case .topics, .deletions, .producerIDs, .registered, .reassignments, .member,
                .index, .quorum, .done:
                preconditionFailure("configs are answered with configs")
            }
        }
    }

    private static func refusal(for key: ResourceKey, in outcomes: [ConfigOutcome]) -> Refusal? {
        guard let resource = try? ConfigResource(type: key.type, name: key.name),
            let outcome = outcomes.first(where: { $0.resource == resource })
        else { return Refusal(.unknownServerError, "the change was not decided") }
        if case .failure(let refusal) = outcome.result { return refusal }
        return nil
    }
}
