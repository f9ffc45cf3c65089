import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// DeleteTopics (20). SEMANTICS section 4.4.
extension Shard {
    func handle(_ request: DeleteTopicsRequest, _ context: RequestContext) {
        let wanted: [DeleteTopicsRequest.DeleteTopicState] =
            context.version >= 6 ? request.topics : request.topicNames.map { .init(name: $0) }
        guard config.isTopicDeletionEnabled else {
            let error: ErrorCode = context.version >= 3 ? .topicDeletionDisabled : .invalidRequest
            return respond(wanted, context) { _ in
                .failure(Refusal(error, "delete.topic.enable is false"))
            }
        }
        var references: [TopicReference] = []
        for topic in wanted {
            switch (topic.name, topic.topicId) {
            case (let name?, .zero): references.append(.name(name))
            case (nil, let id) where id != .zero: references.append(.id(id))
            default: break
            }
        }
        let patience = CommandRelay.patience(millis: request.timeoutMs)
        ask(0, .metadata(.deleteTopics(references), within: patience)) { [unowned self] reply in
            guard case .metadata(let reply) = reply else {
                preconditionFailure("a command is answered as one")
            }
            switch reply {
            case .deletions(let outcomes):
                var remaining = outcomes[...]
                self.respond(wanted, context) { topic in
                    guard (topic.name == nil) != (topic.topicId == .zero) else {
                        return .failure(
                            Refusal(
                                .invalidRequest,
                                "a topic is named by name or by id, not by both or neither"
                            )
                        )
                    }
                    return remaining.removeFirst().result
                }
            case .refused(let refusal):
                self.respond(wanted, context) { _ in .failure(refusal) }
            case .topics, .configs, .producerIDs, .registered, .reassignments, .member,
                .index, .quorum, .done:
                preconditionFailure("deletions are answered with deletions")
            }
        }
    }

    private func respond(
        _ wanted: [DeleteTopicsRequest.DeleteTopicState],
        _ context: RequestContext,
        _ outcome: (DeleteTopicsRequest.DeleteTopicState) -> Result<TopicImage, Refusal>
    ) {
        context.respond(
            DeleteTopicsResponse(
                responses: wanted.map { topic in
                    switch outcome(topic) {
                    case .success(let image):
                        .init(name: image.name, topicId: image.id)
                    case .failure(let refusal):
                        .init(
                            name: topic.name,
                            topicId: topic.topicId,
                            errorCode: refusal.code.rawValue,
                            errorMessage: context.version >= 5 ? refusal.message : nil
                        )
                    }
                }
            )
        )
    }
}
