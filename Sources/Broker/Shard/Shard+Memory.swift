import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel

/// Replicas that a damaged journal may have forgotten altogether.
///
/// A replica is in the journal before it has files, and its files are deleted when the metadata says so. Where rounds of the journal
/// cannot be read, one of which the disk holds nothing may have voted and acknowledged, and the metadata may be older than what it
/// had deleted. Made anew, such a replica would vote again and help another log to a majority. So nothing is made anew before the
/// metadata here is what a leader has; what this broker was given until then, and has nothing of, is given to a new member.
///
/// - Source: architecture bugs 2 and 13; simulator, seed 594 of its time.
extension Shard {
    /// Begins to find out what the disk may have forgotten.
    func doubtMemory() {
        isMemoryInDoubt = true
        ask(0, .metadataIsWhole) { [unowned self] _ in self.settleMemory() }
    }

    /// Whether a replica may not be made now: it may be that it was here.
    func isInDoubt(_ group: GroupID) -> Bool {
        isMemoryInDoubt && isUnknownToDisk(group)
    }

    private func isUnknownToDisk(_ group: GroupID) -> Bool {
        recovered[group] == nil && !unreadable.contains(group)
    }

    private func settleMemory() {
        isMemoryInDoubt = false
        for (_, topic) in image.topics {
            for (number, place) in topic.partitions.enumerated() {
                let id = TopicPartition(topic: topic.id, partition: Int32(number))
                guard settings.shard(of: id) == index, partitions[id] == nil,
                    let member = place.replica(on: settings.broker), !isOfFormerLife(member)
                else { continue }
                let group = GroupID(partition: id, epoch: member.epoch)
                guard isUnknownToDisk(group) else { continue }
                forgotten.insert(group)
                open(
                    LocalReplica(
                        group: group,
                        topicName: topic.name,
                        members: place.initialVoters(for: member)
                    )
                )
            }
        }
    }
}
