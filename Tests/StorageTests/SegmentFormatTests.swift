import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import Testing

@testable import FlotillaStorage

import struct NIOCore.ByteBuffer

@Suite("The files of a segment")
struct SegmentFormatTests {
    private let partition = TopicPartition(topic: TopicID(high: 1, low: 2), partition: 3)

    private var state: LogState {
        var state = LogState.initial
        state.mark = LogMark(
            index: LogIndex(7),
            term: Term(2),
            checksum: 0xABCD_EF01,
            endOffset: Offset(12),
            appendTime: Timestamp(99)
        )
        state.logStartOffset = Offset(4)
        state.segment = SegmentName(baseOffset: Offset(3), firstIndex: LogIndex(2))
        state.extent = SegmentExtent(
            entryCount: 6,
            logByteCount: 700,
            controlByteCount: 11,
            runningMaximum: Timestamp(55),
            firstAppendTime: Timestamp(44)
        )
        let member = GroupMember(broker: BrokerID(5), epoch: CreationEpoch(6))
        let learner = GroupMember(broker: BrokerID(6), epoch: CreationEpoch(1))
        state.membership = IndexedMembership(
            index: LogIndex(2),
            membership: Membership(voters: [member], outgoingVoters: [member], learners: [learner])
        )
        state.terms = TermTable(rows: [
            TermTable.Row(term: Term(1), firstIndex: LogIndex(1), firstOffset: .zero),
            TermTable.Row(term: Term(2), firstIndex: LogIndex(4), firstOffset: Offset(9)),
        ])
        state.stateMachine = ByteBuffer(string: "producers")
        return state
    }

    @Test("are named by base offset and first index, and the names sort as the log does")
    func names() throws {
        let name = SegmentName(baseOffset: Offset(42), firstIndex: LogIndex(7))
        #expect(name.fileName(.frames) == "00000000000000000042-00000000000000000007.frames")
        #expect(SegmentName(name.description) == name)
        let later = SegmentName(baseOffset: Offset(42), firstIndex: LogIndex(10))
        #expect(name < later && name.description < later.description)
        let bad = [
            "", "42-7", "00000000000000000042", "00000000000000000042-0000000000000000000x",
            "-0000000000000000042-00000000000000000007",
            "00000000000000000042-00000000000000000000",
            "00000000000000000042-00000000000000000007-",
        ]
        #expect(bad.allSatisfy { SegmentName($0) == nil })
        #expect(SegmentFileName("\(name).log")?.kind == .log)
        #expect(SegmentFileName("\(name).index") == nil && SegmentFileName("\(name)") == nil)
        #expect(SegmentFileName("\(name).state.new") == nil)
    }

    @Test("a state comes back as it was, and is the same bytes each time")
    func stateRoundTrip() throws {
        let bytes = state.bytes(of: partition)
        #expect(try LogState(parsing: bytes, partition: partition) == state)
        #expect(state.bytes(of: partition) == bytes)
        #expect(
            try LogState(parsing: LogState.initial.bytes(of: partition), partition: partition)
                == .initial
        )
    }

    @Test(
        "a state with any byte changed, or cut anywhere, is damaged; one of another partition is foreign"
    )
    func damagedState() throws {
        let bytes = state.bytes(of: partition)
        for position in 0..<bytes.readableBytes {
            for mask: UInt8 in [0x01, 0x80, 0xFF] {
                var changed = bytes
                changed.setInteger(
                    try #require(bytes.getInteger(at: position, as: UInt8.self)) ^ mask,
                    at: position
                )
                #expect(throws: LogState.Problem.damaged) {
                    try LogState(parsing: changed, partition: partition)
                }
            }
            let cut = try #require(bytes.getSlice(at: 0, length: position))
            #expect(throws: LogState.Problem.damaged) {
                try LogState(parsing: cut, partition: partition)
            }
        }
        let other = TopicPartition(topic: partition.topic, partition: 4)
        #expect(throws: LogState.Problem.foreign) { try LogState(parsing: bytes, partition: other) }
    }

    @Test(
        "a header and a row come back as they were; with any byte changed they do not, or fail the frame's checksum"
    )
    func rows() throws {
        let header = FrameTableHeader(
            partition: partition,
            name: SegmentName(baseOffset: Offset(42), firstIndex: LogIndex(7)),
            previousChecksum: 17
        )
        #expect(header.bytes.readableBytes == FrameTableHeader.byteCount)
        #expect(try FrameTableHeader(parsing: header.bytes) == header)
        for position in 0..<FrameTableHeader.byteCount {
            var changed = header.bytes
            changed.setInteger(
                try #require(changed.getInteger(at: position, as: UInt8.self)) ^ 4,
                at: position
            )
            #expect(throws: FrameTableHeader.Problem.self) {
                try FrameTableHeader(parsing: changed)
            }
        }
        var maker = EntryMaker()
        let entry = maker.data(recordCount: 3)
        let row = FrameRow(frame: entry.frame, runningMaximum: Timestamp(5), position: 99)
        var bytes = ByteBuffer()
        row.write(into: &bytes)
        #expect(bytes.readableBytes == FrameRow.byteCount)
        #expect(try FrameRow(parsing: bytes.readableBytesSpan) == row)
        for position in 0..<FrameRow.byteCount {
            var changed = bytes
            changed.setInteger(
                try #require(bytes.getInteger(at: position, as: UInt8.self)) ^ 4,
                at: position
            )
            let isSound = (try? FrameRow(parsing: changed.readableBytesSpan)).map { found in
                (try? found.frame.verify(covering: entry.head.readableBytesSpan)) != nil
            }
            #expect(isSound != true)
        }
    }

    @Test("a membership's bytes come back; cut, padded, unsorted or oversized ones do not")
    func memberships() throws {
        let payload = state.membership.membership.payload
        #expect(Membership(payload: payload) == state.membership.membership)
        for length in 0..<payload.readableBytes {
            #expect(
                Membership(payload: try #require(payload.getSlice(at: 0, length: length))) == nil
            )
        }
        var padded = payload
        padded.writeInteger(UInt8(0))
        #expect(Membership(payload: padded) == nil)
        var oversized = ByteBuffer()
        oversized.writeInteger(UInt32(Membership.maximumListCount + 1), endianness: .little)
        oversized.writeRepeatingByte(0, count: 100_000)
        #expect(Membership(payload: oversized) == nil)
        var twice = ByteBuffer()
        twice.writeInteger(UInt32(2), endianness: .little)
        twice.writeRepeatingByte(0, count: 24 + 8)
        #expect(Membership(payload: twice) == nil)
    }

    @Test("terms: a state keeps the newest, and lookups need no order of calls")
    func terms() {
        var table = TermTable()
        for number in 1...(TermTable.maximumStoredRowCount + 3) {
            table.note(
                Term(UInt32(number)),
                at: LogIndex(UInt64(number * 2)),
                offset: Offset(Int64(number))
            )
        }
        #expect(table.capped.rows.count == TermTable.maximumStoredRowCount)
        #expect(table.capped.rows.first?.term == Term(4))
        #expect(table.term(at: LogIndex(1)) == nil)
        #expect(table.term(at: LogIndex(2)) == Term(1) && table.term(at: LogIndex(3)) == Term(1))
        #expect(table.prefix(below: LogIndex(4)).rows.count == 1)
        table.truncate(from: LogIndex(5))
        #expect(table.rows.map(\.term) == [Term(1), Term(2)])
    }
}
