import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// CreatePartitions (37). SEMANTICS rule CP-1.
extension Shard {
    func handle(_ request: CreatePartitionsRequest, _ context: RequestContext) {
        let topics = request.topics.map { topic in
            PartitionsRequest(
                name: topic.name,
                partitionCount: topic.count,
                assignments: topic.assignments?.map { $0.brokerIds.map { BrokerID($0) } }
            )
        }
        let command = MetadataCommand.createPartitions(topics, validateOnly: request.validateOnly)
        let patience = CommandRelay.patience(millis: request.timeoutMs)
        ask(0, .metadata(command, within: patience)) { [unowned self] reply in
            guard case .metadata(let reply) = reply else {
                preconditionFailure("a command is answered as one")
            }
            switch reply {
            case .topics(let outcomes):
                let grown = outcomes.compactMap { outcome in (try? outcome.result.get()).map(\.name)
                }
                guard !request.validateOnly, !grown.isEmpty else {
                    return Self.respond(outcomes, context)
                }
                self.waitForLeaders(of: grown) { Self.respond(outcomes, context) }
            case .refused(let refusal):
                Self.respond(
                    Set(topics.map(\.name)).sorted().map {
                        TopicOutcome(name: $0, result: .failure(refusal))
                    },
                    context
                )
            case .deletions, .configs, .producerIDs, .registered, .reassignments, .member,
                .index, .quorum, .done:
                preconditionFailure("partitions are answered with topics")
            }
        }
    }

    private static func respond(_ outcomes: [TopicOutcome], _ context: RequestContext) {
        context.respond(
            CreatePartitionsResponse(
                results: outcomes.map { outcome in
                    switch outcome.result {
                    case .success: .init(name: outcome.name)
                    case .failure(let refusal):
                        .init(
                            name: outcome.name,
                            errorCode: refusal.code.rawValue,
                            errorMessage: refusal.message
                        )
                    }
                }
            )
        )
    }
}
