import FlotillaKafkaWire
import NIOCore

/// What a member of a classic group tells the one who assigns: bytes within JoinGroup that the broker does not look into.
///
/// - Source: Kafka's ConsumerProtocolSubscription and ConsumerProtocolAssignment; KIP-429, KIP-792, KIP-881.
struct MemberSubscription: Hashable, Sendable {
    var topics: [String]
    var owned: [NamedPartition] = []
    var generation: Int32 = -1
    var rack: String?

    /// The newest form; who knows an older one reads the fields that it knows.
    private static let version: Int16 = 3

    init(
        topics: [String],
        owned: [NamedPartition] = [],
        generation: Int32 = -1,
        rack: String? = nil
    ) {
        self.topics = topics
        self.owned = owned
        self.generation = generation
        self.rack = rack
    }

    /// Reads what any member sent.
    init(_ bytes: ByteBuffer) throws(WireError) {
        let read = try ConsumerProtocolSubscription(versionPrefixed: bytes, acceptsNewer: true)
        topics = read.topics
        owned = read.ownedPartitions.flatMap { topic in
            topic.partitions.map { NamedPartition(topic: topic.topic, index: $0) }
        }
        generation = read.generationId
        rack = read.rackId
        if generation < 0, !owned.isEmpty, var data = read.userData, data.readableBytes == 4 {
            generation = data.readInteger() ?? -1
        }
    }

    /// The bytes for one assignor.
    func bytes(for assignor: Assignor) throws(WireError) -> ByteBuffer {
        var userData: ByteBuffer?
        if assignor == .cooperativeSticky {
            // Leaders from before version 2 look for the generation here.
            userData = ByteBuffer(integer: generation)
        }
        let subscription = ConsumerProtocolSubscription(
            topics: topics.sorted(),
            userData: userData,
            ownedPartitions: Admin.byTopic(owned).map {
                .init(topic: $0.topic, partitions: $0.partitions.map(\.index))
            },
            generationId: generation,
            rackId: rack
        )
        return try subscription.versionPrefixed(version: Self.version)
    }
}

/// The share that the leader gives to a member.
enum MemberAssignment {
    /// Old enough for every client.
    private static let version: Int16 = 1

    static func bytes(_ partitions: [NamedPartition]) throws(WireError) -> ByteBuffer {
        let assignment = ConsumerProtocolAssignment(
            assignedPartitions: Admin.byTopic(partitions).map {
                .init(topic: $0.topic, partitions: $0.partitions.map(\.index))
            }
        )
        return try assignment.versionPrefixed(version: version)
    }

    /// No bytes are no partitions: the leader left this member out.
    static func partitions(_ bytes: ByteBuffer) throws(WireError) -> [NamedPartition] {
        guard bytes.readableBytes > 0 else { return [] }
        let read = try ConsumerProtocolAssignment(versionPrefixed: bytes, acceptsNewer: true)
        return read.assignedPartitions.flatMap { topic in
            topic.partitions.map { NamedPartition(topic: topic.topic, index: $0) }
        }
    }
}
