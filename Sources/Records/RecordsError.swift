package import FlotillaModel

/// Why bytes are not a frame, a batch or a record; each message says which rule they break.
package enum RecordsError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The bytes end before what they announce.
    case truncated(needed: Int, found: Int)
    /// A frame names a kind of entry that this version does not know.
    case unknownEntryKind(UInt8)
    /// A frame carries flags that this version does not know, or that its kind does not have.
    case unknownFlags(UInt32)
    /// A number in a frame lies outside its range.
    case frameFieldOutOfRange(FrameField)
    /// A frame, or what it covers, was damaged.
    case frameChecksumMismatch(index: LogIndex, stored: UInt32, computed: UInt32)
    /// A frame is intact, but the batch under it says something else.
    case frameDisagreesWithBatch(index: LogIndex, field: FrameField)
    /// A batch of another format than v2.
    case unsupportedMagic(Int8)
    /// A batch announces a length that no batch has.
    case invalidBatchLength(Int32)
    /// More bytes follow where exactly one batch was expected.
    case trailingBytes(Int)
    /// A batch was damaged.
    case batchChecksumMismatch(stored: UInt32, computed: UInt32)
    /// A batch names a codec that does not exist.
    case unknownCodec(UInt8)
    /// A batch's counts contradict each other or are negative.
    case invalidCounts(recordCount: Int32, lastOffsetDelta: Int32)
    /// A record's fields do not fit its length, or the batch.
    case malformedRecord(position: Int)
    /// A batch holds more or fewer records than its header says.
    case recordCountMismatch(announced: Int32, found: Int)
    /// A control batch without exactly one well-formed control record.
    case malformedControlRecord
    /// Compressed bytes that their codec cannot read.
    case corruptCompression(CompressionCodec)
    /// Compressed bytes that would unfold beyond the caller's bound.
    case decompressedTooLarge(limit: Int)

    /// The error as a sentence.
    package var description: String {
        switch self {
        case .truncated(let needed, let found):
            "\(needed) bytes announced, \(found) there"
        case .unknownEntryKind(let kind):
            "entry kind \(kind) is not known to this version"
        case .unknownFlags(let flags):
            "frame flags 0x\(String(flags, radix: 16)) are not known to this version or do not fit the entry's kind"
        case .frameFieldOutOfRange(let field):
            "the frame's \(field) is out of range"
        case .frameChecksumMismatch(let index, let stored, let computed):
            "the frame of entry \(index) fails its checksum (stored \(stored), computed \(computed))"
        case .frameDisagreesWithBatch(let index, let field):
            "the batch of entry \(index) contradicts its frame's \(field)"
        case .unsupportedMagic(let magic):
            "batch format \(magic) is not served; use format 2 (Kafka 0.11 or later)"
        case .invalidBatchLength(let length):
            "no batch has a length of \(length)"
        case .trailingBytes(let count):
            "\(count) bytes follow the batch"
        case .batchChecksumMismatch(let stored, let computed):
            "the batch fails its checksum (stored \(stored), computed \(computed))"
        case .unknownCodec(let codec):
            "compression codec \(codec) does not exist"
        case .invalidCounts(let recordCount, let lastOffsetDelta):
            "the batch's record count \(recordCount) does not fit its last offset delta \(lastOffsetDelta)"
        case .malformedRecord(let position):
            "the record at byte \(position) of the records does not fit its length"
        case .recordCountMismatch(let announced, let found):
            "the batch announces \(announced) records and holds \(found)"
        case .malformedControlRecord:
            "a control batch holds exactly one uncompressed control record"
        case .corruptCompression(let codec):
            "the records are not readable as \(codec)"
        case .decompressedTooLarge(let limit):
            "the records unfold to more than \(limit) bytes"
        }
    }
}

/// A field of a frame, named in errors.
package enum FrameField: String, Hashable, Sendable, CustomStringConvertible {
    case payloadByteCount = "payload length"
    case index
    case term
    case baseOffset = "base offset"
    case offsetSpan = "offset span"

    /// The field in words.
    package var description: String {
        rawValue
    }
}
