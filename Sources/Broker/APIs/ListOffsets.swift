import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// ListOffsets (2): offsets by time. SEMANTICS section 3.1.
extension Shard {
    func handle(_ request: ListOffsetsRequest, _ context: RequestContext) {
        guard let isolation = IsolationLevel(rawValue: request.isolationLevel) else {
            return context.connection.close(.malformedRequest)
        }
        var seen: [TopicPartition: Int] = [:]
        for topic in request.topics {
            for partition in topic.partitions {
                if case .success(let id) = resolve(topic.name, partition.partitionIndex) {
                    seen[id, default: 0] += 1
                }
            }
        }
        let items: [Result<ListOffsetsCall, Settled<ListOffsetsReply>>] = request.topics.flatMap {
            topic in
            topic.partitions.map { partition in
                switch resolve(topic.name, partition.partitionIndex) {
                case .failure(let refusal):
                    return .failure(Settled(answer: ListOffsetsReply(error: refusal.code)))
                case .success(let id):
                    if seen[id, default: 0] > 1 {
                        return .failure(Settled(answer: ListOffsetsReply(error: .invalidRequest)))
                    }
                    if let special = SpecialTimestamp(rawValue: partition.timestamp),
                        context.version < special.firstVersion
                    {
                        return .failure(
                            Settled(answer: ListOffsetsReply(error: .unsupportedVersion))
                        )
                    }
                    return .success(
                        ListOffsetsCall(
                            partition: id,
                            isolation: isolation,
                            currentLeaderEpoch: partition.currentLeaderEpoch,
                            timestamp: partition.timestamp
                        )
                    )
                }
            }
        }
        scatter(items, partition: \.partition, call: { .listOffsets($0) }) { reply in
            if case .listOffsets(let replies) = reply { replies } else { nil }
        } then: { replies in
            context.respond(Self.response(request, replies, context.version))
        }
    }

    /// A client of old knows another word for "ask again" (LO-8).
    private static func error(_ error: ErrorCode, _ version: Int16) -> ErrorCode {
        error == .offsetNotAvailable && version < 5 ? .leaderNotAvailable : error
    }

    private static func response(
        _ request: ListOffsetsRequest,
        _ replies: [ListOffsetsReply],
        _ version: Int16
    ) -> ListOffsetsResponse {
        var remaining = replies[...]
        return ListOffsetsResponse(
            topics: request.topics.map { topic in
                ListOffsetsResponse.ListOffsetsTopicResponse(
                    name: topic.name,
                    partitions: topic.partitions.map { partition in
                        let reply = remaining.removeFirst()
                        return ListOffsetsResponse.ListOffsetsPartitionResponse(
                            partitionIndex: partition.partitionIndex,
                            errorCode: error(reply.error, version).rawValue,
                            timestamp: reply.timestamp,
                            offset: reply.offset,
                            leaderEpoch: version >= 4 ? reply.leaderEpoch : -1
                        )
                    }
                )
            }
        )
    }
}
