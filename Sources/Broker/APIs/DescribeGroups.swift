import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// DescribeGroups (15): every group that is asked for is in the answer (GEN-4). SEMANTICS rules DG-1 and DG-2.
extension Shard {
    func handle(_ request: DescribeGroupsRequest, _ context: RequestContext) {
        // A large group that is asked for again and again is described once.
        var seen: Set<String> = []
        let names = request.groups.filter { seen.insert($0).inserted }
        askCoordinators(names.map { ($0, .describe) }) { answers in
            context.respond(
                DescribeGroupsResponse(
                    groups: zip(names, answers).map { group, answer in
                        switch answer {
                        case .described(let description): .init(description)
                        case .error(let error): .init(absent: group, error, context.version)
                        default: preconditionFailure("a description is answered as one")
                        }
                    }
                )
            )
        }
    }
}

extension DescribeGroupsResponse.DescribedGroup {
    fileprivate init(_ group: GroupDescription) {
        self.init(
            groupId: group.name,
            groupState: group.phase.rawValue,
            protocolType: group.protocolType,
            protocolData: group.protocolName,
            members: group.members.map { member in
                .init(
                    memberId: member.id,
                    groupInstanceId: member.instanceID,
                    clientId: member.clientID,
                    clientHost: member.clientHost,
                    memberMetadata: member.metadata,
                    memberAssignment: member.assignment
                )
            }
        )
    }

    /// A group that is not there is dead to versions that have no error for it.
    fileprivate init(absent group: String, _ error: ErrorCode, _ version: Int16) {
        let isDead = error == .groupIdNotFound
        self.init(
            errorCode: isDead && version < 6 ? 0 : error.rawValue,
            errorMessage: isDead && version >= 6 ? "there is no group \(group)" : nil,
            groupId: group,
            groupState: isDead ? "Dead" : ""
        )
    }
}
