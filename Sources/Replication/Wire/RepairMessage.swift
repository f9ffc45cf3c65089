package import FlotillaModel
import FlotillaRaft
package import FlotillaRecords
package import FlotillaStorage

package import struct NIOCore.ByteBuffer

/// What replicas of a partition ask and answer to heal damage: kinds 1 to 15 of `ReplicaMessage`.
///
/// Little endian. Each begins with the number of the question, eight bytes, which the answer repeats. Then:
///
/// | kind | bytes | field |
/// |---|---|---|
/// | 1 entries are wanted | 8-15, 16-23 | the first and the last index |
/// | | 24-27 | the most bytes that the answer should have |
/// | 2 entries | 8-15 | index of the first |
/// | | 16-19 | how many, at least one |
/// | | 20- | each frame and payload exactly as on disk |
/// | 3 a `.state` is wanted | 8-15, 16-23 | base offset and first index of its name |
/// | 4 a `.state` | 8- | the file's bytes |
/// | 5 declined | 8 | why: 1 absent, 2 damaged, 3 busy |
/// | | 9-16 | the first index behind it that may be had; above all that was asked for: none |
package enum RepairMessage: Sendable {
    /// Committed entries of this range are wanted, as many as these bytes hold and one at least.
    case entriesWanted(number: UInt64, ClosedRange<LogIndex>, maxByteCount: Int)
    /// Entries from the first one that was asked for on; each was checked when it was read.
    case entries(number: UInt64, [LogEntry])
    /// The `.state` of this name is wanted.
    case stateWanted(number: UInt64, SegmentName)
    /// A `.state` file.
    case state(number: UInt64, ByteBuffer)
    /// The answer is no.
    case declined(number: UInt64, RepairRefusal, next: LogIndex)

    /// The kinds of `ReplicaMessage` that are for repairs.
    package static let kinds: ClosedRange<UInt16> = 1...15

    private enum Kind: UInt16 {
        case entriesWanted = 1
        case entries = 2
        case stateWanted = 3
        case state = 4
        case declined = 5
    }

    // MARK: Writing

    /// The message between two replicas of a partition.
    package func message(
        of partition: TopicPartition,
        from sender: CreationEpoch,
        to target: CreationEpoch
    ) -> ReplicaMessage {
        ReplicaMessage(
            partition: partition,
            senderEpoch: sender,
            targetEpoch: target,
            kind: kind.rawValue,
            parts: parts
        )
    }

    private var kind: Kind {
        switch self {
        case .entriesWanted: .entriesWanted
        case .entries: .entries
        case .stateWanted: .stateWanted
        case .state: .state
        case .declined: .declined
        }
    }

    private var parts: [ByteBuffer] {
        var head = ByteBuffer()
        var rest: [ByteBuffer] = []
        switch self {
        case .entriesWanted(let number, let indexes, let maxByteCount):
            head.writeInteger(number, endianness: .little)
            head.writeInteger(indexes.lowerBound.rawValue, endianness: .little)
            head.writeInteger(indexes.upperBound.rawValue, endianness: .little)
            head.writeInteger(UInt32(clamping: maxByteCount), endianness: .little)
        case .entries(let number, let entries):
            precondition(!entries.isEmpty, "who has no entries declines")
            head.writeInteger(number, endianness: .little)
            head.writeInteger(entries[0].frame.index.rawValue, endianness: .little)
            head.writeInteger(UInt32(entries.count), endianness: .little)
            for entry in entries { entry.appendParts(to: &rest) }
        case .stateWanted(let number, let name):
            head.writeInteger(number, endianness: .little)
            head.writeInteger(name.baseOffset.rawValue, endianness: .little)
            head.writeInteger(name.firstIndex.rawValue, endianness: .little)
        case .state(let number, let bytes):
            head.writeInteger(number, endianness: .little)
            if bytes.readableBytes > 0 { rest.append(bytes) }
        case .declined(let number, let refusal, let next):
            head.writeInteger(number, endianness: .little)
            head.writeInteger(refusal.rawValue)
            head.writeInteger(next.rawValue, endianness: .little)
        }
        return [head] + rest
    }

    // MARK: Reading

    /// Reads a message of one of `kinds`, and checks every entry in it to the last byte.
    ///
    /// - Throws: what makes the bytes no message of this version.
    package init(_ message: ReplicaMessage) throws(PeerWireError) {
        guard let kind = Kind(rawValue: message.kind) else {
            throw .unknownMessageKind(UInt8(clamping: message.kind))
        }
        precondition(message.parts.count <= 1, "what was received is in one piece")
        var fields = PeerFields(message.parts.first ?? ByteBuffer())
        let number = try fields.integer(UInt64.self)
        switch kind {
        case .entriesWanted:
            let first = try fields.position(.firstIndex)
            let last = try fields.position(.lastIndex)
            guard first <= last else { throw .fieldOutOfRange(.lastIndex, last.rawValue) }
            let byteCount = try fields.integer(UInt32.self)
            self = .entriesWanted(number: number, first...last, maxByteCount: Int(byteCount))
        case .entries:
            self = .entries(number: number, try fields.run())
        case .stateWanted:
            let offset = try fields.integer(Int64.self)
            guard offset >= 0 else {
                throw .fieldOutOfRange(.baseOffset, UInt64(bitPattern: offset))
            }
            let name = SegmentName(
                baseOffset: Offset(offset),
                firstIndex: try fields.position(.firstIndex)
            )
            self = .stateWanted(number: number, name)
        case .state:
            self = .state(number: number, fields.takeRest())
        case .declined:
            let reason = try fields.integer(UInt8.self)
            guard let refusal = RepairRefusal(rawValue: reason) else {
                throw .fieldOutOfRange(.reason, UInt64(reason))
            }
            self = .declined(number: number, refusal, next: try fields.index(.firstIndex))
        }
        try fields.finish()
    }
}

/// Why a replica does not give what another one needs to heal.
package enum RepairRefusal: UInt8, Hashable, Sendable {
    /// It does not have it: deleted, or not committed there.
    case absent = 1
    /// It is damaged there as well.
    case damaged = 2
    /// It cannot be read now.
    case busy = 3
}

extension PeerFields {
    /// The index of an entry, of which the first is 1.
    fileprivate mutating func position(_ field: PeerWireField) throws(PeerWireError) -> LogIndex {
        let index = try self.index(field)
        guard index > .zero else { throw .fieldOutOfRange(field, 0) }
        return index
    }

    /// Entries that follow each other, from the index in front of them on.
    fileprivate mutating func run() throws(PeerWireError) -> [LogEntry] {
        let first = try position(.firstIndex)
        let count = try integer(UInt32.self)
        guard count > 0 else { throw .fieldOutOfRange(.entryCount, 0) }
        return try entries(
            count,
            after: LogPosition(term: .zero, index: first - 1),
            in: Term(UInt32(Int32.max))
        )
    }
}
