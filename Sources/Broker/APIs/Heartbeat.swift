import FlotillaKafkaWire
import FlotillaModel

/// Heartbeat (12). SEMANTICS rule HB-1.
extension Shard {
    func handle(_ request: HeartbeatRequest, _ context: RequestContext) {
        let member = GroupMembership(
            member: request.memberId,
            instanceID: request.groupInstanceId,
            generation: request.generationId
        )
        askCoordinator(of: request.groupId, .heartbeat(member)) { answer in
            guard case .error(let error) = answer else {
                preconditionFailure("a heartbeat is answered with an error or none")
            }
            context.respond(HeartbeatResponse(errorCode: error.rawValue))
        }
    }
}
