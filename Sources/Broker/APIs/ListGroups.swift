import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// ListGroups (16): the groups that this broker coordinates. SEMANTICS rule LS-1.
extension Shard {
    func handle(_ request: ListGroupsRequest, _ context: RequestContext) {
        let states = Set(request.statesFilter.map { $0.lowercased() })
        let types = Set(request.typesFilter.map { $0.lowercased() })
        let gathering = Gathering<[GroupListing]?>(count: settings.shardCount) { lists in
            guard !lists.contains(where: { $0 == nil }) else {
                return context.respond(
                    ListGroupsResponse(errorCode: ErrorCode.coordinatorLoadInProgress.rawValue)
                )
            }
            let groups = lists.compactMap(\.self).flatMap(\.self).filter { group in
                (states.isEmpty || states.contains(group.state.lowercased()))
                    && (types.isEmpty || types.contains(group.type.rawValue))
            }
            context.respond(
                ListGroupsResponse(
                    groups: groups.sorted { $0.name < $1.name }.map { group in
                        .init(
                            groupId: group.name,
                            protocolType: group.protocolType,
                            groupState: group.state,
                            groupType: group.type.rawValue
                        )
                    }
                )
            )
        }
        for shard in 0..<settings.shardCount {
            ask(shard, .listGroups) { reply in
                guard case .listGroups(let groups) = reply else {
                    preconditionFailure("a list is answered as one")
                }
                gathering.put(groups, at: shard)
            }
        }
    }
}
