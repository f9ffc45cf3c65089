import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaStorage

/// How far the deletion of a replica is.
enum Removal {
    /// Its files are being deleted.
    case underWay
    /// Its files are gone, and the controller has yet to take it off its list.
    case gone(isTold: Bool)
}

/// Which replicas live on this shard: what the metadata gives it is opened, what it takes away is closed, and deleted where
/// the metadata says so, or said so before this broker started.
extension Shard {
    /// Does what other metadata asks for.
    func reconcile(_ changes: MetadataChanges, since earlier: MetadataImage) {
        if let former = earlier.clusterID, former != image.clusterID { isSurvivor = true }
        // What is to be deleted goes first: another replica of the same partition may come in its place.
        if changes.hasOtherDeletions { removeUnwanted() }
        for topic in changes.goneTopics { closeRest(of: topic) }
        let layers = layers
        for topic in changes.topics {
            reconcile(topic, since: earlier.topic(topic.id), layers)
        }
        if changes.hasOtherConfigs {
            for partition in allPartitions { partition.configure(image: image, layers: layers) }
        }
        forgetOffsets(of: changes.goneTopics)
        if image.clusterID != nil { finishStartup() }
    }

    /// Follows what changed of a topic.
    ///
    /// One partition after another of a large topic may change, as in a movement: the others are then not looked at more
    /// closely than to see that nothing was said of them.
    private func reconcile(
        _ topic: TopicImage,
        since earlier: TopicImage?,
        _ layers: ConfigLayers
    ) {
        let isConfiguredAlike = earlier?.name == topic.name && earlier?.configs == topic.configs
        let before = earlier?.partitions ?? []
        for (number, place) in topic.partitions.enumerated() {
            let id = TopicPartition(topic: topic.id, partition: Int32(number))
            guard settings.shard(of: id) == index else { continue }
            let member = place.replica(on: settings.broker)
            if let open = partitions[id] {
                guard open.replica.member != member else {
                    if !isConfiguredAlike || number >= before.count || before[number] != place {
                        open.configure(image: image, layers: layers)
                    }
                    continue
                }
                retire(open)
            }
            guard let member, !isOfFormerLife(member) else { continue }
            open(member, of: id, at: place, topic)
        }
    }

    /// Opens a replica that the metadata give to this broker.
    func open(
        _ member: GroupMember,
        of partition: TopicPartition,
        at place: PartitionImage,
        _ topic: TopicImage
    ) {
        open(
            LocalReplica(
                group: GroupID(partition: partition, epoch: member.epoch),
                topicName: topic.name,
                members: place.initialVoters(for: member)
            )
        )
    }

    /// Whether a replica was given to an incarnation of this broker that is gone, with all that the replica promised.
    ///
    /// A broker that came back empty reads the metadata from its beginning, and on the way is told of places that it had once. Epochs
    /// are given out in one order: what this incarnation gets comes after its own place in the metadata's group.
    func isOfFormerLife(_ member: GroupMember) -> Bool {
        member.epoch < settings.metadataMember.epoch
    }

    private func finishStartup() {
        guard !isStartupFinished else { return }
        isStartupFinished = true
        let deleted = image.replicasToDelete(on: settings.broker)
        let unknown = recovered.keys.filter { group in
            group.partition != .clusterMetadata && partitions[group.partition] == nil
                && !deleted.contains(group) && !isWanted(group)
        }
        for group in unknown.sorted() { quarantine(group) }
    }

    /// Whether the metadata knows the replica, if only until another one of its broker is whole.
    private func isWanted(_ group: GroupID) -> Bool {
        let member = GroupMember(broker: settings.broker, epoch: group.epoch)
        return image.place(of: group.partition)?.members.contains(member) == true
    }

    private func open(_ local: LocalReplica) {
        guard !isInDoubt(local.group) else { return }
        guard !mustBeRenewed(local.group) else { return renew(local.group) }
        // A new log over a damaged one would have forgotten what that one acknowledged.
        guard !unreadable.contains(local.group) else { return }
        do {
            let isNew = recovered[local.group] == nil
            let partition = try Partition(
                local: local,
                recovered: recovered[local.group],
                shard: self
            )
            // Only now: opened once more without what the disk holds, a replica would forget its promises.
            recovered[local.group] = nil
            partitions.insert(partition)
            wake(partition)
            partition.replica.start()
            lookForDamage(in: partition.replica)
            if isNew { campaignIfPreferred(partition.replica) }
            if let demand = unmetDemands.removeValue(forKey: local.group) { meet(demand) }
        } catch {
            environment.log(.damaged(local.group, description: "\(error)"))
        }
    }

    /// Closes a replica that the metadata do not give to this broker any more; its files stay until they are to be deleted.
    private func retire(_ partition: Partition) {
        let group = partition.replica.group
        forget(partition)
        retired[group] = partition
        guard !isWanted(group), !image.replicasToDelete(on: settings.broker).contains(group) else {
            return
        }
        removeUnlisted(group)
    }

    /// Closes what is open of a topic that is gone, and is not on the list of what is to be deleted.
    private func closeRest(of topic: TopicImage) {
        for number in topic.partitions.indices {
            let id = TopicPartition(topic: topic.id, partition: Int32(number))
            guard let open = partitions[id] else { continue }
            forget(open)
            retired[open.replica.group] = open
            removeUnlisted(open.replica.group)
        }
    }

    /// Deletes a replica that is neither given to this broker nor on the list of what it is to delete.
    ///
    /// While it catches up with the metadata that means that it had deleted the replica already, and told so. Otherwise nothing
    /// says why: the files are kept, and so they are where a survivor took what it knew into a cluster of its own.
    private func removeUnlisted(_ group: GroupID) {
        guard isCatchingUp, !isSurvivor else { return quarantine(group) }
        unlistedRemovals.insert(group)
        remove(group)
    }

    private func quarantine(_ group: GroupID) {
        environment.log(
            .quarantined(directory: "\(settings.dataDirectory)/partitions/\(group)")
        )
    }

    /// Ends a replica's part in its group, and tells whoever waits for it.
    private func forget(_ partition: Partition) {
        let id = partition.id
        shipping.forget(partition.replica.group)
        healer.forget(partition.replica.group)
        partitions.remove(id)
        let isDeleted = image.topic(id.topic) == nil
        if isDeleted {
            leadership.forget(id)
        } else if let known = leadership.leader(of: id), known.leader == settings.broker {
            leadershipNews.append(
                LeadershipUpdate(
                    partition: id,
                    term: known.term,
                    leader: nil,
                    isResignation: true
                )
            )
        }
        partition.close(isDeleted ? .unknownTopicOrPartition : .notLeaderOrFollower)
    }

    // MARK: Deletion

    private func removeUnwanted() {
        for group in image.replicasToDelete(on: settings.broker)
        where settings.shard(of: group.partition) == index {
            remove(group)
        }
    }

    private func remove(_ group: GroupID) {
        guard removals[group] == nil else { return }
        removals[group] = .underWay
        recovered[group] = nil
        forgotten.remove(group)
        if let open = partitions[group.partition], open.replica.group == group {
            forget(open)
            retired[group] = open
        }
        // A crash must not leave a disk without the replica and with older metadata: the broker would make it anew, without
        // what it had promised, and it would vote.
        ask(0, .metadataIsDurable(image.appliedIndex)) { [unowned self] _ in self.delete(group) }
    }

    private func delete(_ group: GroupID) {
        unmetDemands[group] = nil
        journalOutbox.append(
            JournalSubmission(shard: index, group: group, ticket: 0, records: [.remove])
        )
        environment.requestTurnEnd()
        guard let partition = retired.removeValue(forKey: group) else {
            return removeFiles(of: group)
        }
        partition.writer.retire { [unowned self] in
            self.removeFiles(of: group, partition.replica.log)
        }
    }

    private func removeFiles(of group: GroupID, _ open: PartitionLog? = nil) {
        let removal = (open ?? openLog(group, nil, LogConfiguration())).remove()
        environment.workers.runInBackground({ removal.perform() }) { [unowned self] result in
            if case .failure(let error) = result {
                self.removals[group] = nil
                self.environment.log(
                    .retrying(what: "removal of \(group)", description: error.description)
                )
                return
            }
            self.environment.log(.removed(group))
            if self.unlistedRemovals.remove(group) != nil {
                self.removals[group] = nil
            } else {
                self.confirmRemoval(of: group)
            }
        }
    }

    private func confirmRemoval(of group: GroupID) {
        removals[group] = .gone(isTold: true)
        ask(0, .metadata(.replicaRemoved(group))) { [unowned self] _ in
            // Until the metadata says so it may have been in vain: the controller's leader gathers such news in memory.
            if self.removals[group] != nil { self.removals[group] = .gone(isTold: false) }
        }
    }

    /// Deletes what could not be deleted, and tells once more what is gone but still listed.
    func retryRemovals() {
        let wanted = image.replicasToDelete(on: settings.broker).filter {
            settings.shard(of: $0.partition) == index
        }
        let isWanted = Set(wanted)
        removals = removals.filter { group, removal in
            if case .underWay = removal { true } else { isWanted.contains(group) }
        }
        for group in wanted + unlistedRemovals.sorted() {
            switch removals[group] {
            case nil: remove(group)
            case .gone(isTold: false): confirmRemoval(of: group)
            case .underWay, .gone(isTold: true): break
            }
        }
    }
}
