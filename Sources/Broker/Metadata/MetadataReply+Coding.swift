package import FlotillaCoordination
import FlotillaModel
package import struct NIOCore.ByteBuffer

/// A reply's bytes, for the broker that sent the command: version 1, kind, body, as in `MetadataCommand`.
///
/// | kind | body |
/// |---|---|
/// | 1 topics | list of (name, result of a topic) |
/// | 2 deletions | list of (reference, result of a topic) |
/// | 3 configs | list of (resource, result of settings) |
/// | 4 producerIDs | start i64, count i32 |
/// | 5 registered | cluster id, member, count u32, list of names |
/// | 6 reassignments | list of (topic, partition i32, result of a place) |
/// | 7 member | optional member |
/// | 8 done | nothing |
/// | 9 refused | refusal |
/// | 10 index | u64 |
/// | 11 quorum | leader i32, term u32, high watermark u64, then voters and learners: lists of (member, end u64, last heard i64, last caught up i64) |
///
/// A result is a flag, and then its value or a refusal: code i16, text. A topic is its id, name, places and settings.
extension MetadataReply {
    /// The reply's bytes.
    ///
    /// - Throws: `.lengthOutOfBounds` for a reply that is too long to be sent.
    package func encoded() throws(CoordinationError) -> ByteBuffer {
        var writer = ByteWriter()
        writer.integer(MetadataCommand.formatVersion)
        writer.integer(kind)
        write(&writer)
        return try MetadataCommand.bounded(writer.buffer)
    }

    /// Reads a reply from exactly these bytes.
    ///
    /// - Throws: for bytes that are damaged, too many, or of another version; it never traps.
    package init(decoding bytes: ByteBuffer) throws(CoordinationError) {
        var reader = ByteReader(try MetadataCommand.bounded(bytes))
        let kind = try reader.versionedKind("metadata reply", MetadataCommand.formatVersion)
        self = try Self.read(kind, &reader)
        try reader.finish("metadata reply")
    }

    private var kind: UInt8 {
        switch self {
        case .topics: 1
        case .deletions: 2
        case .configs: 3
        case .producerIDs: 4
        case .registered: 5
        case .reassignments: 6
        case .member: 7
        case .done: 8
        case .refused: 9
        case .index: 10
        case .quorum: 11
        }
    }

    private func write(_ writer: inout ByteWriter) {
        switch self {
        case .topics(let outcomes):
            writer.list(outcomes) { writer, outcome in
                writer.longText(outcome.name)
                writer.result(outcome.result) { $0.topic($1) }
            }
        case .deletions(let outcomes):
            writer.list(outcomes) { writer, outcome in
                writer.reference(outcome.reference)
                writer.result(outcome.result) { $0.topic($1) }
            }
        case .configs(let outcomes):
            writer.list(outcomes) { writer, outcome in
                writer.resource(outcome.resource)
                writer.result(outcome.result) { $0.configs($1) }
            }
        case .producerIDs(let block):
            writer.integer(block.start.rawValue)
            writer.integer(block.count)
        case .registered(let outcome):
            writer.longText(outcome.clusterID)
            writer.member(outcome.metadataMember)
            writer.count(outcome.renewedPartitionCount)
            writer.list(outcome.lostPartitions) { $0.longText($1) }
        case .reassignments(let outcomes):
            writer.list(outcomes) { writer, outcome in
                writer.longText(outcome.topic)
                writer.integer(outcome.partition)
                writer.result(outcome.result) { $0.place($1) }
            }
        case .member(let member):
            writer.flag(member != nil)
            if let member { writer.member(member) }
        case .done: break
        case .refused(let refusal): writer.refusal(refusal)
        case .index(let index): writer.integer(index.rawValue)
        case .quorum(let quorum): writer.quorum(quorum)
        }
    }

    private static func read(_ kind: UInt8, _ reader: inout ByteReader) throws(CoordinationError)
        -> MetadataReply
    {
        switch kind {
        case 1...3, 6: return try readOutcomes(kind, &reader)
        case 4: return .producerIDs(try reader.producerIDBlock())
        case 5:
            return .registered(
                RegistrationOutcome(
                    clusterID: try reader.longText("cluster id"),
                    metadataMember: try reader.member("metadata member"),
                    renewedPartitionCount: Int(try reader.integer("count", as: UInt32.self)),
                    lostPartitions: try reader.list("partitions", elementByteCount: 4) {
                        reader throws(CoordinationError) in try reader.longText("partition")
                    }
                )
            )
        case 7: return .member(try reader.flag("member") ? try reader.member("member") : nil)
        case 8: return .done
        case 9: return .refused(try reader.refusal())
        case 10: return .index(LogIndex(try reader.integer("index")))
        case 11: return .quorum(try reader.quorum())
        default: throw .unknownCommandKind(Int(kind))
        }
    }

    private static func readOutcomes(_ kind: UInt8, _ reader: inout ByteReader)
        throws(CoordinationError) -> MetadataReply
    {
        switch kind {
        case 1:
            return .topics(
                try reader.list("topics", elementByteCount: 11) {
                    reader throws(CoordinationError) in
                    TopicOutcome(
                        name: try reader.longText("topic name"),
                        result: try reader.topicResult()
                    )
                }
            )
        case 2:
            return .deletions(
                try reader.list("topics", elementByteCount: 12) {
                    reader throws(CoordinationError) in
                    TopicDeletionOutcome(
                        reference: try reader.reference(),
                        result: try reader.topicResult()
                    )
                }
            )
        case 3:
            return .configs(
                try reader.list("resources", elementByteCount: 6) {
                    reader throws(CoordinationError) in
                    let resource = try reader.resource()
                    let result = try reader.result { reader throws(CoordinationError) in
                        try reader.configs()
                    }
                    return ConfigOutcome(resource: resource, result: result)
                }
            )
        case 6:
            return .reassignments(
                try reader.list("partitions", elementByteCount: 15) {
                    reader throws(CoordinationError) in
                    let topic = try reader.longText("topic name")
                    let partition = try reader.integer("partition", as: Int32.self)
                    let result = try reader.result { reader throws(CoordinationError) in
                        try reader.place()
                    }
                    return ReassignmentOutcome(topic: topic, partition: partition, result: result)
                }
            )
        default: throw .unknownCommandKind(Int(kind))
        }
    }
}

// MARK: Fields

extension ByteWriter {
    fileprivate mutating func quorum(_ quorum: QuorumDescription) {
        integer(quorum.leader.rawValue)
        integer(quorum.term.rawValue)
        integer(quorum.highWatermark.rawValue)
        for members in [quorum.voters, quorum.learners] {
            list(members) { writer, each in
                writer.member(each.member)
                writer.integer(each.logEndIndex.rawValue)
                writer.integer(each.lastHeard.rawValue)
                writer.integer(each.lastCaughtUp.rawValue)
            }
        }
    }

    fileprivate mutating func refusal(_ refusal: Refusal) {
        integer(refusal.code.rawValue)
        longText(refusal.message)
    }

    fileprivate mutating func result<Value>(
        _ result: Result<Value, Refusal>,
        _ write: (inout ByteWriter, Value) -> Void
    ) {
        switch result {
        case .success(let value):
            flag(true)
            write(&self, value)
        case .failure(let refusal):
            flag(false)
            self.refusal(refusal)
        }
    }

    fileprivate mutating func topic(_ topic: TopicImage) {
        topicID(topic.id)
        text(topic.name)
        places(topic.partitions)
        configs(topic.configs)
    }
}

extension ByteReader {
    fileprivate mutating func quorum() throws(CoordinationError) -> QuorumDescription {
        QuorumDescription(
            leader: try brokerID("leader"),
            term: Term(try integer("term")),
            highWatermark: LogIndex(try integer("high watermark")),
            voters: try quorumMembers(),
            learners: try quorumMembers()
        )
    }

    private mutating func quorumMembers() throws(CoordinationError)
        -> [QuorumDescription.Member]
    {
        try list("members", elementByteCount: 36) { reader throws(CoordinationError) in
            QuorumDescription.Member(
                member: try reader.member("member"),
                logEndIndex: LogIndex(try reader.integer("end of a log")),
                lastHeard: Timestamp(try reader.integer("time")),
                lastCaughtUp: Timestamp(try reader.integer("time"))
            )
        }
    }

    fileprivate mutating func refusal() throws(CoordinationError) -> Refusal {
        let number = try integer("error code", as: Int16.self)
        guard let code = ErrorCode(rawValue: number) else {
            throw .valueOutOfBounds(field: "error code", value: Int64(number))
        }
        return Refusal(code, try longText("refusal"))
    }

    fileprivate mutating func result<Value>(
        _ value: (inout ByteReader) throws(CoordinationError) -> Value
    ) throws(CoordinationError) -> Result<Value, Refusal> {
        try flag("result") ? .success(try value(&self)) : .failure(try refusal())
    }

    fileprivate mutating func topicResult() throws(CoordinationError) -> Result<TopicImage, Refusal>
    {
        try result { reader throws(CoordinationError) in
            TopicImage(
                id: try reader.topicID("topic id"),
                name: try reader.text("topic name"),
                partitions: try reader.places(),
                configs: try reader.configs()
            )
        }
    }
}
