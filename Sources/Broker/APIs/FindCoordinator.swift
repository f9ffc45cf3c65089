import FlotillaKafkaWire
import FlotillaModel

/// FindCoordinator (10): announced because old librdkafka compresses nothing without it; there are no groups yet, so no
/// coordinator is available. CLIENTS section 3.1, SEMANTICS rules FC-1 and FC-3.
extension Shard {
    func handle(_ request: FindCoordinatorRequest, _ context: RequestContext) {
        let error = ErrorCode.coordinatorNotAvailable.rawValue
        let message = "this broker serves no consumer groups and no transactions yet"
        guard context.version >= 4 else {
            return context.respond(
                FindCoordinatorResponse(
                    errorCode: error,
                    errorMessage: message,
                    nodeId: -1,
                    host: "",
                    port: -1
                )
            )
        }
        context.respond(
            FindCoordinatorResponse(
                coordinators: request.coordinatorKeys.map { key in
                    FindCoordinatorResponse.Coordinator(
                        key: key,
                        nodeId: -1,
                        host: "",
                        port: -1,
                        errorCode: error,
                        errorMessage: message
                    )
                }
            )
        )
    }
}
