import FlotillaKafkaWire
import FlotillaModel

/// DeleteGroups (42). SEMANTICS rule DEL-1.
extension Shard {
    func handle(_ request: DeleteGroupsRequest, _ context: RequestContext) {
        var seen: Set<String> = []
        let names = request.groupsNames.filter { seen.insert($0).inserted }
        askCoordinators(names.map { ($0, .delete) }) { answers in
            context.respond(
                DeleteGroupsResponse(
                    results: zip(names, answers).map { name, answer in
                        guard case .error(let error) = answer else {
                            preconditionFailure("a deletion is answered with an error or none")
                        }
                        return .init(groupId: name, errorCode: error.rawValue)
                    }
                )
            )
        }
    }
}
