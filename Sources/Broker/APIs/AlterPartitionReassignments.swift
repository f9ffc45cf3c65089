import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// AlterPartitionReassignments (45). SEMANTICS rule ADM-2.
extension Shard {
    func handle(_ request: AlterPartitionReassignmentsRequest, _ context: RequestContext) {
        let wanted = request.topics.flatMap { topic in
            topic.partitions.map { partition in
                ReassignmentRequest(
                    topic: topic.name,
                    partition: partition.partitionIndex,
                    brokers: partition.replicas?.map { BrokerID($0) }
                )
            }
        }
        // Version 0 knows no such wish, and leaves the number of replicas to whoever asks.
        let allowsChange = context.version == 0 || request.allowReplicationFactorChange
        ask(
            0,
            .metadata(
                .alterReassignments(wanted, allowsReplicationFactorChange: allowsChange),
                within: CommandRelay.patience(millis: request.timeoutMs)
            )
        ) { reply in
            guard case .metadata(let reply) = reply else {
                preconditionFailure("a command is answered as one")
            }
            switch reply {
            case .reassignments(let outcomes):
                var remaining = outcomes[...]
                context.respond(
                    AlterPartitionReassignmentsResponse(
                        allowReplicationFactorChange: request.allowReplicationFactorChange,
                        errorMessage: nil,
                        responses: request.topics.map { topic in
                            .init(
                                name: topic.name,
                                partitions: topic.partitions.map { partition in
                                    Self.describe(remaining.removeFirst(), partition.partitionIndex)
                                }
                            )
                        }
                    )
                )
            case .refused(let refusal):
                context.respond(
                    AlterPartitionReassignmentsResponse(
                        allowReplicationFactorChange: request.allowReplicationFactorChange,
                        errorCode: refusal.code.rawValue,
                        errorMessage: refusal.message
                    )
                )
            case .topics, .deletions, .configs, .producerIDs, .registered, .member, .index,
                .quorum, .done:
                preconditionFailure("reassignments are answered with reassignments")
            }
        }
    }

    private static func describe(_ outcome: ReassignmentOutcome, _ partition: Int32)
        -> AlterPartitionReassignmentsResponse.ReassignablePartitionResponse
    {
        switch outcome.result {
        case .success: .init(partitionIndex: partition, errorMessage: nil)
        case .failure(let refusal):
            .init(
                partitionIndex: partition,
                errorCode: refusal.code.rawValue,
                errorMessage: refusal.message
            )
        }
    }
}
