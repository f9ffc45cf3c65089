import FlotillaModel

/// What the records about movements do.
extension MetadataImage {
    mutating func move(_ id: TopicID, _ changes: [PartitionChange]) throws(Contradiction) {
        let topic = try existingTopic(id)
        var partitions = topic.partitions
        var next = nextCreationEpoch
        for change in changes {
            guard partitions.indices.contains(Int(change.number)) else {
                throw Contradiction("there is no partition \(change.number)")
            }
            let before = partitions[Int(change.number)]
            try check(change.place)
            try check(change.place, follows: before)
            for member in change.place.members where !before.members.contains(member) {
                next = max(next, try after(member))
            }
            count(before, by: -1)
            count(change.place, by: 1)
            partitions[Int(change.number)] = change.place
        }
        nextCreationEpoch = next
        put(topic.with(partitions: partitions))
    }

    private func check(_ place: PartitionImage, follows before: PartitionImage)
        throws(Contradiction)
    {
        let isMovement = place.isMoving || before.isMoving
        guard place.revision == before.revision + (isMovement ? 1 : 0) else {
            throw Contradiction("movement \(place.revision) follows \(before.revision)")
        }
        let founders =
            before.founders.isEmpty && isMovement ? before.replicas : before.founders
        guard place.founders == founders else {
            throw Contradiction("the founding members of a group do not change")
        }
    }

    mutating func finishMovement(of id: TopicPartition, revision: UInt64) throws(Contradiction) {
        let topic = try existingTopic(id.topic)
        guard let place = place(of: id), place.isMoving, place.revision == revision else {
            throw Contradiction("movement \(revision) is not under way")
        }
        for member in place.removing {
            removedReplicas[RemovedReplica(member: member, partition: id)] = topic.name
        }
        var partitions = topic.partitions
        partitions[Int(id.partition)] = place.settled()
        movingPartitionCount -= 1
        put(topic.with(partitions: partitions))
    }

    mutating func confirmRemoval(of replica: RemovedReplica) throws(Contradiction) {
        guard removedReplicas[replica] != nil else {
            throw Contradiction("that replica is not to be deleted")
        }
        removedReplicas[replica] = nil
    }
}
