import FlotillaModel
import FlotillaRaft
import FlotillaRecords

import struct NIOCore.ByteBuffer

/// The kinds of records in a round.
///
/// A record is a head of 40 bytes and a body, little endian, one after the other without padding:
///
/// | bytes | field |
/// |---|---|
/// | 0 | kind |
/// | 1-3 | zero |
/// | 4-7 | bytes of the body |
/// | 8-23 | topic id, the more significant half first |
/// | 24-27 | partition |
/// | 28-31 | zero |
/// | 32-39 | creation epoch |
///
/// Bodies, where a *member* is broker (4), zero (4), epoch (8), and a *tail* is index (8), term
/// (4), frame checksum (4):
///
/// | kind | body |
/// |---|---|
/// | 1 entries | the 48-byte frames; the payloads follow the round's record heads, in the same order |
/// | 2 hard state | term (4), 1 when there is a vote (4), the member voted for or zeros (16) |
/// | 3 commit | index (8) |
/// | 4 membership | index (8), numbers of voters, outgoing voters, learners (2 each), zero (2), the members |
/// | 5 reset | tail |
/// | 6 trusted | tail |
/// | 7 removed | nothing |
/// | 8 group state | flags (8): 1 hard state, 2 tail, 4 membership present, 8 suspect, 16 hard state lost; commit index (8); hard state (24); tail (16); membership if present |
/// | 9 entry elsewhere | reserved: an entry that lies synced in file F at P; refused by this version |
///
/// All kinds but entries and commit stand in the round's echo too.
enum JournalRecordKind: UInt8 {
    case entries = 1
    case hardState = 2
    case commit = 3
    case membership = 4
    case reset = 5
    case trusted = 6
    case removed = 7
    case groupState = 8

    static let headByteCount = 40
    static let hardStateByteCount = 24
    static let tailByteCount = 16
    static let memberByteCount = 16

    /// Whether the round's echo repeats records of this kind: what no peer can give back.
    var isEchoed: Bool {
        self != .entries && self != .commit
    }
}

/// A record as it was read; entries are still without their payloads.
struct JournalDecodedRecord {
    enum Content {
        case entries([Frame])
        case record(JournalRecord)
        case groupState(JournalGroupState)
    }

    var group: GroupID
    var content: Content
}

extension ByteBuffer {
    mutating func writeRecordHead(_ kind: JournalRecordKind, group: GroupID) {
        writeInteger(kind.rawValue)
        writeRepeatingByte(0, count: 7)
        writeInteger(group.partition.topic.high, endianness: .little)
        writeInteger(group.partition.topic.low, endianness: .little)
        writeInteger(group.partition.partition, endianness: .little)
        writeInteger(0, as: UInt32.self)
        writeInteger(group.epoch.rawValue, endianness: .little)
    }

    mutating func writeHardState(_ state: HardState?) {
        writeInteger(state?.term.rawValue ?? 0, endianness: .little)
        let vote = state?.votedFor
        writeInteger(vote == nil ? 0 : 1, endianness: .little, as: UInt32.self)
        writeMember(vote ?? GroupMember(broker: BrokerID(0), epoch: CreationEpoch(0)))
    }

    mutating func writeTail(_ tail: LogTail?) {
        writeInteger(tail?.index.rawValue ?? 0, endianness: .little)
        writeInteger(tail?.position.term.rawValue ?? 0, endianness: .little)
        writeInteger(tail?.checksum ?? 0, endianness: .little)
    }

    mutating func writeMembership(_ indexed: IndexedMembership) {
        let lists = [
            indexed.membership.voters, indexed.membership.outgoingVoters,
            indexed.membership.learners,
        ]
        writeInteger(indexed.index.rawValue, endianness: .little)
        for list in lists {
            writeInteger(UInt16(list.count), endianness: .little)
        }
        writeInteger(0, as: UInt16.self)
        for member in lists.joined() {
            writeMember(member)
        }
    }

    mutating func writeGroupState(_ state: JournalGroupState) {
        var flags: UInt64 = 0
        flags |= state.hardState == nil ? 0 : 1
        flags |= state.tail == nil ? 0 : 2
        flags |= state.membership == nil ? 0 : 4
        flags |= state.isSuspect ? 8 : 0
        flags |= state.isHardStateLost ? 16 : 0
        writeInteger(flags, endianness: .little)
        writeInteger(state.commitIndex.rawValue, endianness: .little)
        writeHardState(state.hardState)
        writeTail(state.tail)
        if let membership = state.membership {
            writeMembership(membership)
        }
    }

    private mutating func writeMember(_ member: GroupMember) {
        writeInteger(member.broker.rawValue, endianness: .little)
        writeInteger(0, as: UInt32.self)
        writeInteger(member.epoch.rawValue, endianness: .little)
    }
}

/// Reads the records of a round, or of an echo, whose checksum holds.
///
/// What does not make sense below a good checksum was written by another version, so it is refused
/// and not skipped.
struct JournalRecordReader {
    private var bytes: ByteBuffer
    private let file: String

    /// Reads `bytes`: records one after the other.
    init(_ bytes: ByteBuffer, file: String) {
        self.bytes = bytes
        self.file = file
    }

    /// All records, in order.
    ///
    /// - Throws: `.unsupportedRecordKind`.
    mutating func readAll() throws(StorageError) -> [JournalDecodedRecord] {
        var records: [JournalDecodedRecord] = []
        while bytes.readableBytes > 0 {
            records.append(try readRecord())
        }
        return records
    }

    private mutating func readRecord() throws(StorageError) -> JournalDecodedRecord {
        let start = bytes.readerIndex
        guard bytes.readableBytes >= JournalRecordKind.headByteCount else {
            throw .unsupportedRecordKind(file: file, kind: 0)
        }
        let rawKind = Int(UInt8(truncatingIfNeeded: bytes.journalNumber(at: start)))
        let group = GroupID(
            partition: TopicPartition(
                topic: TopicID(
                    high: bytes.journalWord(at: start + 8),
                    low: bytes.journalWord(at: start + 16)
                ),
                partition: Int32(bitPattern: bytes.journalNumber(at: start + 24))
            ),
            epoch: CreationEpoch(bytes.journalWord(at: start + 32))
        )
        let bodyByteCount = Int(bytes.journalNumber(at: start + 4))
        bytes.moveReaderIndex(forwardBy: JournalRecordKind.headByteCount)
        guard
            let kind = JournalRecordKind(rawValue: UInt8(rawKind)),
            let body = bytes.readSlice(length: bodyByteCount),
            let content = try content(of: kind, body)
        else {
            throw .unsupportedRecordKind(file: file, kind: rawKind)
        }
        return JournalDecodedRecord(group: group, content: content)
    }

    private func content(
        of kind: JournalRecordKind,
        _ body: ByteBuffer
    ) throws(StorageError) -> JournalDecodedRecord.Content? {
        let start = body.readerIndex
        switch kind {
        case .entries:
            return .entries(try frames(in: body))
        case .hardState where body.readableBytes == JournalRecordKind.hardStateByteCount:
            return .record(.hardState(hardState(in: body, at: start)))
        case .commit where body.readableBytes == 8:
            return .record(.commit(LogIndex(body.journalWord(at: start))))
        case .membership:
            return membership(in: body, at: start).map { .record(.membership($0)) }
        case .reset where body.readableBytes == JournalRecordKind.tailByteCount:
            let tail = tail(in: body, at: start)
            return .record(.reset(tail.position, checksum: tail.checksum))
        case .trusted where body.readableBytes == JournalRecordKind.tailByteCount:
            let tail = tail(in: body, at: start)
            return .record(.trusted(tail.position, checksum: tail.checksum))
        case .removed where body.readableBytes == 0:
            return .record(.remove)
        case .groupState:
            return groupState(in: body, at: start).map { .groupState($0) }
        case .hardState, .commit, .reset, .trusted, .removed:
            return nil
        }
    }

    private func frames(in body: ByteBuffer) throws(StorageError) -> [Frame] {
        var body = body
        var frames: [Frame] = []
        frames.reserveCapacity(body.readableBytes / Frame.byteCount)
        while body.readableBytes > 0 {
            do {
                frames.append(try Frame(parsing: body.readableBytesSpan))
            } catch {
                throw .unsupportedRecordKind(
                    file: file,
                    kind: Int(JournalRecordKind.entries.rawValue)
                )
            }
            body.moveReaderIndex(forwardBy: Frame.byteCount)
        }
        return frames
    }

    private func hardState(in body: ByteBuffer, at index: Int) -> HardState {
        HardState(
            term: Term(body.journalNumber(at: index)),
            votedFor: body.journalNumber(at: index + 4) == 0 ? nil : member(in: body, at: index + 8)
        )
    }

    private func tail(in body: ByteBuffer, at index: Int) -> LogTail {
        LogTail(
            position: LogPosition(
                term: Term(body.journalNumber(at: index + 8)),
                index: LogIndex(body.journalWord(at: index))
            ),
            checksum: body.journalNumber(at: index + 12)
        )
    }

    private func member(in body: ByteBuffer, at index: Int) -> GroupMember {
        GroupMember(
            broker: BrokerID(Int32(bitPattern: body.journalNumber(at: index))),
            epoch: CreationEpoch(body.journalWord(at: index + 8))
        )
    }

    private func membership(in body: ByteBuffer, at index: Int) -> IndexedMembership? {
        guard body.writerIndex - index >= 16 else {
            return nil
        }
        var counts: [Int] = []
        for place in 0..<3 {
            counts.append(Int(body.journalHalf(at: index + 8 + 2 * place)))
        }
        let memberCount = counts.reduce(0, +)
        guard body.writerIndex - index == 16 + memberCount * JournalRecordKind.memberByteCount
        else {
            return nil
        }
        var members: [GroupMember] = []
        for place in 0..<memberCount {
            members.append(
                member(in: body, at: index + 16 + place * JournalRecordKind.memberByteCount)
            )
        }
        let membership = Membership(
            voters: Array(members[..<counts[0]]),
            outgoingVoters: Array(members[counts[0]..<counts[0] + counts[1]]),
            learners: Array(members[(counts[0] + counts[1])...])
        )
        return IndexedMembership(
            index: LogIndex(body.journalWord(at: index)),
            membership: membership
        )
    }

    private func groupState(in body: ByteBuffer, at index: Int) -> JournalGroupState? {
        let fixedByteCount =
            16 + JournalRecordKind.hardStateByteCount + JournalRecordKind.tailByteCount
        guard body.readableBytes >= fixedByteCount else {
            return nil
        }
        let flags = body.journalWord(at: index)
        var state = JournalGroupState()
        state.commitIndex = LogIndex(body.journalWord(at: index + 8))
        state.hardState = flags & 1 == 0 ? nil : hardState(in: body, at: index + 16)
        state.tail = flags & 2 == 0 ? nil : tail(in: body, at: index + 40)
        state.isSuspect = flags & 8 != 0
        state.isHardStateLost = flags & 16 != 0
        guard flags & 4 != 0 else {
            return body.readableBytes == fixedByteCount ? state : nil
        }
        state.membership = membership(in: body, at: index + fixedByteCount)
        return state.membership == nil ? nil : state
    }
}
