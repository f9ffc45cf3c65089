import FlotillaCoordination
package import FlotillaModel

/// What holds of everything on a shard at all times; for tests and the simulator.
extension Shard {
    /// Stops the process if something on the shard is in a state that nothing may bring about.
    ///
    /// The metadata are large, and change with what is applied; only what a leader has proposed is looked at here.
    package func checkInvariants() {
        for partition in allPartitions { check(partition) }
        if let controller = metadata?.machine.controller, controller.uncommittedCount > 0 {
            controller.checkInvariants()
        }
    }

    /// The same for what one replica's entries have made.
    package func checkInvariants(of id: TopicPartition) {
        if id == .clusterMetadata {
            metadata?.machine.controller.checkInvariants()
        } else if let partition = partition(id) {
            check(partition)
        }
    }

    private func check(_ partition: Partition) {
        partition.producers.state.checkInvariants()
        partition.coordinator?.checkInvariants()
    }

    /// What the shard holds more of than it may, in words; nil where it keeps to its bounds.
    package var excess: String? {
        let sessionLimit = max(1, config.fetchSessionSlotCount / settings.shardCount)
        if sessions.count > sessionLimit {
            return "\(sessions.count) fetch sessions, and \(sessionLimit) are allowed"
        }
        if let metadata, metadata.waitingCount > MetadataService.waitingLimit {
            return "\(metadata.waitingCount) commands wait for a leader of the metadata"
        }
        return nil
    }
}
