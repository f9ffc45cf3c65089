import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel

/// Replicas that this broker may have had before it ended, and of which its disk holds nothing.
///
/// A start knows the metadata up to where they were known to be committed, which may be before what the broker had acted upon: a
/// replica that it had deleted is in them again. Made anew, it would vote and acknowledge without what it had promised, and some of
/// its kind would be a majority of members that the partition no longer has. So nothing is made anew before the metadata here are
/// all that this broker can have acted upon.
///
/// Where rounds of the journal cannot be read, one of which the disk holds nothing may have voted and acknowledged without ever having been
/// deleted: a replica is in the journal before it has files. What this broker was given until then, and has nothing of, is given to a new
/// member.
///
/// - Source: architecture bugs 2 and 13; simulator, seeds 594 and 200474 of their times.
extension Shard {
    /// Finds out what the metadata have become, and ends the time in which nothing is made anew.
    func catchUp(mayHaveForgotten: Bool) {
        ask(0, .metadataIsWhole) { [unowned self] _ in
            self.isCatchingUp = false
            self.openMissing(mayHaveForgotten: mayHaveForgotten)
        }
    }

    /// Whether a replica may not be made now: it may be that it was here.
    func isInDoubt(_ group: GroupID) -> Bool {
        isCatchingUp && isUnknownToDisk(group)
    }

    private func isUnknownToDisk(_ group: GroupID) -> Bool {
        recovered[group] == nil && !unreadable.contains(group)
    }

    /// Opens what had to wait.
    private func openMissing(mayHaveForgotten: Bool) {
        for (_, topic) in image.topics {
            for (number, place) in topic.partitions.enumerated() {
                let id = TopicPartition(topic: topic.id, partition: Int32(number))
                guard settings.shard(of: id) == index, partitions[id] == nil,
                    let member = place.replica(on: settings.broker), !isOfFormerLife(member)
                else { continue }
                let group = GroupID(partition: id, epoch: member.epoch)
                guard isUnknownToDisk(group) else { continue }
                if mayHaveForgotten { forgotten.insert(group) }
                open(member, of: id, at: place, topic)
            }
        }
    }
}
