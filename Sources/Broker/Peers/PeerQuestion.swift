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
/// | 2 lag | the same |
/// | 3 positions | list of (topic id 16, partition i32, offset i64) |
package enum PeerQuestion: Hashable, Sendable {
    /// What happened to a group; for its coordinator.
    case history(GroupPlace)
    /// How far a group is behind; for its coordinator.
    case lag(GroupPlace)
    /// How far readers are behind; for the leader of the partitions.
    case positions([PositionCall])

    private enum Kind: UInt8 {
        case history = 1
        case lag = 2
        case positions = 3
    }

    /// How long an answer may take; who finds a lag asks others in turn.
    var patience: Duration {
        switch self {
        case .history, .lag: .seconds(5)
        case .positions: .seconds(1)
        }
    }

    var bytes: ByteBuffer {
        var body = ByteWriter()
        switch self {
        case .history(let place):
            body.integer(Kind.history.rawValue)
            place.write(to: &body)
        case .lag(let place):
            body.integer(Kind.lag.rawValue)
            place.write(to: &body)
        case .positions(let calls):
            body.integer(Kind.positions.rawValue)
            body.count(calls.count)
            for call in calls {
                body.partition(call.partition)
                body.integer(call.offset.rawValue)
            }
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
        case .lag: self = .lag(try GroupPlace(&body))
        case .positions:
            self = .positions(
                try body.list("positions", elementByteCount: 28) {
                    body throws(CoordinationError) in
                    PositionCall(
                        partition: try body.partition(),
                        offset: Offset(try body.integer("offset"))
                    )
                }
            )
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
/// | 2 lag | broker i32, time i64, list of (topic, partition i32, committed i64, start i64, end i64, time i64; -1 for what is not known) |
/// | 3 positions | list of (error code i16, log start i64, high watermark i64, time i64; -1 for what is not known) |
package enum PeerAnswer: Hashable, Sendable {
    case refused(Refusal)
    case history(GroupHistoryReply)
    case lag(GroupLagReply)
    case positions([PositionReply])

    private enum Kind: UInt8 {
        case refused = 0
        case history = 1
        case lag = 2
        case positions = 3
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
        case .lag(let reply):
            body.integer(Kind.lag.rawValue)
            body.integer(reply.coordinator.rawValue)
            body.integer(reply.time.rawValue)
            body.count(reply.positions.count)
            for position in reply.positions { position.write(to: &body) }
        case .positions(let replies):
            body.integer(Kind.positions.rawValue)
            body.count(replies.count)
            for reply in replies {
                body.integer(reply.error.rawValue)
                body.integer(reply.logStartOffset.rawValue)
                body.integer(reply.highWatermark.rawValue)
                body.time(reply.time)
            }
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
        case .lag:
            self = .lag(
                GroupLagReply(
                    coordinator: BrokerID(try body.integer("broker")),
                    time: Timestamp(try body.integer("time")),
                    positions: try body.list("positions", elementByteCount: 40) {
                        body throws(CoordinationError) in try GroupPosition(&body)
                    }
                )
            )
        case .positions:
            self = .positions(
                try body.list("positions", elementByteCount: 26) {
                    body throws(CoordinationError) in
                    PositionReply(
                        error: try body.errorCode(),
                        logStartOffset: Offset(try body.integer("log start")),
                        highWatermark: Offset(try body.integer("high watermark")),
                        time: try body.time()
                    )
                }
            )
        case nil: throw .valueOutOfBounds(field: "kind", value: Int64(kind))
        }
        try body.finish("answer")
    }
}

extension GroupPosition {
    fileprivate func write(to body: inout ByteWriter) {
        body.longText(key.topic)
        body.integer(key.partition)
        body.integer(committed.rawValue)
        body.integer(start?.rawValue ?? -1)
        body.integer(end?.rawValue ?? -1)
        body.time(time)
    }

    fileprivate init(_ body: inout ByteReader) throws(CoordinationError) {
        self.init(
            key: OffsetKey(
                topic: try body.longText("topic"),
                partition: try body.integer("partition")
            ),
            committed: Offset(try body.integer("committed"))
        )
        start = try body.offset("start")
        end = try body.offset("end")
        time = try body.time()
    }
}

extension ByteWriter {
    fileprivate mutating func time(_ time: Timestamp?) {
        integer((time ?? .none).rawValue)
    }

    fileprivate mutating func partition(_ partition: TopicPartition) {
        topicID(partition.topic)
        integer(partition.partition)
    }
}

extension ByteReader {
    fileprivate mutating func time() throws(CoordinationError) -> Timestamp? {
        let time = Timestamp(try integer("time"))
        return time == .none ? nil : time
    }

    fileprivate mutating func offset(_ field: String) throws(CoordinationError) -> Offset? {
        let offset = try integer(field, as: Int64.self)
        return offset < 0 ? nil : Offset(offset)
    }

    fileprivate mutating func partition() throws(CoordinationError) -> TopicPartition {
        TopicPartition(topic: try topicID("topic"), partition: try integer("partition"))
    }

    /// A code that this version does not know is an error that nobody knows.
    fileprivate mutating func errorCode() throws(CoordinationError) -> ErrorCode {
        ErrorCode(rawValue: try integer("error")) ?? .unknownServerError
    }
}
