package import FlotillaModel

import struct NIOCore.ByteBuffer

/// How a transaction ended in a partition: a control batch of one record, which takes an offset and
/// which clients skip.
///
/// The record's key is a version (0) and a type (0 abort, 1 commit), two bytes each; its value a
/// version (0) in two bytes and the coordinator's epoch in four. The batch has 78 bytes.
///
/// - Source: `kafka/PROTOCOL.md` §5.3.
package struct TransactionMarker: Hashable, Sendable {
    /// What was decided.
    package enum Decision: Int16, Hashable, Sendable {
        case abort = 0
        case commit = 1
    }

    /// What was decided.
    package var decision: Decision
    /// The transaction's producer.
    package var producerID: ProducerID
    /// The producer's epoch.
    package var producerEpoch: Int16
    /// The epoch of the coordinator that decided; an older one is refused.
    package var coordinatorEpoch: Int32

    /// Names the end of a transaction.
    package init(
        decision: Decision,
        producerID: ProducerID,
        producerEpoch: Int16,
        coordinatorEpoch: Int32
    ) {
        self.decision = decision
        self.producerID = producerID
        self.producerEpoch = producerEpoch
        self.coordinatorEpoch = coordinatorEpoch
    }

    /// Reads the marker of a control batch; nil when it is a control batch of another type, which
    /// readers skip.
    ///
    /// - Throws: `.malformedControlRecord`, `.malformedRecord`.
    package init?(parsing batch: RecordBatch) throws(RecordsError) {
        let header = batch.header
        guard header.attributes.isControl, header.attributes.codec == .none, header.recordCount == 1
        else {
            throw .malformedControlRecord
        }
        let records = batch.recordBytes
        var reader = RecordReader(records.readableBytesSpan)
        let layout = try reader.next()
        guard reader.isAtEnd, layout.key.count >= 4 else {
            throw .malformedControlRecord
        }
        let bytes = records.readableBytesSpan
        guard
            let decision = Decision(rawValue: bytes.bigEndian(Int16.self, at: layout.key.start + 2))
        else {
            return nil
        }
        guard layout.value.count >= 6 else {
            throw .malformedControlRecord
        }
        self.decision = decision
        producerID = header.producerID
        producerEpoch = header.producerEpoch
        coordinatorEpoch = bytes.bigEndian(Int32.self, at: layout.value.start + 2)
    }

    /// The control batch to append.
    package func batch(timestamp: Timestamp) -> RecordBatch {
        var key = ByteBuffer()
        key.writeInteger(Int16(0))
        key.writeInteger(decision.rawValue)
        var value = ByteBuffer()
        value.writeInteger(Int16(0))
        value.writeInteger(coordinatorEpoch)
        var builder = RecordBatchBuilder()
        builder.producerID = producerID
        builder.producerEpoch = producerEpoch
        builder.isTransactional = true
        builder.isControl = true
        builder.append(key: key, value: value, timestamp: timestamp)
        return builder.build(using: Compressor(), leaderEpoch: 0)
    }
}
