package import FlotillaCoordination
import FlotillaModel
package import struct NIOCore.ByteBuffer

/// A command's bytes, for the broker that leads the controller group; all numbers little endian.
///
/// | bytes | field |
/// |---|---|
/// | 0 | version, 1 |
/// | 1 | kind |
/// | 2… | body |
///
/// Text is a 32-bit byte count and UTF-8, since clients send what they like; a list is a 32-bit count and its elements, an optional a
/// flag byte and perhaps its value. Registrations, members and places are as in metadata records.
///
/// | kind | body |
/// |---|---|
/// | 1 createTopics | list of (name, partitions i32, factor i16, list of (partition i32, list of broker i32), changes), flag |
/// | 2 deleteTopics | list of references |
/// | 3 createPartitions | list of (name, count i32, optional list of lists of broker i32), flag |
/// | 4 incrementalAlterConfigs | list of (resource, list of (operation i8, name, optional value)), flag |
/// | 5 alterConfigs | list of (resource, changes), flag |
/// | 6 allocateProducerIDs | nothing |
/// | 7 replicaRemoved | topic 16 bytes, partition i32, epoch u64 |
/// | 8 registerBroker | registration |
/// | 9 alterReassignments | list of (topic, partition i32, optional list of broker i32), flag |
/// | 10 finishMovement | topic 16 bytes, partition i32, revision u64 |
/// | 11 renewReplica | member, topic 16 bytes, partition i32 |
/// | 12 setBrokerState | broker i32, state u8, flag |
/// | 13 unregisterBroker | broker i32 |
/// | 14 setFeatureLevel | level i16, flag |
/// | 15 readIndex, 16 describeQuorum | nothing |
/// | 17 findMember | broker i32, log index u64 |
extension MetadataCommand {
    /// The most bytes that a command or a reply may have; a client's request that makes more is refused.
    package static let byteLimit = 16 << 20
    static let formatVersion: UInt8 = 1

    /// The command's bytes.
    ///
    /// - Throws: `.lengthOutOfBounds` for a command that is too long to be sent.
    package func encoded() throws(CoordinationError) -> ByteBuffer {
        var writer = ByteWriter()
        writer.integer(Self.formatVersion)
        writer.integer(kind)
        write(&writer)
        return try Self.bounded(writer.buffer)
    }

    /// Reads a command from exactly these bytes.
    ///
    /// - Throws: for bytes that are damaged, too many, or of another version; it never traps.
    package init(decoding bytes: ByteBuffer) throws(CoordinationError) {
        var reader = ByteReader(try Self.bounded(bytes))
        let kind = try reader.versionedKind("metadata command", Self.formatVersion)
        self = try Self.read(kind, &reader)
        try reader.finish("metadata command")
    }

    static func bounded(_ bytes: ByteBuffer) throws(CoordinationError) -> ByteBuffer {
        guard bytes.readableBytes <= byteLimit else {
            throw .lengthOutOfBounds(field: "metadata command", length: bytes.readableBytes)
        }
        return bytes
    }

    private var kind: UInt8 {
        switch self {
        case .createTopics: 1
        case .deleteTopics: 2
        case .createPartitions: 3
        case .incrementalAlterConfigs: 4
        case .alterConfigs: 5
        case .allocateProducerIDs: 6
        case .replicaRemoved: 7
        case .registerBroker: 8
        case .alterReassignments: 9
        case .finishMovement: 10
        case .renewReplica: 11
        case .setBrokerState: 12
        case .unregisterBroker: 13
        case .setFeatureLevel: 14
        case .readIndex: 15
        case .describeQuorum: 16
        case .findMember: 17
        }
    }

    private func write(_ writer: inout ByteWriter) {
        switch self {
        case .createTopics(let requests, let validateOnly):
            writer.list(requests) { $0.topicRequest($1) }
            writer.flag(validateOnly)
        case .deleteTopics(let references):
            writer.list(references) { $0.reference($1) }
        case .createPartitions(let requests, let validateOnly):
            writer.list(requests) { $0.partitionsRequest($1) }
            writer.flag(validateOnly)
        case .incrementalAlterConfigs(let alterations, let validateOnly):
            writer.list(alterations) { $0.alteration($1) }
            writer.flag(validateOnly)
        case .alterConfigs(let replacements, let validateOnly):
            writer.list(replacements) { writer, replacement in
                writer.resource(replacement.resource)
                writer.longChanges(replacement.configs)
            }
            writer.flag(validateOnly)
        case .allocateProducerIDs, .readIndex, .describeQuorum: break
        case .replicaRemoved(let group):
            writer.topicPartition(group.partition)
            writer.integer(group.epoch.rawValue)
        case .registerBroker(let registration): writer.registration(registration)
        case .alterReassignments(let requests, let allowsChange):
            writer.list(requests) { $0.reassignmentRequest($1) }
            writer.flag(allowsChange)
        case .finishMovement(let partition, let revision):
            writer.topicPartition(partition)
            writer.integer(revision)
        case .renewReplica(let member, let partition):
            writer.member(member)
            writer.topicPartition(partition)
        case .setBrokerState(let broker, let state, let allowsPartial):
            writer.integer(broker.rawValue)
            writer.integer(state.rawValue)
            writer.flag(allowsPartial)
        case .unregisterBroker(let broker): writer.integer(broker.rawValue)
        case .findMember(let broker, let index):
            writer.integer(broker.rawValue)
            writer.integer(index.rawValue)
        case .setFeatureLevel(let level, let validateOnly):
            writer.integer(level)
            writer.flag(validateOnly)
        }
    }

    private static func read(_ kind: UInt8, _ reader: inout ByteReader) throws(CoordinationError)
        -> MetadataCommand
    {
        switch kind {
        case 1...5: return try readTopicCommand(kind, &reader)
        case 6: return .allocateProducerIDs
        case 7:
            let partition = try reader.topicPartition()
            let epoch = CreationEpoch(try reader.integer("creation epoch"))
            return .replicaRemoved(GroupID(partition: partition, epoch: epoch))
        case 8: return .registerBroker(try reader.registration())
        case 9:
            let requests = try reader.list("reassignments", elementByteCount: 9) {
                reader throws(CoordinationError) in try reader.reassignmentRequest()
            }
            return .alterReassignments(
                requests,
                allowsReplicationFactorChange: try reader.flag("another replication factor")
            )
        case 10:
            let partition = try reader.topicPartition()
            return .finishMovement(partition, revision: try reader.integer("revision"))
        case 11:
            let member = try reader.member("replica")
            return .renewReplica(member, of: try reader.topicPartition())
        case 12:
            let broker = try reader.brokerID("broker")
            let state = try reader.brokerState()
            return .setBrokerState(broker, state, allowsPartial: try reader.flag("partial"))
        case 13: return .unregisterBroker(try reader.brokerID("broker"))
        case 14:
            let level = try reader.integer("feature level", as: Int16.self)
            return .setFeatureLevel(level, validateOnly: try reader.flag("validate only"))
        case 15: return .readIndex
        case 16: return .describeQuorum
        case 17:
            let broker = try reader.brokerID("broker")
            let index = LogIndex(try reader.integer("applied index"))
            return .findMember(broker, appliedIndex: index)
        default: throw .unknownCommandKind(Int(kind))
        }
    }

    private static func readTopicCommand(_ kind: UInt8, _ reader: inout ByteReader)
        throws(CoordinationError) -> MetadataCommand
    {
        switch kind {
        case 1:
            let requests = try reader.list("topics", elementByteCount: 18) {
                reader throws(CoordinationError) in try reader.topicRequest()
            }
            return .createTopics(requests, validateOnly: try reader.flag("validate only"))
        case 2:
            return .deleteTopics(
                try reader.list("topics", elementByteCount: 5) {
                    reader throws(CoordinationError) in try reader.reference()
                }
            )
        case 3:
            let requests = try reader.list("topics", elementByteCount: 9) {
                reader throws(CoordinationError) in try reader.partitionsRequest()
            }
            return .createPartitions(requests, validateOnly: try reader.flag("validate only"))
        case 4:
            let alterations = try reader.list("resources", elementByteCount: 5) {
                reader throws(CoordinationError) in try reader.alteration()
            }
            return .incrementalAlterConfigs(
                alterations,
                validateOnly: try reader.flag("validate only")
            )
        case 5:
            let replacements = try reader.list("resources", elementByteCount: 5) {
                reader throws(CoordinationError) in
                ConfigReplacement(
                    resource: try reader.resource(),
                    configs: try reader.longChanges()
                )
            }
            return .alterConfigs(replacements, validateOnly: try reader.flag("validate only"))
        default: throw .unknownCommandKind(Int(kind))
        }
    }
}

// MARK: Fields

extension ByteWriter {
    mutating func list<Element>(
        _ elements: [Element],
        _ write: (inout ByteWriter, Element) -> Void
    ) {
        count(elements.count)
        for element in elements {
            write(&self, element)
        }
    }

    mutating func optionalLongText(_ text: String?) {
        flag(text != nil)
        if let text { longText(text) }
    }

    mutating func brokers(_ brokers: [BrokerID]) {
        list(brokers) { $0.integer($1.rawValue) }
    }

    mutating func longChanges(_ changes: [ConfigChange]) {
        list(changes) { writer, change in
            writer.longText(change.name)
            writer.optionalLongText(change.value)
        }
    }

    mutating func resource(_ resource: ConfigResource) {
        switch resource {
        case .topic(let name):
            integer(0 as UInt8)
            longText(name)
        case .broker(let broker):
            integer(1 as UInt8)
            integer(broker.rawValue)
        case .allBrokers: integer(2 as UInt8)
        case .group(let name):
            integer(3 as UInt8)
            longText(name)
        }
    }

    mutating func reference(_ reference: TopicReference) {
        switch reference {
        case .name(let name):
            integer(0 as UInt8)
            longText(name)
        case .id(let id):
            integer(1 as UInt8)
            topicID(id)
        }
    }

    fileprivate mutating func topicRequest(_ request: TopicRequest) {
        longText(request.name)
        integer(request.partitionCount)
        integer(request.replicationFactor)
        list(request.assignments) { writer, assignment in
            writer.integer(assignment.partition)
            writer.brokers(assignment.brokers)
        }
        longChanges(request.configs)
    }

    fileprivate mutating func partitionsRequest(_ request: PartitionsRequest) {
        longText(request.name)
        integer(request.partitionCount)
        flag(request.assignments != nil)
        if let assignments = request.assignments {
            list(assignments) { $0.brokers($1) }
        }
    }

    fileprivate mutating func alteration(_ alteration: ConfigAlteration) {
        resource(alteration.resource)
        list(alteration.steps) { writer, step in
            writer.integer(step.operation.rawValue)
            writer.longText(step.name)
            writer.optionalLongText(step.value)
        }
    }

    fileprivate mutating func reassignmentRequest(_ request: ReassignmentRequest) {
        longText(request.topic)
        integer(request.partition)
        flag(request.brokers != nil)
        if let brokers = request.brokers { self.brokers(brokers) }
    }
}

extension ByteReader {
    /// The kind behind the version, which must be this one.
    mutating func versionedKind(_ format: String, _ version: UInt8) throws(CoordinationError)
        -> UInt8
    {
        let written = try integer(format, as: UInt8.self)
        guard written == version else {
            throw .unsupportedVersion(format: format, version: Int(written))
        }
        return try integer(format, as: UInt8.self)
    }

    mutating func optionalLongText(_ field: String) throws(CoordinationError) -> String? {
        try flag(field) ? try longText(field) : nil
    }

    /// Brokers as a client named them: negative ones are the controller's to refuse.
    mutating func brokers() throws(CoordinationError) -> [BrokerID] {
        try list("brokers", elementByteCount: 4) { reader throws(CoordinationError) in
            BrokerID(try reader.integer("broker"))
        }
    }

    mutating func longChanges() throws(CoordinationError) -> [ConfigChange] {
        try list("settings", elementByteCount: 5) { reader throws(CoordinationError) in
            let name = try reader.longText("setting")
            return ConfigChange(name, try reader.optionalLongText("value of a setting"))
        }
    }

    mutating func resource() throws(CoordinationError) -> ConfigResource {
        let kind = try integer("resource", as: UInt8.self)
        switch kind {
        case 0: return .topic(try longText("topic name"))
        case 1: return .broker(BrokerID(try integer("broker")))
        case 2: return .allBrokers
        case 3: return .group(try longText("group"))
        default: throw .valueOutOfBounds(field: "resource", value: Int64(kind))
        }
    }

    mutating func reference() throws(CoordinationError) -> TopicReference {
        try flag("topic reference")
            ? .id(try topicID("topic id")) : .name(try longText("topic name"))
    }

    fileprivate mutating func topicRequest() throws(CoordinationError) -> TopicRequest {
        TopicRequest(
            name: try longText("topic name"),
            partitionCount: try integer("partition count"),
            replicationFactor: try integer("replication factor"),
            assignments: try list("assignments", elementByteCount: 8) {
                reader throws(CoordinationError) in
                TopicRequest.Assignment(
                    partition: try reader.integer("partition"),
                    brokers: try reader.brokers()
                )
            },
            configs: try longChanges()
        )
    }

    fileprivate mutating func partitionsRequest() throws(CoordinationError) -> PartitionsRequest {
        PartitionsRequest(
            name: try longText("topic name"),
            partitionCount: try integer("partition count"),
            assignments: try flag("assignments")
                ? try list("assignments", elementByteCount: 4) {
                    reader throws(CoordinationError) in try reader.brokers()
                } : nil
        )
    }

    fileprivate mutating func alteration() throws(CoordinationError) -> ConfigAlteration {
        ConfigAlteration(
            resource: try resource(),
            steps: try list("steps", elementByteCount: 6) { reader throws(CoordinationError) in
                let number = try reader.integer("operation", as: Int8.self)
                guard let operation = ConfigOperation(rawValue: number) else {
                    throw .valueOutOfBounds(field: "operation", value: Int64(number))
                }
                let name = try reader.longText("setting")
                return ConfigAlteration.Step(
                    operation,
                    name,
                    try reader.optionalLongText("value of a setting")
                )
            }
        )
    }

    fileprivate mutating func reassignmentRequest() throws(CoordinationError)
        -> ReassignmentRequest
    {
        ReassignmentRequest(
            topic: try longText("topic name"),
            partition: try integer("partition"),
            brokers: try flag("brokers") ? try brokers() : nil
        )
    }
}
