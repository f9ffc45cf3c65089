/// A broker of the cluster; never reused for another machine with another disk.
@frozen
public struct BrokerID: Scalar {
    /// The node id as Kafka writes it.
    public var rawValue: Int32

    /// Wraps a broker id.
    @inlinable
    public init(_ rawValue: Int32) {
        self.rawValue = rawValue
    }
}

/// One life of a broker's data directories: a broker that lost its journal comes back as another incarnation.
@frozen
public struct BrokerIncarnation: Hashable, Sendable {
    /// The first eight bytes.
    public var high: UInt64
    /// The last eight bytes.
    public var low: UInt64

    /// Names an incarnation, by 16 bytes chosen at random when the directories were made.
    @inlinable
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
}

/// Which creation of a replica on a broker is meant; a replica that lost its disk comes back with a new one.
@frozen
public struct CreationEpoch: Scalar {
    /// The controller log's index (or a counter before there is one) at which the replica was created.
    public var rawValue: UInt64

    /// Wraps an epoch.
    @inlinable
    public init(_ rawValue: UInt64) {
        self.rawValue = rawValue
    }
}

/// A member of a Raft group: this broker, in this creation.
///
/// The pair is never reused.
@frozen
public struct GroupMember: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The broker that holds the replica.
    public var broker: BrokerID
    /// The creation of the replica on that broker.
    public var epoch: CreationEpoch

    /// Names a member.
    @inlinable
    public init(broker: BrokerID, epoch: CreationEpoch) {
        self.broker = broker
        self.epoch = epoch
    }

    /// Orders by broker, then by creation.
    @inlinable
    public static func < (left: GroupMember, right: GroupMember) -> Bool {
        (left.broker, left.epoch) < (right.broker, right.epoch)
    }

    /// `3.1`: broker 3, creation 1.
    public var description: String {
        "\(broker).\(epoch)"
    }
}

/// A topic's identity: 16 bytes, chosen when the topic is created and never reused for the same name.
@frozen
public struct TopicID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The first eight bytes, most significant first.
    public var high: UInt64
    /// The last eight bytes, most significant first.
    public var low: UInt64

    /// Builds an id from its two halves.
    @inlinable
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// "No id" on the wire.
    public static let zero = TopicID(high: 0, low: 0)

    /// The cluster metadata log, as in Kafka.
    public static let clusterMetadata = TopicID(high: 0, low: 1)

    /// Orders by the bytes.
    @inlinable
    public static func < (left: TopicID, right: TopicID) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }

    /// URL-safe base64 without padding, 22 characters, as Kafka's tools print it.
    public var description: String {
        let alphabet = Array(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8
        )
        var text: [UInt8] = []
        var buffer: UInt32 = 0
        var bitCount = 0
        for half in [high, low] {
            for shift in stride(from: 56, through: 0, by: -8) {
                buffer = buffer << 8 | UInt32(truncatingIfNeeded: half >> UInt64(shift)) & 0xFF
                bitCount += 8
                while bitCount >= 6 {
                    bitCount -= 6
                    text.append(alphabet[Int(buffer >> UInt32(bitCount)) & 63])
                }
                buffer &= (1 << UInt32(bitCount)) - 1
            }
        }
        text.append(alphabet[Int(buffer << UInt32(6 - bitCount)) & 63])
        return String(decoding: text, as: UTF8.self)
    }
}

/// A partition of a topic, by the topic's identity.
@frozen
public struct TopicPartition: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The topic.
    public var topic: TopicID
    /// The partition's number within the topic, from 0.
    public var partition: Int32

    /// Names a partition.
    @inlinable
    public init(topic: TopicID, partition: Int32) {
        self.topic = topic
        self.partition = partition
    }

    /// The cluster metadata log.
    public static let clusterMetadata = TopicPartition(topic: .clusterMetadata, partition: 0)

    /// Orders by topic, then by partition.
    @inlinable
    public static func < (left: TopicPartition, right: TopicPartition) -> Bool {
        (left.topic, left.partition) < (right.topic, right.partition)
    }

    /// `<topic id>-<partition>`.
    public var description: String {
        "\(topic)-\(partition)"
    }
}

/// One replica's place on this broker: the partition and which creation of it; also its directory's name.
@frozen
public struct GroupID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The partition whose Raft group this is.
    public var partition: TopicPartition
    /// The creation of the replica on this broker.
    public var epoch: CreationEpoch

    /// Names a replica.
    @inlinable
    public init(partition: TopicPartition, epoch: CreationEpoch) {
        self.partition = partition
        self.epoch = epoch
    }

    /// Orders by partition, then by creation.
    @inlinable
    public static func < (left: GroupID, right: GroupID) -> Bool {
        (left.partition, left.epoch) < (right.partition, right.epoch)
    }

    /// `<topic id>-<partition>.<epoch>`: the name of the replica's directory.
    public var description: String {
        "\(partition).\(epoch)"
    }
}

/// An idempotent or transactional producer.
@frozen
public struct ProducerID: Scalar {
    /// The id as batches carry it; -1 means "none".
    public var rawValue: Int64

    /// Wraps a producer id.
    @inlinable
    public init(_ rawValue: Int64) {
        self.rawValue = rawValue
    }

    /// A batch without a producer id.
    public static let none = ProducerID(-1)
}

/// Milliseconds since 1 January 1970 UTC, as records and frames carry time.
@frozen
public struct Timestamp: Scalar {
    /// Milliseconds; -1 means "none".
    public var rawValue: Int64

    /// Wraps a time in milliseconds.
    @inlinable
    public init(_ rawValue: Int64) {
        self.rawValue = rawValue
    }

    /// No time given.
    public static let none = Timestamp(-1)
}

extension TopicID {
    /// Reads what `description` writes: 22 characters of URL-safe base64; nil for anything else.
    public init?(_ text: String) {
        guard text.utf8.count == 22 else { return nil }
        var words: (high: UInt64, low: UInt64) = (0, 0)
        for (place, character) in text.utf8.enumerated() {
            guard let digit = Self.digit(character) else { return nil }
            // The last character carries two bits only; the rest of it must be zero.
            let (bits, width) = place == 21 ? (digit >> 4, 2) : (digit, 6)
            guard place < 21 || digit & 0x0F == 0 else { return nil }
            words.high = words.high << UInt64(width) | words.low >> UInt64(64 - width)
            words.low = words.low << UInt64(width) | bits
        }
        self.init(high: words.high, low: words.low)
    }

    private static func digit(_ character: UInt8) -> UInt64? {
        switch character {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt64(character - UInt8(ascii: "A"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt64(character - UInt8(ascii: "a")) + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt64(character - UInt8(ascii: "0")) + 52
        case UInt8(ascii: "-"): 62
        case UInt8(ascii: "_"): 63
        default: nil
        }
    }
}
