package import FlotillaModel
package import FlotillaRaft
package import FlotillaRecords

/// One message between two replicas of a partition, with the entries that it carries.
///
/// The brokers are known from the link; which creations of the replica speak to each other is named
/// here, so that a message for a replica that was removed and added again reaches nobody.
package struct RaftEnvelope: Sendable {
    /// The partition whose group it concerns.
    package var partition: TopicPartition
    /// The creation of the replica that sends.
    package var senderEpoch: CreationEpoch
    /// The creation of the replica it is meant for.
    package var targetEpoch: CreationEpoch
    /// What is said.
    package var message: FlotillaRaft.Message
    /// For an `AppendRequest` the entries of `request.range`, one for each of its descriptors; for
    /// every other message none.
    package var entries: [LogEntry]

    /// Addresses a message.
    package init(
        partition: TopicPartition,
        senderEpoch: CreationEpoch,
        targetEpoch: CreationEpoch,
        message: FlotillaRaft.Message,
        entries: [LogEntry] = []
    ) {
        self.partition = partition
        self.senderEpoch = senderEpoch
        self.targetEpoch = targetEpoch
        self.message = message
        self.entries = entries
    }
}
