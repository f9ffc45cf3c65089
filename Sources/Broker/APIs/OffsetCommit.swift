import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// OffsetCommit (8): answered when the commits are durable on a majority. SEMANTICS section 5.7.
extension Shard {
    func handle(_ request: OffsetCommitRequest, _ context: RequestContext) {
        let retention = request.retentionTimeMs >= 0 ? request.retentionTimeMs : nil
        var commits: [OffsetCommit] = []
        // In the order of the answer; nil for what the coordinator decides.
        let refusals = request.topics.map { topic in
            let known =
                context.version >= 10 ? image.topic(topic.topicId) : image.topic(named: topic.name)
            return topic.partitions.map { partition -> ErrorCode? in
                guard let known else {
                    return context.version >= 10 ? .unknownTopicId : .unknownTopicOrPartition
                }
                guard known.partitions.indices.contains(Int(partition.partitionIndex)) else {
                    return .unknownTopicOrPartition
                }
                let metadata = partition.committedMetadata ?? ""
                // Counted as Kafka does; what is longer in bytes than its records hold is refused as well.
                guard metadata.utf16.count <= config.maximumOffsetMetadataByteCount,
                    metadata.utf8.count <= Int(Int16.max)
                else {
                    return .offsetMetadataTooLarge
                }
                commits.append(
                    OffsetCommit(
                        key: OffsetKey(topic: known.name, partition: partition.partitionIndex),
                        topic: known.id,
                        offset: partition.committedOffset,
                        leaderEpoch: partition.committedLeaderEpoch,
                        metadata: metadata,
                        retentionMillis: retention
                    )
                )
                return nil
            }
        }
        let commitCount = commits.count
        let member = GroupMembership(
            member: request.memberId,
            instanceID: request.groupInstanceId,
            generation: request.generationIdOrMemberEpoch,
            knowsEpochs: context.version >= 9
        )
        askCoordinator(of: request.groupId, .commit(commits, by: member)) { answer in
            var errors: ArraySlice<ErrorCode>
            switch answer {
            case .committed(let each):
                errors =
                    each.map {
                        $0 == .unknownTopicOrPartition && context.version >= 10
                            ? .unknownTopicId : $0
                    }[...]
            case .error(let error): errors = Array(repeating: error, count: commitCount)[...]
            default: preconditionFailure("a commit is answered with errors")
            }
            context.respond(
                OffsetCommitResponse(
                    topics: zip(request.topics, refusals).map { topic, refusals in
                        .init(
                            name: topic.name,
                            topicId: topic.topicId,
                            partitions: zip(topic.partitions, refusals).map { partition, refusal in
                                .init(
                                    partitionIndex: partition.partitionIndex,
                                    errorCode: (refusal ?? errors.removeFirst()).rawValue
                                )
                            }
                        )
                    }
                )
            )
        }
    }
}
