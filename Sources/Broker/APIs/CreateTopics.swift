import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// CreateTopics (19). SEMANTICS section 4.3.
extension Shard {
    func handle(_ request: CreateTopicsRequest, _ context: RequestContext) {
        let topics = request.topics.map { topic in
            TopicRequest(
                name: topic.name,
                partitionCount: topic.numPartitions,
                replicationFactor: topic.replicationFactor,
                assignments: topic.assignments.map { assignment in
                    TopicRequest.Assignment(
                        partition: assignment.partitionIndex,
                        brokers: assignment.brokerIds.map { BrokerID($0) }
                    )
                },
                configs: topic.configs.map { ConfigChange($0.name, $0.value) }
            )
        }
        let command = MetadataCommand.createTopics(topics, validateOnly: request.validateOnly)
        let patience = CommandRelay.patience(millis: request.timeoutMs)
        ask(0, .metadata(command, within: patience)) { [unowned self] reply in
            guard case .metadata(let reply) = reply else {
                preconditionFailure("a command is answered as one")
            }
            switch reply {
            case .topics(let outcomes):
                let created = outcomes.compactMap { outcome in
                    (try? outcome.result.get()).map(\.name)
                }
                guard !request.validateOnly, !created.isEmpty else {
                    return self.respond(outcomes, context)
                }
                self.waitForLeaders(of: created) { self.respond(outcomes, context) }
            case .refused(let refusal):
                self.respond(
                    Set(topics.map(\.name)).sorted().map {
                        TopicOutcome(name: $0, result: .failure(refusal))
                    },
                    context
                )
            case .deletions, .configs, .producerIDs, .registered, .reassignments, .member,
                .index, .quorum, .done:
                preconditionFailure("topics are answered with topics")
            }
        }
    }

    private func respond(_ outcomes: [TopicOutcome], _ context: RequestContext) {
        context.respond(
            CreateTopicsResponse(topics: outcomes.map { describe($0, context.version) })
        )
    }

    private func describe(_ outcome: TopicOutcome, _ version: Int16)
        -> CreateTopicsResponse.CreatableTopicResult
    {
        switch outcome.result {
        case .failure(let refusal):
            return .init(
                name: outcome.name,
                errorCode: refusal.code.rawValue,
                errorMessage: refusal.message,
                configs: version >= 5 ? [] : nil
            )
        case .success(let topic):
            return .init(
                name: topic.name,
                topicId: topic.id,
                errorMessage: nil,
                numPartitions: Int32(topic.partitions.count),
                replicationFactor: Int16(topic.replicationFactor),
                configs: layers.describeTopic(overrides: topic.configs).map { config in
                    .init(
                        name: config.name,
                        value: config.value,
                        readOnly: config.isReadOnly,
                        configSource: config.source.rawValue,
                        isSensitive: config.isSensitive
                    )
                }
            )
        }
    }
}
