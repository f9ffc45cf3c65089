import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// JoinGroup (11). SEMANTICS section 5.4.
extension Shard {
    func handle(_ request: JoinGroupRequest, _ context: RequestContext) {
        let version = context.version
        let rebalanceMillis =
            version >= 1 ? request.rebalanceTimeoutMs : request.sessionTimeoutMs
        let join = JoinRequest(
            memberID: request.memberId,
            instanceID: request.groupInstanceId,
            clientID: context.clientID ?? "",
            clientHost: context.clientHost,
            rebalanceTimeout: .milliseconds(max(rebalanceMillis, 0)),
            sessionTimeout: .milliseconds(request.sessionTimeoutMs),
            protocolType: request.protocolType,
            protocols: request.protocols.map {
                GroupProtocol(name: $0.name, metadata: $0.metadata)
            },
            mustKnowID: version >= 4,
            canSkipAssignment: version >= 9
        )
        askCoordinator(of: request.groupId, .join(join)) { answer in
            switch answer {
            case .joined(let answer): context.respond(JoinGroupResponse(answer, version))
            case .error(let error):
                context.respond(
                    JoinGroupResponse(.refused(error, memberID: request.memberId), version)
                )
            default: preconditionFailure("a join is answered as one")
            }
        }
    }
}

extension RequestContext {
    /// Where the client is, with the slash that tools expect (DG-2).
    var clientHost: String { "/\(connection.sink.peerAddress.host)" }
}

extension JoinGroupResponse {
    fileprivate init(_ answer: JoinAnswer, _ version: Int16) {
        self.init(
            errorCode: answer.error.rawValue,
            generationId: answer.generation,
            protocolType: answer.protocolType,
            protocolName: answer.protocolName ?? (version >= 7 ? nil : ""),
            leader: answer.leader,
            skipAssignment: answer.skipsAssignment,
            memberId: answer.memberID,
            members: answer.members.map { member in
                .init(
                    memberId: member.id,
                    groupInstanceId: member.instanceID,
                    metadata: member.metadata
                )
            }
        )
    }
}
