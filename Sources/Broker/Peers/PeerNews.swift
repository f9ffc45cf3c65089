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
enum PeerNews {
    /// Partitions that got or lost a leader.
    case leadership([LeadershipUpdate])
    /// A command for the controller's leader.
    case command(number: UInt64, ByteBuffer)
    /// What became of a command.
    case reply(number: UInt64, appliedIndex: LogIndex, ByteBuffer)

    /// The version of this format, told in the hello as part of the protocol's.
    static let version = 1

    private enum Kind: UInt16 {
        case leadership = 1
        case command = 2
        case reply = 3
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
                body.writeInteger(update.partition.topic.high, endianness: .little)
                body.writeInteger(update.partition.topic.low, endianness: .little)
                body.writeInteger(update.partition.partition, endianness: .little)
                body.writeInteger(update.term.rawValue, endianness: .little)
                body.writeInteger(update.isResignation ? 1 : 0 as UInt8)
                body.writeInteger(update.leader?.rawValue ?? -1, endianness: .little)
            }
            return .application(kind: Kind.leadership.rawValue, body)
        case .command(let number, let command):
            body.writeInteger(number, endianness: .little)
            body.writeImmutableBuffer(command)
            return .application(kind: Kind.command.rawValue, body)
        case .reply(let number, let appliedIndex, let reply):
            body.writeInteger(number, endianness: .little)
            body.writeInteger(appliedIndex.rawValue, endianness: .little)
            body.writeImmutableBuffer(reply)
            return .application(kind: Kind.reply.rawValue, body)
        }
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
        case nil:
            return nil
        }
    }

    private static func readUpdate(_ body: inout ByteBuffer) -> LeadershipUpdate? {
        guard let high = body.readInteger(endianness: .little, as: UInt64.self),
            let low = body.readInteger(endianness: .little, as: UInt64.self),
            let partition = body.readInteger(endianness: .little, as: Int32.self),
            let term = body.readInteger(endianness: .little, as: UInt32.self),
            let flags = body.readInteger(as: UInt8.self),
            let leader = body.readInteger(endianness: .little, as: Int32.self)
        else { return nil }
        return LeadershipUpdate(
            partition: TopicPartition(
                topic: TopicID(high: high, low: low),
                partition: partition
            ),
            term: Term(term),
            leader: leader < 0 ? nil : BrokerID(leader),
            isResignation: flags & 1 == 1
        )
    }
}
