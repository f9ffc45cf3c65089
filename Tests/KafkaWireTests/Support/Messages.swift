import FlotillaKafkaWire
import NIOCore

/// The messages that are not the body of a request or response.
let embeddedMessages: [any KafkaMessage.Type] = [
    ConsumerProtocolAssignment.self,
    ConsumerProtocolSubscription.self,
    EndTxnMarker.self,
    RequestHeader.self,
    ResponseHeader.self,
    ConsumerGroupCurrentMemberAssignmentKey.self,
    ConsumerGroupCurrentMemberAssignmentValue.self,
    ConsumerGroupMemberMetadataKey.self,
    ConsumerGroupMemberMetadataValue.self,
    ConsumerGroupMetadataKey.self,
    ConsumerGroupMetadataValue.self,
    ConsumerGroupPartitionMetadataKey.self,
    ConsumerGroupPartitionMetadataValue.self,
    ConsumerGroupTargetAssignmentMemberKey.self,
    ConsumerGroupTargetAssignmentMemberValue.self,
    ConsumerGroupTargetAssignmentMetadataKey.self,
    ConsumerGroupTargetAssignmentMetadataValue.self,
    GroupMetadataKey.self,
    GroupMetadataValue.self,
    OffsetCommitKey.self,
    OffsetCommitValue.self,
    ProducerSnapshot.self,
    ShareGroupCurrentMemberAssignmentKey.self,
    ShareGroupCurrentMemberAssignmentValue.self,
    ShareGroupMemberMetadataKey.self,
    ShareGroupMemberMetadataValue.self,
    ShareGroupMetadataKey.self,
    ShareGroupMetadataValue.self,
    ShareGroupPartitionMetadataKey.self,
    ShareGroupPartitionMetadataValue.self,
    ShareGroupStatePartitionMetadataKey.self,
    ShareGroupStatePartitionMetadataValue.self,
    ShareGroupTargetAssignmentMemberKey.self,
    ShareGroupTargetAssignmentMemberValue.self,
    ShareGroupTargetAssignmentMetadataKey.self,
    ShareGroupTargetAssignmentMetadataValue.self,
    ShareSnapshotKey.self,
    ShareSnapshotValue.self,
    ShareUpdateKey.self,
    ShareUpdateValue.self,
    TransactionLogKey.self,
    TransactionLogValue.self,
]

/// Reads the body of `section` of a schema with the generated code.
func decode(
    _ schema: Schema,
    _ section: String,
    version: Int16,
    body: ByteBuffer
) throws -> (any KafkaMessage)? {
    if let api = schema.apiKey.flatMap({ APIKey(rawValue: $0) }) {
        return section == "request"
            ? try MessageCatalog.request(api, version: version, body: body)
            : try MessageCatalog.response(api, version: version, body: body)
    }
    let type = embeddedMessages.first { $0.name == schema.name }
    return try type?.init(from: body, version: version)
}
