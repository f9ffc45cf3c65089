package import FlotillaModel

package import struct NIOCore.ByteBuffer

/// Between two replicas of a partition, beside Raft's messages: entries for a repair, files.
///
/// Addressed as a `RaftEnvelope` is, so that a message for a replica that was removed and added again
/// reaches nobody. The body of its frame, little endian:
///
/// | bytes | field |
/// |---|---|
/// | 0-7, 8-15 | topic id, its two halves |
/// | 16-19 | partition |
/// | 20-27 | creation epoch of the sending replica |
/// | 28-35 | creation epoch of the replica that is meant |
/// | 36-37 | which message, given by the layer above |
/// | 38- | its bytes |
package struct ReplicaMessage: Hashable, Sendable {
    /// The partition whose group it concerns.
    package var partition: TopicPartition
    /// The creation of the replica that sends.
    package var senderEpoch: CreationEpoch
    /// The creation of the replica it is meant for.
    package var targetEpoch: CreationEpoch
    /// Which message.
    package var kind: UInt16
    /// Its bytes, in order; one part where it was received.
    package var parts: [ByteBuffer]

    /// Addresses a message.
    package init(
        partition: TopicPartition,
        senderEpoch: CreationEpoch,
        targetEpoch: CreationEpoch,
        kind: UInt16,
        parts: [ByteBuffer]
    ) {
        self.partition = partition
        self.senderEpoch = senderEpoch
        self.targetEpoch = targetEpoch
        self.kind = kind
        self.parts = parts
    }

    // MARK: Writing

    /// Appends everything but the parts.
    func writeHead(into buffer: inout ByteBuffer) {
        buffer.writeInteger(partition.topic.high, endianness: .little)
        buffer.writeInteger(partition.topic.low, endianness: .little)
        buffer.writeInteger(partition.partition, endianness: .little)
        buffer.writeInteger(senderEpoch.rawValue, endianness: .little)
        buffer.writeInteger(targetEpoch.rawValue, endianness: .little)
        buffer.writeInteger(kind, endianness: .little)
    }

    // MARK: Reading

    init(reading fields: inout PeerFields) throws(PeerWireError) {
        partition = try fields.partition()
        senderEpoch = CreationEpoch(try fields.integer(UInt64.self))
        targetEpoch = CreationEpoch(try fields.integer(UInt64.self))
        kind = try fields.integer(UInt16.self)
        let rest = fields.takeRest()
        parts = rest.readableBytes > 0 ? [rest] : []
    }
}
