public import FlotillaModel
import FlotillaRecords
public import NIOCore

/// A record to publish.
public struct ProducerRecord: Hashable, Sendable {
    /// The topic.
    public var topic: String
    /// The partition; nil lets the key decide, or chance where there is none.
    public var partition: Int32?
    /// The key; nil is not the same as empty.
    public var key: ByteBuffer?
    /// The value; nil is a tombstone.
    public var value: ByteBuffer?
    /// The headers in their order; names may repeat.
    public var headers: [Header]
    /// When it happened; nil is now.
    public var timestamp: Timestamp?

    /// A record with all its parts.
    public init(
        topic: String,
        partition: Int32? = nil,
        key: ByteBuffer? = nil,
        value: ByteBuffer?,
        headers: [Header] = [],
        timestamp: Timestamp? = nil
    ) {
        self.topic = topic
        self.partition = partition
        self.key = key
        self.value = value
        self.headers = headers
        self.timestamp = timestamp
    }
}

/// A header of a record.
public struct Header: Hashable, Sendable {
    /// The name.
    public var name: String
    /// The value; nil is not the same as empty.
    public var value: ByteBuffer?

    /// Names a value.
    public init(name: String, value: ByteBuffer?) {
        self.name = name
        self.value = value
    }
}

/// Where a record was written.
public struct RecordMetadata: Hashable, Sendable {
    /// The partition.
    public var partition: NamedPartition
    /// The record's offset; nil where the broker does not say: with acks none, and for a repeat that it had
    /// forgotten the place of.
    public var offset: Offset?
}

/// What became of a batch of records that `Producer.enqueue` took.
public struct DeliveryReport: Sendable {
    /// The partition.
    public var partition: NamedPartition
    /// The tags of the batch's records, in the order of their offsets.
    public var tags: [UInt64]
    /// The offset of the first; the others follow without gaps.
    ///
    /// Nil as in `RecordMetadata.offset`, and on failure.
    public var baseOffset: Offset?
    /// Why the records were not acknowledged; nil where they were.
    public var error: ClientError?
}

/// How batches are compressed.
public enum Compression: String, Hashable, Sendable, CaseIterable {
    case none, gzip, snappy, lz4, zstd

    var codec: CompressionCodec {
        switch self {
        case .none: .none
        case .gzip: .gzip
        case .snappy: .snappy
        case .lz4: .lz4
        case .zstd: .zstd
        }
    }
}

/// What a producer waits for before it calls a record written.
public enum Acks: Int16, Hashable, Sendable {
    /// Nothing: a record may be lost unnoticed.
    case none = 0
    /// The leader has it.
    case leader = 1
    /// Every in-sync replica has it.
    case all = -1
}

/// How a producer batches, retries and bounds itself.
public struct ProducerConfiguration: Sendable {
    /// What to wait for.
    public var acks = Acks.all
    /// How to compress.
    public var compression = Compression.none
    /// The codec's own level; nil is its default.
    public var compressionLevel: Int?
    /// Whether repeats are recognized by the broker, so that a record is written once; needs acks all.
    public var isIdempotent = true
    /// How long a batch waits for more records.
    public var linger = Duration.milliseconds(5)
    /// A batch of this size is sent without waiting.
    public var batchByteCount = 128 << 10
    /// A larger record is refused.
    public var maximumRecordByteCount = 1 << 20
    /// The most bytes of one request; a single batch may be larger.
    public var maximumRequestByteCount = 8 << 20
    /// The most requests at one broker without an answer; at most 5 when idempotent.
    public var maximumInFlight = 5
    /// The most bytes of records held, sent or not.
    public var bufferByteCount = 64 << 20
    /// After this time a record that is not acknowledged has failed.
    public var deliveryTimeout = Duration.seconds(120)
    /// After this time a topic that still does not exist fails its records.
    public var topicTimeout = Duration.seconds(10)

    /// The defaults.
    public init() {}
}
