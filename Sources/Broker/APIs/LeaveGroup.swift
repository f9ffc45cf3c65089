import FlotillaKafkaWire
import FlotillaModel

/// LeaveGroup (13). SEMANTICS rule LG-1.
extension Shard {
    func handle(_ request: LeaveGroupRequest, _ context: RequestContext) {
        let isBatch = context.version >= 3
        let members =
            isBatch
            ? request.members.map {
                LeavingMember(member: $0.memberId, instanceID: $0.groupInstanceId)
            } : [LeavingMember(member: request.memberId, instanceID: nil)]
        askCoordinator(of: request.groupId, .leave(members)) { answer in
            switch answer {
            case .error(let error): context.respond(LeaveGroupResponse(errorCode: error.rawValue))
            case .left(let errors) where !isBatch:
                context.respond(
                    LeaveGroupResponse(errorCode: (errors.first ?? .noError).rawValue)
                )
            case .left(let errors):
                context.respond(
                    LeaveGroupResponse(
                        members: zip(members, errors).map { member, error in
                            .init(
                                memberId: member.member,
                                groupInstanceId: member.instanceID,
                                errorCode: error.rawValue
                            )
                        }
                    )
                )
            default: preconditionFailure("members that go are answered as such")
            }
        }
    }
}
