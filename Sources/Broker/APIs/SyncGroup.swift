import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// SyncGroup (14). SEMANTICS section 5.5.
extension Shard {
    func handle(_ request: SyncGroupRequest, _ context: RequestContext) {
        let sync = SyncRequest(
            memberID: request.memberId,
            instanceID: request.groupInstanceId,
            generation: request.generationId,
            protocolType: request.protocolType,
            protocolName: request.protocolName,
            assignments: request.assignments.map { ($0.memberId, $0.assignment) }
        )
        askCoordinator(of: request.groupId, .sync(sync)) { answer in
            switch answer {
            case .synced(let answer):
                context.respond(
                    SyncGroupResponse(
                        errorCode: answer.error.rawValue,
                        protocolType: answer.protocolType,
                        protocolName: answer.protocolName,
                        assignment: answer.assignment
                    )
                )
            case .error(let error):
                context.respond(SyncGroupResponse(errorCode: error.rawValue))
            default: preconditionFailure("a sync is answered as one")
            }
        }
    }
}
