import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// ListPartitionReassignments (46): the partitions that are moving. SEMANTICS rule ADM-3.
extension Shard {
    func handle(_ request: ListPartitionReassignmentsRequest, _ context: RequestContext) {
        var topics: [ListPartitionReassignmentsResponse.OngoingTopicReassignment] = []
        if let wanted = request.topics {
            for topic in wanted {
                guard let known = image.topic(named: topic.name) else { continue }
                let numbers = Set(topic.partitionIndexes)
                topics += Self.moving(known) { numbers.contains($0) }
            }
        } else {
            for (_, topic) in image.topics {
                topics += Self.moving(topic) { _ in true }
            }
        }
        context.respond(ListPartitionReassignmentsResponse(errorMessage: nil, topics: topics))
    }

    /// The moving partitions of a topic, as one element; none when none moves.
    private static func moving(_ topic: TopicImage, where isWanted: (Int32) -> Bool)
        -> [ListPartitionReassignmentsResponse.OngoingTopicReassignment]
    {
        let partitions = topic.partitions.enumerated().filter { number, place in
            place.isMoving && isWanted(Int32(number))
        }
        guard !partitions.isEmpty else { return [] }
        return [
            .init(
                name: topic.name,
                partitions: partitions.map { number, place in describe(place, Int32(number)) }
            )
        ]
    }

    /// Clients know brokers and no members: one that gets a new replica in the place of its old one is adding.
    private static func describe(_ place: PartitionImage, _ number: Int32)
        -> ListPartitionReassignmentsResponse.OngoingPartitionReassignment
    {
        var removing: [BrokerID] = []
        for member in place.removing
        where !place.brokers.contains(member.broker) && !removing.contains(member.broker) {
            removing.append(member.broker)
        }
        return .init(
            partitionIndex: number,
            replicas: (place.brokers + removing).map(\.rawValue),
            addingReplicas: place.adding.map(\.broker.rawValue),
            removingReplicas: removing.map(\.rawValue)
        )
    }
}
