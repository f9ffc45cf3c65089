package import FlotillaModel
package import struct NIOCore.ByteBuffer

/// A record's bytes; all numbers little endian, the entry's frame carries the checksum.
///
/// | bytes | field |
/// |---|---|
/// | 0 | format version, 1 |
/// | 1 | kind |
/// | 2-5 | byte count of the body |
/// | 6… | body |
///
/// Text is a 16-bit byte count and UTF-8, a list a 32-bit count and its elements, an optional a flag byte and perhaps its value.
///
/// | kind | body |
/// |---|---|
/// | 1 clusterInitialised | cluster id text, format u16 |
/// | 2 brokerRegistered | broker i32, incarnation 16 bytes, list of (listener text, host text, port u16), optional rack text |
/// | 3 topicCreated | topic 16 bytes, name text, list of partitions, list of (setting text, value text) |
/// | 4 partitionsAdded | topic 16 bytes, list of partitions |
/// | 5 topicDeleted | topic 16 bytes |
/// | 6 replicaDeletionConfirmed | topic 16 bytes, broker i32 |
/// | 7 topicConfigsChanged | topic 16 bytes, list of (setting text, optional value text) |
/// | 8 brokerConfigsChanged | optional broker i32, list of (setting text, optional value text) |
/// | 9 producerIDsAllocated | start i64, count i32, broker i32 |
/// | 10 featureLevelSet | level i16 |
/// | 11 clusterFounded | list of (member, incarnation 16 bytes) |
/// | 12 metadataMemberAdded | member |
/// | 13 brokerStateChanged | broker i32, state u8: 0 active, 1 draining |
/// | 14 brokerUnregistered | broker i32 |
/// | 15 partitionsMoved | topic 16 bytes, list of (partition i32, place) |
/// | 16 movementFinished | topic 16 bytes, partition i32, revision u64 |
/// | 17 replicaRemovalConfirmed | member, topic 16 bytes, partition i32 |
/// | 18 clusterRecovered | cluster id text |
/// | 19 groupConfigsChanged | group text, list of (setting text, optional value text) |
///
/// A member is a broker i32 and a creation epoch u64. A partition is a list of members, the preferred leader first. A place is a
/// partition with its movement: the lists of replicas, adding, removing, previous and founders, and the revision u64.
extension MetadataRecord {
    static let formatVersion: UInt8 = 1

    /// The record's bytes; equal records give equal bytes.
    package func encoded() -> ByteBuffer {
        var body = ByteWriter()
        writeBody(&body)
        var writer = ByteWriter()
        writer.integer(Self.formatVersion)
        writer.integer(kind)
        writer.sized(body)
        return writer.buffer
    }

    /// Reads a record from exactly these bytes.
    ///
    /// - Throws: `.unknownRecordKind` or `.unsupportedVersion` for a record of a newer program: the replica must stop and not skip it;
    ///   other errors for damaged bytes. It never traps.
    package init(decoding bytes: ByteBuffer) throws(CoordinationError) {
        var reader = ByteReader(bytes)
        let version = try reader.integer("metadata record", as: UInt8.self)
        guard version == Self.formatVersion else {
            throw .unsupportedVersion(format: "metadata record", version: Int(version))
        }
        let kind = try reader.integer("metadata record", as: UInt8.self)
        let byteCount = try reader.integer("metadata record", as: UInt32.self)
        var body = try reader.slice("metadata record", byteCount: Int(byteCount))
        try reader.finish("metadata record")
        self = try Self.body(of: kind, &body)
        try body.finish(name)
    }

    private var kind: UInt8 {
        switch self {
        case .clusterInitialised: 1
        case .brokerRegistered: 2
        case .topicCreated: 3
        case .partitionsAdded: 4
        case .topicDeleted: 5
        case .replicaDeletionConfirmed: 6
        case .topicConfigsChanged: 7
        case .brokerConfigsChanged: 8
        case .producerIDsAllocated: 9
        case .featureLevelSet: 10
        case .clusterFounded: 11
        case .metadataMemberAdded: 12
        case .brokerStateChanged: 13
        case .brokerUnregistered: 14
        case .partitionsMoved: 15
        case .movementFinished: 16
        case .replicaRemovalConfirmed: 17
        case .clusterRecovered: 18
        case .groupConfigsChanged: 19
        }
    }

    private func writeBody(_ body: inout ByteWriter) {
        switch self {
        case .clusterInitialised(let clusterID, let format):
            body.text(clusterID)
            body.integer(format)
        case .brokerRegistered(let registration):
            body.registration(registration)
        case .topicCreated(let id, let name, let partitions, let configs):
            body.topicID(id)
            body.text(name)
            body.partitions(partitions)
            body.configs(configs)
        case .partitionsAdded(let topic, let partitions):
            body.topicID(topic)
            body.partitions(partitions)
        case .topicDeleted(let topic):
            body.topicID(topic)
        case .replicaDeletionConfirmed(let topic, let broker):
            body.topicID(topic)
            body.integer(broker.rawValue)
        case .topicConfigsChanged(let topic, let changes):
            body.topicID(topic)
            body.changes(changes)
        case .brokerConfigsChanged(let broker, let changes):
            body.flag(broker != nil)
            if let broker {
                body.integer(broker.rawValue)
            }
            body.changes(changes)
        case .groupConfigsChanged(let group, let changes):
            body.text(group)
            body.changes(changes)
        case .producerIDsAllocated(let block, let broker):
            body.integer(block.start.rawValue)
            body.integer(block.count)
            body.integer(broker.rawValue)
        case .featureLevelSet(let level):
            body.integer(level)
        case .clusterFounded, .metadataMemberAdded, .brokerStateChanged, .brokerUnregistered,
            .partitionsMoved, .movementFinished, .replicaRemovalConfirmed, .clusterRecovered:
            writeClusterBody(&body)
        }
    }

    /// The records of a cluster of several brokers.
    private func writeClusterBody(_ body: inout ByteWriter) {
        switch self {
        case .clusterFounded(let founders):
            body.count(founders.count)
            for founder in founders {
                body.member(founder.member)
                body.incarnation(founder.incarnation)
            }
        case .metadataMemberAdded(let member):
            body.member(member)
        case .brokerStateChanged(let broker, let state):
            body.integer(broker.rawValue)
            body.integer(state.rawValue)
        case .brokerUnregistered(let broker):
            body.integer(broker.rawValue)
        case .partitionsMoved(let topic, let changes):
            body.topicID(topic)
            body.count(changes.count)
            for change in changes {
                body.integer(change.number)
                body.place(change.place)
            }
        case .movementFinished(let partition, let revision):
            body.topicPartition(partition)
            body.integer(revision)
        case .replicaRemovalConfirmed(let replica):
            body.member(replica.member)
            body.topicPartition(replica.partition)
        case .clusterRecovered(let clusterID):
            body.text(clusterID)
        case .clusterInitialised, .brokerRegistered, .topicCreated, .partitionsAdded, .topicDeleted,
            .replicaDeletionConfirmed, .topicConfigsChanged, .brokerConfigsChanged,
            .groupConfigsChanged, .producerIDsAllocated, .featureLevelSet:
            preconditionFailure("written by the caller")
        }
    }

    private static func body(of kind: UInt8, _ body: inout ByteReader) throws(CoordinationError)
        -> MetadataRecord
    {
        switch kind {
        case 1:
            .clusterInitialised(
                clusterID: try body.text("cluster id"),
                format: try body.integer("format")
            )
        case 2: .brokerRegistered(try body.registration())
        case 3:
            .topicCreated(
                id: try body.topicID("topic id"),
                name: try body.text("topic name"),
                partitions: try body.partitions(),
                configs: try body.configs()
            )
        case 4:
            .partitionsAdded(topic: try body.topicID("topic id"), partitions: try body.partitions())
        case 5: .topicDeleted(try body.topicID("topic id"))
        case 6:
            .replicaDeletionConfirmed(
                topic: try body.topicID("topic id"),
                broker: try body.brokerID("broker")
            )
        case 7:
            .topicConfigsChanged(topic: try body.topicID("topic id"), changes: try body.changes())
        case 8:
            .brokerConfigsChanged(
                broker: try body.flag("broker") ? try body.brokerID("broker") : nil,
                changes: try body.changes()
            )
        case 9:
            .producerIDsAllocated(try body.producerIDBlock(), broker: try body.brokerID("broker"))
        case 10: .featureLevelSet(try body.integer("feature level"))
        case 11...18: try clusterBody(of: kind, &body)
        case 19: .groupConfigsChanged(group: try body.text("group"), changes: try body.changes())
        default: throw .unknownRecordKind(Int(kind))
        }
    }

    private static func clusterBody(of kind: UInt8, _ body: inout ByteReader)
        throws(CoordinationError) -> MetadataRecord
    {
        switch kind {
        case 11:
            .clusterFounded(
                try body.list("founders", elementByteCount: 28) {
                    reader throws(CoordinationError) in
                    ClusterFounder(
                        member: try reader.member("founder"),
                        incarnation: try reader.incarnation()
                    )
                }
            )
        case 12: .metadataMemberAdded(try body.member("metadata member"))
        case 13:
            .brokerStateChanged(
                broker: try body.brokerID("broker"),
                state: try body.brokerState()
            )
        case 14: .brokerUnregistered(try body.brokerID("broker"))
        case 15:
            .partitionsMoved(
                topic: try body.topicID("topic id"),
                changes: try body.list("partitions", elementByteCount: 32) {
                    reader throws(CoordinationError) in
                    PartitionChange(
                        number: try reader.partitionNumber(),
                        place: try reader.place()
                    )
                }
            )
        case 16:
            .movementFinished(
                partition: try body.topicPartition(),
                revision: try body.integer("revision")
            )
        case 17:
            .replicaRemovalConfirmed(
                RemovedReplica(
                    member: try body.member("replica"),
                    partition: try body.topicPartition()
                )
            )
        case 18: .clusterRecovered(clusterID: try body.text("cluster id"))
        default: throw .unknownRecordKind(Int(kind))
        }
    }
}

extension ByteWriter {
    package mutating func registration(_ registration: BrokerRegistration) {
        integer(registration.id.rawValue)
        incarnation(registration.incarnation)
        count(registration.endpoints.count)
        for endpoint in registration.endpoints {
            text(endpoint.listener)
            text(endpoint.host)
            integer(endpoint.port)
        }
        optionalText(registration.rack)
    }

    mutating func partitions(_ partitions: [PartitionImage]) {
        count(partitions.count)
        for partition in partitions {
            members(partition.replicas)
        }
    }

    package mutating func member(_ member: GroupMember) {
        integer(member.broker.rawValue)
        integer(member.epoch.rawValue)
    }

    mutating func members(_ members: [GroupMember]) {
        count(members.count)
        for member in members {
            self.member(member)
        }
    }

    mutating func incarnation(_ incarnation: BrokerIncarnation) {
        integer(incarnation.high)
        integer(incarnation.low)
    }

    package mutating func topicPartition(_ partition: TopicPartition) {
        topicID(partition.topic)
        integer(partition.partition)
    }

    /// A partition with its movement.
    package mutating func place(_ place: PartitionImage) {
        members(place.replicas)
        members(place.adding)
        members(place.removing)
        members(place.previous)
        members(place.founders)
        integer(place.revision)
    }

    package mutating func places(_ places: [PartitionImage]) {
        count(places.count)
        for place in places {
            self.place(place)
        }
    }

    package mutating func configs(_ configs: ConfigValues) {
        count(configs.entries.count)
        for entry in configs.entries {
            text(entry.name)
            text(entry.value)
        }
    }

    package mutating func changes(_ changes: [ConfigChange]) {
        count(changes.count)
        for change in changes {
            text(change.name)
            optionalText(change.value)
        }
    }
}

extension ByteReader {
    package mutating func registration() throws(CoordinationError) -> BrokerRegistration {
        let id = try brokerID("broker")
        let incarnation = try incarnation()
        var endpoints: [BrokerEndpoint] = []
        for _ in 0..<(try count("endpoints", elementByteCount: 6)) {
            endpoints.append(
                BrokerEndpoint(
                    listener: try text("listener"),
                    host: try text("host"),
                    port: try integer("port")
                )
            )
        }
        return BrokerRegistration(
            id: id,
            incarnation: incarnation,
            endpoints: endpoints,
            rack: try optionalText("rack")
        )
    }

    mutating func partitions() throws(CoordinationError) -> [PartitionImage] {
        var partitions: [PartitionImage] = []
        for _ in 0..<(try count("partitions", elementByteCount: 4)) {
            partitions.append(PartitionImage(replicas: try members("replicas")))
        }
        return partitions
    }

    package mutating func member(_ field: String) throws(CoordinationError) -> GroupMember {
        GroupMember(
            broker: try brokerID(field),
            epoch: CreationEpoch(try integer("creation epoch"))
        )
    }

    mutating func members(_ field: String) throws(CoordinationError) -> [GroupMember] {
        try list(field, elementByteCount: 12) { reader throws(CoordinationError) in
            try reader.member(field)
        }
    }

    mutating func incarnation() throws(CoordinationError) -> BrokerIncarnation {
        BrokerIncarnation(high: try integer("incarnation"), low: try integer("incarnation"))
    }

    package mutating func brokerState() throws(CoordinationError) -> BrokerState {
        let number = try integer("broker state", as: UInt8.self)
        guard let state = BrokerState(rawValue: number) else {
            throw .valueOutOfBounds(field: "broker state", value: Int64(number))
        }
        return state
    }

    /// A partition's number within its topic.
    package mutating func partitionNumber() throws(CoordinationError) -> Int32 {
        let number = try integer("partition", as: Int32.self)
        guard number >= 0 else {
            throw .valueOutOfBounds(field: "partition", value: Int64(number))
        }
        return number
    }

    package mutating func topicPartition() throws(CoordinationError) -> TopicPartition {
        TopicPartition(topic: try topicID("topic id"), partition: try partitionNumber())
    }

    /// A partition with its movement; whether it makes sense is looked at when it is applied.
    package mutating func place() throws(CoordinationError) -> PartitionImage {
        let replicas = try members("replicas")
        let adding = try members("replicas to add")
        let removing = try members("replicas to remove")
        let previous = try members("previous replicas")
        let founders = try members("founding replicas")
        return PartitionImage(
            replicas: replicas,
            adding: adding,
            removing: removing,
            previous: previous,
            revision: try integer("revision"),
            founders: founders
        )
    }

    package mutating func places() throws(CoordinationError) -> [PartitionImage] {
        try list("partitions", elementByteCount: 28) { reader throws(CoordinationError) in
            try reader.place()
        }
    }

    package mutating func configs() throws(CoordinationError) -> ConfigValues {
        var configs = ConfigValues()
        for _ in 0..<(try count("settings", elementByteCount: 4)) {
            let name = try text("setting")
            guard configs[name] == nil else {
                throw .malformedText(field: "setting \(name), which comes twice")
            }
            configs[name] = try text("value of \(name)")
        }
        return configs
    }

    package mutating func changes() throws(CoordinationError) -> [ConfigChange] {
        var changes: [ConfigChange] = []
        for _ in 0..<(try count("settings", elementByteCount: 3)) {
            let name = try text("setting")
            changes.append(ConfigChange(name, try optionalText("value of \(name)")))
        }
        return changes
    }

    package mutating func producerIDBlock() throws(CoordinationError) -> ProducerIDBlock {
        let start = try integer("producer id", as: Int64.self)
        let count = try integer("producer id count", as: Int32.self)
        guard count > 0 else {
            throw .valueOutOfBounds(field: "producer id count", value: Int64(count))
        }
        guard start >= 0, start <= Int64.max - Int64(count) else {
            throw .valueOutOfBounds(field: "producer id", value: start)
        }
        return ProducerIDBlock(start: ProducerID(start), count: count)
    }
}
