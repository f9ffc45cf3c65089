import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// DescribeTopicPartitions (75): topics in pages. SEMANTICS rule DTP-1.
extension Shard {
    func handle(_ request: DescribeTopicPartitionsRequest, _ context: RequestContext) {
        if let cursor = request.cursor, cursor.partitionIndex < 0 {
            return context.connection.close(.malformedRequest)
        }
        let names =
            request.topics.isEmpty
            ? image.topics.map(\.key) : Array(Set(request.topics.map(\.name))).sorted()
        var budget = max(
            1,
            min(Int(request.responsePartitionLimit), config.maximumDescribedPartitionCount)
        )
        var response = DescribeTopicPartitionsResponse()
        for name in names where request.cursor.map({ name >= $0.topicName }) ?? true {
            guard budget > 0 else {
                response.nextCursor = .init(topicName: name, partitionIndex: 0)
                break
            }
            guard let topic = image.topic(named: name) else {
                response.topics.append(.init(errorCode: unknown(name).rawValue, name: name))
                continue
            }
            let first =
                request.cursor?.topicName == name ? Int(request.cursor?.partitionIndex ?? 0) : 0
            let last = min(topic.partitions.count, first + budget)
            response.topics.append(describe(topic, Array(first..<max(first, last))))
            budget -= max(0, last - first)
            if last < topic.partitions.count, first < topic.partitions.count {
                response.nextCursor = .init(topicName: name, partitionIndex: Int32(last))
                break
            }
        }
        context.respond(response)
    }

    private func unknown(_ name: String) -> ErrorCode {
        TopicName.isValid(name) ? .unknownTopicOrPartition : .invalidTopicException
    }

    private func describe(
        _ topic: TopicImage,
        _ numbers: [Int]
    ) -> DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponseTopic {
        .init(
            name: topic.name,
            topicId: topic.id,
            isInternal: topic.isInternal,
            partitions: numbers.map { number in
                let id = TopicPartition(topic: topic.id, partition: Int32(number))
                let place = placement(of: id, topic.partitions[number])
                return .init(
                    errorCode: place.error.rawValue,
                    partitionIndex: Int32(number),
                    leaderId: place.leader,
                    leaderEpoch: place.epoch,
                    replicaNodes: place.replicas,
                    isrNodes: place.inSync,
                    eligibleLeaderReplicas: [],
                    lastKnownElr: [],
                    offlineReplicas: place.offline
                )
            }
        )
    }
}
