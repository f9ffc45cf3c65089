import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// OffsetForLeaderEpoch (23): where an epoch ends, so that a consumer notices a truncation. SEMANTICS section 3.2.
extension Shard {
    func handle(_ request: OffsetForLeaderEpochRequest, _ context: RequestContext) {
        let items: [Result<EpochEndCall, Settled<EpochEndReply>>] = request.topics.flatMap {
            topic in
            topic.partitions.map { partition in
                switch resolve(topic.topic, partition.partition) {
                case .failure(let refusal):
                    .failure(Settled(answer: EpochEndReply(error: refusal.code)))
                case .success(let id):
                    .success(
                        EpochEndCall(
                            partition: id,
                            currentLeaderEpoch: partition.currentLeaderEpoch,
                            epoch: partition.leaderEpoch
                        )
                    )
                }
            }
        }
        scatter(items, partition: \.partition, call: { .epochEnds($0) }) { reply in
            if case .epochEnds(let replies) = reply { replies } else { nil }
        } then: { replies in
            var remaining = replies[...]
            context.respond(
                OffsetForLeaderEpochResponse(
                    topics: request.topics.map { topic in
                        OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult(
                            topic: topic.topic,
                            partitions: topic.partitions.map { partition in
                                let reply = remaining.removeFirst()
                                return OffsetForLeaderEpochResponse.EpochEndOffset(
                                    errorCode: reply.error.rawValue,
                                    partition: partition.partition,
                                    leaderEpoch: reply.end.epoch,
                                    endOffset: reply.end.endOffset
                                )
                            }
                        )
                    }
                )
            )
        }
    }
}
