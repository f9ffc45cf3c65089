import FlotillaModel
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
///
/// A partition is a list of replicas (broker i32, creation epoch u64), the preferred leader first.
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
        case .producerIDsAllocated(let block, let broker):
            body.integer(block.start.rawValue)
            body.integer(block.count)
            body.integer(broker.rawValue)
        case .featureLevelSet(let level):
            body.integer(level)
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
        default: throw .unknownRecordKind(Int(kind))
        }
    }
}

extension ByteWriter {
    mutating func registration(_ registration: BrokerRegistration) {
        integer(registration.id.rawValue)
        integer(registration.incarnation.high)
        integer(registration.incarnation.low)
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
            count(partition.replicas.count)
            for replica in partition.replicas {
                integer(replica.broker.rawValue)
                integer(replica.epoch.rawValue)
            }
        }
    }

    mutating func configs(_ configs: ConfigValues) {
        count(configs.entries.count)
        for entry in configs.entries {
            text(entry.name)
            text(entry.value)
        }
    }

    mutating func changes(_ changes: [ConfigChange]) {
        count(changes.count)
        for change in changes {
            text(change.name)
            optionalText(change.value)
        }
    }
}

extension ByteReader {
    mutating func registration() throws(CoordinationError) -> BrokerRegistration {
        let id = try brokerID("broker")
        let incarnation = BrokerIncarnation(
            high: try integer("incarnation"),
            low: try integer("incarnation")
        )
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
            var replicas: [GroupMember] = []
            for _ in 0..<(try count("replicas", elementByteCount: 12)) {
                let broker = try brokerID("replica")
                replicas.append(
                    GroupMember(broker: broker, epoch: CreationEpoch(try integer("creation epoch")))
                )
            }
            partitions.append(PartitionImage(replicas: replicas))
        }
        return partitions
    }

    mutating func configs() throws(CoordinationError) -> ConfigValues {
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

    mutating func changes() throws(CoordinationError) -> [ConfigChange] {
        var changes: [ConfigChange] = []
        for _ in 0..<(try count("settings", elementByteCount: 3)) {
            let name = try text("setting")
            changes.append(ConfigChange(name, try optionalText("value of \(name)")))
        }
        return changes
    }

    mutating func producerIDBlock() throws(CoordinationError) -> ProducerIDBlock {
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
