import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// DescribeCluster (60). SEMANTICS rule DC-1; brokers that do not answer are what Kafka calls fenced (KIP-1073).
extension Shard {
    func handle(_ request: DescribeClusterRequest, _ context: RequestContext) {
        if context.version >= 1, request.endpointType != 1 {
            let error: ErrorCode =
                request.endpointType == 2 ? .mismatchedEndpointType : .unsupportedEndpointType
            return context.respond(
                DescribeClusterResponse(
                    errorCode: error.rawValue,
                    errorMessage: "this is a broker's endpoint",
                    endpointType: 1
                )
            )
        }
        context.respond(
            DescribeClusterResponse(
                clusterId: image.clusterID ?? "",
                controllerId: settings.broker.rawValue,
                brokers: brokers(as: context, isWithSilent: request.includeFencedBrokers).map {
                    broker in
                    .init(
                        brokerId: broker.id.rawValue,
                        host: broker.address.host,
                        port: Int32(broker.address.port),
                        rack: broker.rack,
                        isFenced: context.version >= 2 && !isReachable(broker.id)
                    )
                }
            )
        )
    }
}
