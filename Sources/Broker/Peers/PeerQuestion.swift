package import FlotillaCoordination
package import FlotillaModel
import struct NIOCore.ByteBuffer

/// What one broker asks another on behalf of a tool: facts that only the other has.
///
/// Format, version 1, little endian; texts are `ByteWriter`'s long ones:
///
/// | kind u8 | body |
/// |---|---|
/// | 1 history | topic id 16 and partition i32 of the group's part of `__consumer_offsets`, the group's name |
package enum PeerQuestion: Hashable, Sendable {
    /// What happened to a group; for its coordinator.
    case history(GroupPlace)

    private enum Kind: UInt8 {
        case history = 1
    }

    var bytes: ByteBuffer {
        var body = ByteWriter()
        switch self {
        case .history(let place):
            body.integer(Kind.history.rawValue)
            place.write(to: &body)
        }
        return body.buffer
    }

    /// Reads a question.
    ///
    /// - Throws: for bytes that are none of this version; it never traps.
    init(_ bytes: ByteBuffer) throws(CoordinationError) {
        var body = ByteReader(bytes)
        let kind = try body.integer("kind", as: UInt8.self)
        switch Kind(rawValue: kind) {
        case .history: self = .history(try GroupPlace(&body))
        case nil: throw .valueOutOfBounds(field: "kind", value: Int64(kind))
        }
        try body.finish("question")
    }
}

/// A group, and the partition of `__consumer_offsets` whose leader coordinates it.
package struct GroupPlace: Hashable, Sendable {
    package var partition: TopicPartition
    package var group: String

    fileprivate func write(to body: inout ByteWriter) {
        body.partition(partition)
        body.longText(group)
    }

    fileprivate init(_ body: inout ByteReader) throws(CoordinationError) {
        partition = try body.partition()
        group = try body.longText("group")
    }

    init(partition: TopicPartition, group: String) {
        self.partition = partition
        self.group = group
    }
}

/// What a broker answers.
///
/// | kind u8 | body |
/// |---|---|
/// | 0 refused | error code i16, a sentence |
/// | 1 history | broker i32, count of dropped events u32, list of `GroupHistoryLine` |
package enum PeerAnswer: Hashable, Sendable {
    case refused(Refusal)
    case history(GroupHistoryReply)

    private enum Kind: UInt8 {
        case refused = 0
        case history = 1
    }

    var bytes: ByteBuffer {
        var body = ByteWriter()
        switch self {
        case .refused(let refusal):
            body.integer(Kind.refused.rawValue)
            body.integer(refusal.code.rawValue)
            body.longText(refusal.message)
        case .history(let reply):
            body.integer(Kind.history.rawValue)
            body.integer(reply.coordinator.rawValue)
            body.integer(UInt32(clamping: reply.droppedCount))
            body.count(reply.lines.count)
            for line in reply.lines { line.write(to: &body) }
        }
        return body.buffer
    }

    /// Reads an answer.
    ///
    /// - Throws: for bytes that are none of this version; it never traps.
    init(_ bytes: ByteBuffer) throws(CoordinationError) {
        var body = ByteReader(bytes)
        let kind = try body.integer("kind", as: UInt8.self)
        switch Kind(rawValue: kind) {
        case .refused: self = .refused(Refusal(try body.errorCode(), try body.longText("message")))
        case .history:
            self = .history(
                GroupHistoryReply(
                    coordinator: BrokerID(try body.integer("broker")),
                    droppedCount: Int(try body.integer("dropped", as: UInt32.self)),
                    lines: try body.list(
                        "lines",
                        elementByteCount: GroupHistoryLine.leastByteCount
                    ) { body throws(CoordinationError) in try GroupHistoryLine(&body) }
                )
            )
        case nil: throw .valueOutOfBounds(field: "kind", value: Int64(kind))
        }
        try body.finish("answer")
    }
}

extension ByteWriter {
    fileprivate mutating func partition(_ partition: TopicPartition) {
        topicID(partition.topic)
        integer(partition.partition)
    }
}

extension ByteReader {
    fileprivate mutating func partition() throws(CoordinationError) -> TopicPartition {
        TopicPartition(topic: try topicID("topic"), partition: try integer("partition"))
    }

    /// A code that this version does not know is an error that nobody knows.
    fileprivate mutating func errorCode() throws(CoordinationError) -> ErrorCode {
        ErrorCode(rawValue: try integer("error")) ?? .unknownServerError
    }
}
