import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// UnregisterBroker (64). SEMANTICS rule ADM-9.
extension Shard {
    func handle(_ request: UnregisterBrokerRequest, _ context: RequestContext) {
        ask(0, .metadata(.unregisterBroker(BrokerID(request.brokerId)))) { reply in
            guard case .metadata(let reply) = reply else {
                preconditionFailure("a command is answered as one")
            }
            switch reply {
            case .done:
                context.respond(UnregisterBrokerResponse(errorMessage: nil))
            case .refused(let refusal):
                context.respond(
                    UnregisterBrokerResponse(
                        errorCode: refusal.code.rawValue,
                        errorMessage: refusal.message
                    )
                )
            case .topics, .deletions, .configs, .producerIDs, .registered, .reassignments, .member,
                .index, .quorum:
                preconditionFailure("an unregistration is done or refused")
            }
        }
    }
}
