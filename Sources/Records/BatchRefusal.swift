package import FlotillaModel

/// Why a produced batch is refused; the client gets the code and the sentence, and the log stays as
/// it was.
package enum BatchRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    /// A partition without any bytes to append.
    case noBatch
    /// The bytes are not one sound batch.
    case malformed(RecordsError)
    /// The batch is larger than the topic allows.
    case tooLarge(byteCount: Int, limit: Int)
    /// The batch is larger than a segment may be.
    case largerThanSegment(byteCount: Int, limit: Int)
    /// zstd came in a version of Produce that does not know it.
    case zstdBeforeVersion7
    /// Control batches are the broker's own.
    case controlBatch
    /// Bits that mean nothing, or that only a broker sets.
    case reservedAttributes(UInt16)
    /// A producer id without an epoch or a sequence number, or a transaction without a producer id.
    case incompleteProducer
    /// The count is zero or does not fit the last offset delta.
    case invalidCounts(recordCount: Int32, lastOffsetDelta: Int32)
    /// The records' offsets do not count 0, 1, 2, …
    case gapInOffsets(batchIndex: Int)
    /// The client claims a time that only a broker gives.
    case logAppendTimeFromClient
    /// A compressed batch's largest timestamp is too old or too far ahead.
    case batchTimestampOutOfRange(Timestamp)
    /// Records whose timestamps are too old or too far ahead.
    case timestampsOutOfRange([RecordRefusal])
    /// Records without a key in a compacted topic.
    case keysMissing([RecordRefusal])

    /// The code that the client is told.
    ///
    /// - Source: `kafka/SEMANTICS.md`, PROD-5 to PROD-10.
    package var errorCode: ErrorCode {
        switch self {
        case .malformed(let error): error.produceErrorCode
        case .tooLarge: .messageTooLarge
        case .largerThanSegment: .recordListTooLarge
        case .zstdBeforeVersion7: .unsupportedCompressionType
        case .logAppendTimeFromClient, .batchTimestampOutOfRange, .timestampsOutOfRange:
            .invalidTimestamp
        case .noBatch, .controlBatch, .reservedAttributes, .incompleteProducer, .invalidCounts,
            .gapInOffsets, .keysMissing:
            .invalidRecord
        }
    }

    /// The records at fault, by their place in the batch (Produce version 8 and later).
    package var recordErrors: [RecordRefusal] {
        switch self {
        case .timestampsOutOfRange(let records), .keysMissing(let records): records
        case .gapInOffsets(let batchIndex):
            [RecordRefusal(batchIndex: batchIndex, message: description)]
        case .noBatch, .malformed, .tooLarge, .largerThanSegment, .zstdBeforeVersion7,
            .controlBatch,
            .reservedAttributes, .incompleteProducer, .invalidCounts, .logAppendTimeFromClient,
            .batchTimestampOutOfRange:
            []
        }
    }

    /// The refusal as a sentence for the client.
    package var description: String {
        switch self {
        case .noBatch:
            "a partition needs exactly one batch, and none came"
        case .malformed(let error):
            error.description
        case .tooLarge(let byteCount, let limit):
            "the batch has \(byteCount) bytes; max.message.bytes allows \(limit)"
        case .largerThanSegment(let byteCount, let limit):
            "the batch has \(byteCount) bytes; segment.bytes allows \(limit)"
        case .zstdBeforeVersion7:
            "zstd needs Produce version 7 or later"
        case .controlBatch:
            "control batches are written by brokers only"
        case .reservedAttributes(let attributes):
            "the batch's attributes 0x\(String(attributes, radix: 16)) have bits that producers do not set"
        case .incompleteProducer:
            "a producer id comes with an epoch and a sequence number, and a transaction with a producer id"
        case .invalidCounts(let recordCount, let lastOffsetDelta):
            "\(recordCount) records do not fit a last offset delta of \(lastOffsetDelta)"
        case .gapInOffsets(let batchIndex):
            "the record at place \(batchIndex) has another offset delta"
        case .logAppendTimeFromClient:
            "log append time is given by brokers only"
        case .batchTimestampOutOfRange(let timestamp):
            "timestamp \(timestamp) is outside what the topic accepts"
        case .timestampsOutOfRange(let records):
            "\(records.count) records have timestamps outside what the topic accepts"
        case .keysMissing(let records):
            "\(records.count) records have no key, which a compacted topic needs"
        }
    }
}

/// One record of a refused batch, and why.
package struct RecordRefusal: Hashable, Sendable {
    /// The record's place in the batch, from 0.
    package var batchIndex: Int
    /// Why, as a sentence.
    package var message: String

    /// Names a record.
    package init(batchIndex: Int, message: String) {
        self.batchIndex = batchIndex
        self.message = message
    }
}

extension RecordsError {
    /// What a producer is told about bytes like these: damage (which it may send again) or nonsense
    /// (which it may not).
    package var produceErrorCode: ErrorCode {
        switch self {
        case .truncated, .invalidBatchLength, .batchChecksumMismatch, .corruptCompression:
            .corruptMessage
        case .decompressedTooLarge:
            .messageTooLarge
        case .unknownCodec:
            .unsupportedCompressionType
        case .unsupportedMagic, .trailingBytes, .invalidCounts, .malformedRecord,
            .recordCountMismatch,
            .malformedControlRecord:
            .invalidRecord
        case .unknownEntryKind, .unknownFlags, .frameFieldOutOfRange, .frameChecksumMismatch,
            .frameDisagreesWithBatch:
            .unknownServerError
        }
    }
}
