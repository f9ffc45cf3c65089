import FlotillaCoordination
import FlotillaModel
import FlotillaReplication
import struct NIOCore.ByteBuffer

/// What brokers tell each other beside Raft's messages; the body of `PeerMessage.application`.
///
/// Format, version 1, little endian:
///
/// | kind | body |
/// |---|---|
/// | 1 leadership | u32 count, then per partition: topic id 16 (two u64, most significant half first), partition i32, term u32, flags u8 (bit 0: resigned), leader i32 (-1: none) |
/// | 2 command | u64 number, then a `MetadataCommand` |
/// | 3 reply | u64 number, u64 index of the metadata log that the answer rests on, then a `MetadataReply` |
/// | 4 transfer | u64 number, topic id 16, partition i32, broker i32 and creation epoch u64 of the member that shall lead |
/// | 5 transferred | u64 number, error code i16 (0: it leads), UTF-8 text |
/// | 6 question | u64 number, then a `PeerQuestion` |
/// | 7 answer | u64 number, then a `PeerAnswer` |
///
/// A broker that does not know a kind drops it: whoever asked hears nothing, and gives up in time.
enum PeerNews {
    /// Partitions that got or lost a leader.
    case leadership([LeadershipUpdate])
    /// A command for the controller's leader.
    case command(number: UInt64, ByteBuffer)
    /// What became of a command.
    case reply(number: UInt64, appliedIndex: LogIndex, ByteBuffer)
    /// For a partition's leader: another member shall lead.
    case transfer(number: UInt64, TopicPartition, to: GroupMember)
    /// What became of a transfer; nil when the other leads.
    case transferred(number: UInt64, Refusal?)
    /// Another broker wants to know something.
    case question(number: UInt64, ByteBuffer)
    /// What it wanted to know.
    case answer(number: UInt64, ByteBuffer)

    /// The version of this format, told in the hello as part of the protocol's.
    static let version = 1

    private enum Kind: UInt16 {
        case leadership = 1
        case command = 2
        case reply = 3
        case transfer = 4
        case transferred = 5
        case question = 6
        case answer = 7
    }

    /// The bytes of one partition's leadership.
    private static let updateByteCount = 16 + 4 + 4 + 1 + 4

    /// The message that carries it.
    var message: PeerMessage {
        var body = ByteBuffer()
        switch self {
        case .leadership(let updates):
            body.reserveCapacity(4 + updates.count * Self.updateByteCount)
            body.writeInteger(UInt32(updates.count), endianness: .little)
            for update in updates {
                Self.write(update.partition, to: &body)
                body.writeInteger(update.term.rawValue, endianness: .little)
                body.writeInteger(update.isResignation ? 1 : 0 as UInt8)
                body.writeInteger(update.leader?.rawValue ?? -1, endianness: .little)
            }
            return .application(kind: Kind.leadership.rawValue, body)
        case .command(let number, let command):
            return Self.numbered(number, command, .command)
        case .reply(let number, let appliedIndex, let reply):
            body.writeInteger(number, endianness: .little)
            body.writeInteger(appliedIndex.rawValue, endianness: .little)
            body.writeImmutableBuffer(reply)
            return .application(kind: Kind.reply.rawValue, body)
        case .transfer(let number, let partition, let target):
            body.writeInteger(number, endianness: .little)
            Self.write(partition, to: &body)
            body.writeInteger(target.broker.rawValue, endianness: .little)
            body.writeInteger(target.epoch.rawValue, endianness: .little)
            return .application(kind: Kind.transfer.rawValue, body)
        case .transferred(let number, let refusal):
            body.writeInteger(number, endianness: .little)
            body.writeInteger(
                (refusal?.code ?? .noError).rawValue,
                endianness: .little
            )
            body.writeString(refusal?.message ?? "")
            return .application(kind: Kind.transferred.rawValue, body)
        case .question(let number, let question):
            return Self.numbered(number, question, .question)
        case .answer(let number, let answer):
            return Self.numbered(number, answer, .answer)
        }
    }

    private static func numbered(
        _ number: UInt64,
        _ content: ByteBuffer,
        _ kind: Kind
    ) -> PeerMessage {
        var body = ByteBuffer()
        body.writeInteger(number, endianness: .little)
        body.writeImmutableBuffer(content)
        return .application(kind: kind.rawValue, body)
    }

    private static func write(_ partition: TopicPartition, to body: inout ByteBuffer) {
        body.writeInteger(partition.topic.high, endianness: .little)
        body.writeInteger(partition.topic.low, endianness: .little)
        body.writeInteger(partition.partition, endianness: .little)
    }

    /// Reads a message's body; nil for a kind that this version does not know and for bytes that are none.
    init?(kind: UInt16, _ body: ByteBuffer) {
        var body = body
        switch Kind(rawValue: kind) {
        case .leadership:
            guard let count = body.readInteger(endianness: .little, as: UInt32.self),
                Int(count) <= body.readableBytes / Self.updateByteCount
            else { return nil }
            var updates: [LeadershipUpdate] = []
            updates.reserveCapacity(Int(count))
            for _ in 0..<count {
                guard let update = Self.readUpdate(&body) else { return nil }
                updates.append(update)
            }
            self = .leadership(updates)
        case .command:
            guard let number = body.readInteger(endianness: .little, as: UInt64.self) else {
                return nil
            }
            self = .command(number: number, body)
        case .reply:
            guard let number = body.readInteger(endianness: .little, as: UInt64.self),
                let index = body.readInteger(endianness: .little, as: UInt64.self)
            else { return nil }
            self = .reply(number: number, appliedIndex: LogIndex(index), body)
        case .transfer:
            guard let number = body.readInteger(endianness: .little, as: UInt64.self),
                let partition = Self.readPartition(&body),
                let broker = body.readInteger(endianness: .little, as: Int32.self),
                let epoch = body.readInteger(endianness: .little, as: UInt64.self)
            else { return nil }
            let target = GroupMember(broker: BrokerID(broker), epoch: CreationEpoch(epoch))
            self = .transfer(number: number, partition, to: target)
        case .transferred:
            guard let number = body.readInteger(endianness: .little, as: UInt64.self),
                let rawCode = body.readInteger(endianness: .little, as: Int16.self),
                let code = ErrorCode(rawValue: rawCode)
            else { return nil }
            self = .transferred(
                number: number,
                code == .noError ? nil : Refusal(code, String(buffer: body))
            )
        case .question:
            guard let number = body.readInteger(endianness: .little, as: UInt64.self) else {
                return nil
            }
            self = .question(number: number, body)
        case .answer:
            guard let number = body.readInteger(endianness: .little, as: UInt64.self) else {
                return nil
            }
            self = .answer(number: number, body)
        case nil:
            return nil
        }
    }

    private static func readPartition(_ body: inout ByteBuffer) -> TopicPartition? {
        guard let high = body.readInteger(endianness: .little, as: UInt64.self),
            let low = body.readInteger(endianness: .little, as: UInt64.self),
            let number = body.readInteger(endianness: .little, as: Int32.self)
        else { return nil }
        return TopicPartition(topic: TopicID(high: high, low: low), partition: number)
    }

    private static func readUpdate(_ body: inout ByteBuffer) -> LeadershipUpdate? {
        guard let partition = readPartition(&body),
            let term = body.readInteger(endianness: .little, as: UInt32.self),
            let flags = body.readInteger(as: UInt8.self),
            let leader = body.readInteger(endianness: .little, as: Int32.self)
        else { return nil }
        return LeadershipUpdate(
            partition: partition,
            term: Term(term),
            leader: leader < 0 ? nil : BrokerID(leader),
            isResignation: flags & 1 == 1
        )
    }
}
