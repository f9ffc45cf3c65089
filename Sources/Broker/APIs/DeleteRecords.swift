import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// DeleteRecords (21): the start of logs moves. SEMANTICS rule DR-1.
extension Shard {
    func handle(_ request: DeleteRecordsRequest, _ context: RequestContext) {
        let items: [Result<DeleteRecordsCall, Settled<DeleteRecordsReply>>] = request.topics.flatMap
        { topic in
            topic.partitions.map { partition in
                if image.topic(named: topic.name)?.isInternal == true {
                    return .failure(
                        Settled(answer: DeleteRecordsReply(error: .invalidTopicException))
                    )
                }
                switch resolve(topic.name, partition.partitionIndex) {
                case .failure(let refusal):
                    return .failure(Settled(answer: DeleteRecordsReply(error: refusal.code)))
                case .success(let id):
                    return .success(DeleteRecordsCall(partition: id, offset: partition.offset))
                }
            }
        }
        scatter(items, partition: \.partition, call: { .deleteRecords($0) }) { reply in
            if case .deleteRecords(let replies) = reply { replies } else { nil }
        } then: { replies in
            var remaining = replies[...]
            context.respond(
                DeleteRecordsResponse(
                    topics: request.topics.map { topic in
                        DeleteRecordsResponse.DeleteRecordsTopicResult(
                            name: topic.name,
                            partitions: topic.partitions.map { partition in
                                let reply = remaining.removeFirst()
                                return DeleteRecordsResponse.DeleteRecordsPartitionResult(
                                    partitionIndex: partition.partitionIndex,
                                    lowWatermark: reply.lowWatermark,
                                    errorCode: reply.error.rawValue
                                )
                            }
                        )
                    }
                )
            )
        }
    }
}
