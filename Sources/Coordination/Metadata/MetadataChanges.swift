/// What differs between two images: a broker looks at these topics and at no other.
package struct MetadataChanges: Sendable {
    /// Topics that are new or other than before, by name.
    package var topics: [TopicImage] = []
    /// Topics that are there no more, by name.
    package var goneTopics: [TopicImage] = []
    /// Whether replicas to be deleted came or went.
    package var hasOtherDeletions = false
    /// Whether settings of brokers changed, and with them perhaps those of every topic.
    package var hasOtherConfigs = false
    /// Whether a broker came, moved, drains or went.
    package var hasOtherBrokers = false

    /// Two topics of one name; one that was deleted and made anew has another id.
    fileprivate mutating func note(_ was: TopicImage, _ now: TopicImage) {
        guard was !== now, was != now else { return }
        if was.id != now.id {
            goneTopics.append(was)
        }
        topics.append(now)
    }
}

extension MetadataImage {
    /// What is other than in an earlier image.
    ///
    /// It walks both lists of topics side by side; a topic that did not change is the same object in both, so 10,000 topics cost less
    /// than a millisecond.
    package func changes(since earlier: MetadataImage) -> MetadataChanges {
        var changes = MetadataChanges()
        var before = earlier.topics.makeIterator()
        var after = topics.makeIterator()
        var old = before.next()?.value
        var new = after.next()?.value
        walk: while true {
            switch (old, new) {
            case (nil, nil):
                break walk
            case (let gone?, nil):
                changes.goneTopics.append(gone)
                old = before.next()?.value
            case (nil, let fresh?):
                changes.topics.append(fresh)
                new = after.next()?.value
            case (let gone?, let fresh?) where gone.name < fresh.name:
                changes.goneTopics.append(gone)
                old = before.next()?.value
            case (let gone?, let fresh?) where fresh.name < gone.name:
                changes.topics.append(fresh)
                new = after.next()?.value
            case (let was?, let now?):
                changes.note(was, now)
                old = before.next()?.value
                new = after.next()?.value
            }
        }
        changes.hasOtherDeletions =
            deletedTopics != earlier.deletedTopics || removedReplicas != earlier.removedReplicas
        changes.hasOtherConfigs =
            clusterConfigs != earlier.clusterConfigs || brokerConfigs != earlier.brokerConfigs
        changes.hasOtherBrokers =
            brokers != earlier.brokers || drainingBrokers != earlier.drainingBrokers
            || metadataMembers != earlier.metadataMembers
        return changes
    }
}
