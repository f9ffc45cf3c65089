import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// DescribeProducers (61): who wrote to a partition lately. SEMANTICS rule ADM-8.
extension Shard {
    func handle(_ request: DescribeProducersRequest, _ context: RequestContext) {
        let items: [Result<TopicPartition, Settled<ProducersReply>>] = request.topics.flatMap {
            topic in
            topic.partitionIndexes.map { number in
                resolve(topic.name, number).mapError {
                    Settled(answer: ProducersReply(error: $0.code))
                }
            }
        }
        scatter(items, partition: { $0 }, call: { .producers($0) }) { reply in
            if case .producers(let replies) = reply { replies } else { nil }
        } then: { replies in
            var remaining = replies[...]
            context.respond(
                DescribeProducersResponse(
                    topics: request.topics.map { topic in
                        .init(
                            name: topic.name,
                            partitions: topic.partitionIndexes.map { number in
                                Self.response(remaining.removeFirst(), number)
                            }
                        )
                    }
                )
            )
        }
    }

    private static func response(
        _ reply: ProducersReply,
        _ number: Int32
    ) -> DescribeProducersResponse.PartitionResponse {
        .init(
            partitionIndex: number,
            errorCode: reply.error.rawValue,
            activeProducers: reply.producers.map { producer in
                DescribeProducersResponse.ProducerState(
                    producerId: producer.producer.rawValue,
                    producerEpoch: Int32(producer.epoch),
                    lastSequence: producer.lastSequence,
                    lastTimestamp: producer.lastTimestamp.rawValue,
                    coordinatorEpoch: producer.coordinatorEpoch,
                    currentTxnStartOffset: producer.transactionStart?.rawValue ?? -1
                )
            }
        )
    }
}
