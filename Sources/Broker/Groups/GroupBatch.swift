import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRecords
import FlotillaReplication
import struct NIOCore.ByteBuffer

/// Facts about groups as a batch of `__consumer_offsets`, in Kafka's records, so that tools can read them.
///
/// Keys begin with their type: 0 and 1 for commits, 2 for classic groups, 3 to 8 for those of the consumer protocol. Values begin with their version; without a value the fact is void.
/// A commit says more than Kafka's schema has names for, in tagged fields of our own, which other readers pass over; numbers are big endian:
///
/// | tag | field | form |
/// |---|---|---|
/// | 10000 | the topic's id | 16 bytes |
/// | 10001 | index of metadata in which the topic is | u64 |
/// | 10002 | when it is to be forgotten, if the client said so | i64 |
///
/// Before there were these, version 1 held an expiry and version 3 everything else; they are read as well.
/// - Source: Kafka's `OffsetCommitKey`, `OffsetCommitValue`, `GroupMetadataKey` and `GroupMetadataValue`.
enum GroupBatch {
    /// The most bytes that a batch may unfold to; it is never compressed.
    static let byteLimit = 64 << 20

    private static let offsetKeyVersion: Int16 = 1
    private static let offsetVersion: Int16 = 4
    private static let groupKeyVersion: Int16 = 2
    private static let groupVersion: Int16 = 3

    // MARK: Writing

    /// Why facts cannot be written.
    enum Fault: Error {
        /// A name is longer than Kafka's records can hold, or all together are more than a batch takes.
        case tooLong
    }

    /// A batch with these facts.
    ///
    /// `byteLimit`: the most bytes of keys and values; they are counted as they are made, since a name may be repeated in each.
    static func batch(
        of facts: [GroupRecord],
        at time: Timestamp,
        byteLimit: Int
    ) throws(Fault) -> RecordBatch {
        var builder = RecordBatchBuilder()
        for fact in facts {
            do throws(WireError) {
                builder.append(key: try key(of: fact), value: try value(of: fact), timestamp: time)
            } catch {
                throw .tooLong
            }
            guard builder.byteCount <= byteLimit else { throw .tooLong }
        }
        return builder.build(using: Compressor())
    }

    private static func key(of fact: GroupRecord) throws(WireError) -> ByteBuffer {
        switch fact {
        case .offset(let group, let key, _):
            try OffsetCommitKey(group: group, topic: key.topic, partition: key.partition)
                .versionPrefixed(version: offsetKeyVersion)
        case .classicGroup(let name, _):
            try GroupMetadataKey(group: name).versionPrefixed(version: groupKeyVersion)
        case .consumerGroup(let name, let record?): try record.key(in: name)
        case .consumerGroup(let name, nil): try ConsumerGroupRecord.groupKey(name)
        }
    }

    private static func value(of fact: GroupRecord) throws(WireError) -> ByteBuffer? {
        switch fact {
        case .offset(_, _, nil), .classicGroup(_, nil), .consumerGroup(_, nil): nil
        case .offset(_, _, let offset?):
            try OffsetCommitValue(offset).versionPrefixed(version: offsetVersion)
        case .classicGroup(_, let state?):
            try GroupMetadataValue(state).versionPrefixed(version: groupVersion)
        case .consumerGroup(_, let record?): try record.value()
        }
    }

    // MARK: Reading

    /// The facts of an entry.
    ///
    /// - Throws: `.unusableEntry`: the replica then stops.
    static func facts(in entry: LogEntry) throws(ReplicationError) -> [GroupRecord] {
        do {
            let batch = try RecordBatch(parsing: entry.payload)
            var iterator = try RecordIterator(batch, using: Decompressor(), limit: byteLimit)
            var facts: [GroupRecord] = []
            while let record = try iterator.next() {
                facts.append(try fact(record.key ?? ByteBuffer(), record.value))
            }
            return facts
        } catch {
            throw .unusableEntry(index: entry.frame.index, description: "\(error)")
        }
    }

    private static func fact(_ key: ByteBuffer, _ value: ByteBuffer?) throws(WireError)
        -> GroupRecord
    {
        let type = key.getInteger(at: key.readerIndex, as: Int16.self)
        if type == groupKeyVersion {
            let name = try GroupMetadataKey(versionPrefixed: key).group
            guard let value else { return .classicGroup(name: name, nil) }
            return .classicGroup(
                name: name,
                ClassicGroupState(try GroupMetadataValue(versionPrefixed: value))
            )
        }
        if let type, ConsumerGroupRecord.KeyType.all.contains(type) {
            let (group, record) = try ConsumerGroupRecord.read(type, key, value)
            return .consumerGroup(name: group, record)
        }
        let commit = try OffsetCommitKey(versionPrefixed: key)
        let place = OffsetKey(topic: commit.topic, partition: commit.partition)
        guard let value else { return .offset(group: commit.group, key: place, nil) }
        let offset = CommittedOffset(try OffsetCommitValue(versionPrefixed: value))
        return .offset(group: commit.group, key: place, offset)
    }
}

extension OffsetCommitValue {
    /// The tags of our own fields; Kafka counts from 0.
    fileprivate enum Tag {
        static let topicID: UInt32 = 10_000
        static let knownAt: UInt32 = 10_001
        static let expiry: UInt32 = 10_002
    }

    fileprivate init(_ offset: CommittedOffset) {
        self.init(
            offset: offset.offset,
            leaderEpoch: offset.leaderEpoch,
            metadata: offset.metadata,
            commitTimestamp: offset.commitTime.rawValue
        )
        if let topic = offset.topic {
            append(Tag.topicID, [topic.id.high, topic.id.low])
            append(Tag.knownAt, [topic.knownAt.rawValue])
        }
        if let expiry = offset.expiryTime {
            append(Tag.expiry, [UInt64(bitPattern: expiry.rawValue)])
        }
    }

    private mutating func append(_ tag: UInt32, _ words: [UInt64]) {
        var bytes = ByteBuffer()
        for word in words { bytes.writeInteger(word) }
        unknownTaggedFields.append(TaggedField(tag: tag, bytes: bytes))
    }

    /// The words of one of our fields; nil where it is not there.
    fileprivate func words(_ tag: UInt32, count: Int) -> [UInt64]? {
        guard let field = unknownTaggedFields.first(where: { $0.tag == tag }),
            field.bytes.readableBytes == 8 * count
        else { return nil }
        var bytes = field.bytes
        return (0..<count).compactMap { _ in bytes.readInteger() }
    }
}

extension CommittedOffset {
    fileprivate init(_ value: OffsetCommitValue) {
        let expiry =
            value.words(OffsetCommitValue.Tag.expiry, count: 1).map { Int64(bitPattern: $0[0]) }
            ?? value.expireTimestamp
        self.init(
            offset: value.offset,
            leaderEpoch: value.leaderEpoch,
            metadata: value.metadata,
            commitTime: Timestamp(value.commitTimestamp),
            expiryTime: expiry < 0 ? nil : Timestamp(expiry)
        )
        if let id = value.words(OffsetCommitValue.Tag.topicID, count: 2),
            let knownAt = value.words(OffsetCommitValue.Tag.knownAt, count: 1)
        {
            topic = CommittedTopic(
                id: TopicID(high: id[0], low: id[1]),
                knownAt: LogIndex(knownAt[0])
            )
        }
    }
}

extension GroupMetadataValue {
    fileprivate init(_ state: ClassicGroupState) {
        self.init(
            protocolType: state.protocolType,
            generation: state.generation,
            protocol: state.protocolName,
            leader: state.leader,
            currentStateTimestamp: state.time.rawValue,
            members: state.members.map { member in
                MemberMetadata(
                    memberId: member.id,
                    groupInstanceId: member.instanceID,
                    clientId: member.clientID,
                    clientHost: member.clientHost,
                    rebalanceTimeout: member.rebalanceTimeoutMillis,
                    sessionTimeout: member.sessionTimeoutMillis,
                    subscription: member.subscription,
                    assignment: member.assignment
                )
            }
        )
    }
}

extension ClassicGroupState {
    fileprivate init(_ value: GroupMetadataValue) {
        self.init(
            protocolType: value.protocolType,
            generation: value.generation,
            protocolName: value.protocol,
            leader: value.leader,
            time: Timestamp(value.currentStateTimestamp),
            members: value.members.map { member in
                Member(
                    id: member.memberId,
                    instanceID: member.groupInstanceId,
                    clientID: member.clientId,
                    clientHost: member.clientHost,
                    rebalanceTimeoutMillis: member.rebalanceTimeout,
                    sessionTimeoutMillis: member.sessionTimeout,
                    subscription: member.subscription,
                    assignment: member.assignment
                )
            }
        )
    }
}
