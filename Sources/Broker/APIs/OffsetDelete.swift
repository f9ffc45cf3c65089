import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// OffsetDelete (47). SEMANTICS rule OD-1.
extension Shard {
    func handle(_ request: OffsetDeleteRequest, _ context: RequestContext) {
        let keys = request.topics.flatMap { topic in
            topic.partitions.map { OffsetKey(topic: topic.name, partition: $0.partitionIndex) }
        }
        askCoordinator(of: request.groupId, .deleteOffsets(keys)) { answer in
            switch answer {
            case .error(let error): context.respond(OffsetDeleteResponse(errorCode: error.rawValue))
            case .deletedOffsets(let errors):
                var rest = errors[...]
                context.respond(
                    OffsetDeleteResponse(
                        topics: request.topics.map { topic in
                            .init(
                                name: topic.name,
                                partitions: topic.partitions.map { partition in
                                    .init(
                                        partitionIndex: partition.partitionIndex,
                                        errorCode: rest.removeFirst().rawValue
                                    )
                                }
                            )
                        }
                    )
                )
            default: preconditionFailure("deleted offsets are answered as such")
            }
        }
    }
}
